"""Sizes as people write them."""

from __future__ import annotations

import pytest

from lfs.common.sizes import format_size, parse_size
from lfs.device.fault.plan.units import read_size_bytes
from mkfs.main import main as mkfs

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZES = {
    "0": 0,
    "4096": 4096,
    "4096B": 4096,
    "1k": KIB,
    "512K": 512 * KIB,
    "64M": 64 * MIB,
    "10G": 10 * GIB,
    "1T": 1 << 40,
    "2P": 2 << 50,
    "1KiB": KIB,
    "1GiB": GIB,
    "1gib": GIB,
    "1KB": 1000,
    "10GB": 10**10,
    "1.5G": 3 * GIB // 2,
    "1.5GiB": 3 * GIB // 2,
    "1.5GB": 1_500_000_000,
    ".5M": MIB // 2,
    "2.M": 2 * MIB,
    "0.001KB": 1,
    "1.0": 1,
}
REFUSED = ["", ".", "K", ".K", "-1", "+1", "1X", "1KK", "1iB", "0x10", "1e3", "१", "1 K", "1,5G"]


@pytest.mark.parametrize(("text", "size_bytes"), SIZES.items())
def test_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
    assert read_size_bytes(text) == size_bytes


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        parse_size(text)
    with pytest.raises(ValueError, match="a size such as"):
        read_size_bytes(text)


@pytest.mark.parametrize("text", ["1.5", "0.3K", "1.0001KB", "0.1KiB"])
def test_fractions_of_a_byte_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number of bytes"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1.5", "8E", "-1", "4 G"])
def test_wrong_sizes_are_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        mkfs(["--", "a.img", text])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mkfs.lfs: argument SIZE: {text!r} is ")
    assert error.count("\n") == 1


def test_size_is_written_exactly() -> None:
    assert [format_size(size) for size in (0, 1000, KIB, 1536, 8 * MIB, 1 << 44)] == [
        "0 bytes",
        "1000 bytes",
        "1 KiB",
        "1536 bytes",
        "8 MiB",
        "16 TiB",
    ]
