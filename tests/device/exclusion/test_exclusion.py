"""One image by all the paths to its bytes: whoever comes second is refused.

Each *way* is a path to some of the bytes of one file: links, loop devices, a second
node of one, partitions.  By each pair of them in both orders, writers exclude
everybody and readers share.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from lfs.device.exclusion import identity
from lfs.device.exclusion.identity import END, places_of
from lfs.device.exclusion.mount_table import mount_of, parse_table
from lfs.device.file import FileDevice
from tests.device.loops import loop_device, partition, run, second_node
from tests.support.patience import HANG_SECONDS

_MIB = 1 << 20
_IMAGE_BYTES = 16 * _MIB
_WAYS = (
    "file",
    "symlink",
    "hard link",
    "loop",
    "second node",
    "other loop",
    "overlapping loop",
    "loop over loop",
    "partitioned loop",
    "partition",
)
_PAIRS = list(itertools.permutations(_WAYS, 2))


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Return a path for each way to the first half of one file."""
    folder = tmp_path_factory.mktemp("exclusion")
    image = folder / "file.img"
    image.write_bytes(bytes(_IMAGE_BYTES))
    (folder / "symlink").symlink_to(image)
    os.link(image, folder / "hard link")
    with ExitStack() as stack:
        enter = stack.enter_context
        loop = enter(loop_device(image))
        partitioned = enter(loop_device(image, "--partscan"))
        yield {
            "file": image,
            "symlink": folder / "symlink",
            "hard link": folder / "hard link",
            "loop": loop,
            "second node": enter(second_node(loop, folder / "node")),
            "other loop": enter(loop_device(image)),
            "overlapping loop": enter(
                loop_device(image, "--offset", str(_MIB), "--sizelimit", str(_MIB))
            ),
            "loop over loop": enter(loop_device(loop)),
            "partitioned loop": partitioned,
            "partition": enter(partition(partitioned, 1, _MIB, 2 * _MIB)),
        }


_whole_open = os.open


def _open_without_claims(path: str | Path, flags: int, mode: int = 0o777) -> int:
    """Open as a user may who has no right to any device."""
    if str(path).startswith("/dev/loop"):
        raise PermissionError(errno.EACCES, "Permission denied")
    return _whole_open(path, flags, mode)


def refusal(path: Path, read_only: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        FileDevice(path, read_only)
    return str(caught.value)


@pytest.mark.parametrize(("first", "second"), _PAIRS)
def test_writer_excludes_all_others(ways: dict[str, Path], first: str, second: str) -> None:
    with closing(FileDevice(ways[first])):
        expected = f"{ways[second]} is in use by process {os.getpid()} (this one)"
        assert refusal(ways[second]) == expected
        assert refusal(ways[second], read_only=True) == expected
    FileDevice(ways[second]).close()


@pytest.mark.parametrize(("first", "second"), _PAIRS)
def test_readers_share_and_exclude_writers(ways: dict[str, Path], first: str, second: str) -> None:
    with closing(FileDevice(ways[first], read_only=True)):
        FileDevice(ways[second], read_only=True).close()
        assert " is in use by process " in refusal(ways[second])


@pytest.mark.parametrize("second", _WAYS)
@pytest.mark.parametrize("claimed", ["loop", "other loop", "partition", "partitioned loop"])
def test_claim_of_the_system_excludes_writers_by_every_way(
    ways: dict[str, Path], claimed: str, second: str
) -> None:
    claim = os.open(ways[claimed], os.O_RDONLY | os.O_EXCL)
    try:
        assert refusal(ways[second]) == f"{ways[second]} is in use by the system (mounted?)"
    finally:
        os.close(claim)
    FileDevice(ways[second]).close()


def test_parts_that_share_no_byte_are_free(ways: dict[str, Path]) -> None:
    with ExitStack() as stack:
        rest = stack.enter_context(loop_device(ways["file"], "--offset", str(8 * _MIB)))
        other = stack.enter_context(partition(ways["partitioned loop"], 2, 4 * _MIB, _MIB))
        for path in (rest, other, ways["overlapping loop"]):
            stack.enter_context(closing(FileDevice(path)))
        for way in ("file", "loop", "partitioned loop", "partition"):
            assert " is in use by " in refusal(ways[way])


@pytest.mark.parametrize("may_try", [True, False])
def test_mounted_loop_device_is_named_with_its_place(
    ways: dict[str, Path], tmp_path: Path, may_try: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("mkfs.ext4", "-q", ways["loop"])
    place = tmp_path / "mnt"
    place.mkdir()
    run("mount", "-t", "ext4", ways["loop"], place)
    try:
        if not may_try:
            monkeypatch.setattr(os, "open", _open_without_claims)
        for way in ("file", "hard link", "loop", "other loop") if may_try else ("file",):
            expected = f"{ways[way]} is in use by the system (mounted?), mounted on {place}"
            assert refusal(ways[way]) == expected
    finally:
        subprocess.run(["umount", place], check=True, timeout=HANG_SECONDS)


def test_loop_over_a_file_without_name_is_still_one_writers(tmp_path: Path) -> None:
    """What can't be opened to be locked is told by the lists of locks and by claims."""
    image = tmp_path / "gone.img"
    image.write_bytes(bytes(_MIB))
    with loop_device(image) as loop, loop_device(image) as other:
        with closing(FileDevice(image)):
            image.unlink()
            assert f"process {os.getpid()} (this one)" in refusal(loop)
        with closing(FileDevice(loop)):
            assert f"process {os.getpid()} (this one)" in refusal(loop)
            assert refusal(other).startswith(f"{other} is in use by ")
        FileDevice(other).close()


def test_file_that_took_the_place_of_the_one_behind_a_loop_device_is_free(
    tmp_path: Path,
) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(_MIB))
    with loop_device(image) as loop:
        image.rename(tmp_path / "moved")
        image.write_bytes(bytes(_MIB))
        with closing(FileDevice(loop)):
            FileDevice(image).close()
            assert " is in use by " in refusal(tmp_path / "moved")


def test_places_of_a_device_made_of_others_are_told_but_not_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sysfs shows a mapped device over a partition and over a disk."""
    block, numbers = tmp_path / "block", tmp_path / "dev/block"
    numbers.mkdir(parents=True)
    for name, number in (("dm-0", "253:0"), ("sda", "8:0"), ("sda/sda1", "8:1"), ("sdb", "8:16")):
        (block / name).mkdir(parents=True)
        (block / name / "dev").write_text(f"{number}\n")
        (numbers / number).symlink_to(block / name)
    (block / "sda/sda1/partition").write_text("1\n")
    (block / "sda/sda1/start").write_text("2048\n")
    (block / "sda/sda1/size").write_text("4096\n")
    (block / "dm-0/slaves").mkdir()
    (block / "dm-0/slaves/sda1").symlink_to(block / "sda/sda1")
    (block / "dm-0/slaves/sdb").symlink_to(block / "sdb")
    monkeypatch.setattr(identity, "SYS", tmp_path)
    found = list(identity._disk_places(os.makedev(253, 0), 0, END, True, lambda _: True))
    assert [(os.major(p.device), os.minor(p.device), p.start, p.end, p.exact) for p in found] == [
        (253, 0, 0, END, True),
        (8, 1, 0, END, False),
        (8, 0, _MIB, 3 * _MIB, False),
        (8, 16, 0, END, False),
    ]


def test_places_of_a_file_are_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    (place,) = places_of(path.stat(), str(path))
    assert place.is_of(path.stat())
    assert not place.is_of(tmp_path.stat())
    assert (place.start, place.end, place.exact, place.is_disk) == (0, END, True, False)


def test_mount_of_a_path_is_found_by_text() -> None:
    table = parse_table(
        b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        b"2 1 0:50 / /mnt rw - fuse.x x rw\n"
        b"3 2 8:2 / /mnt/in rw - ext4 /dev/sda2 rw\n"
        b"4 1 0:51 / /over rw - nfs4 host:/ rw\n"
        b"5 4 8:3 / /over rw - xfs /dev/sda3 rw\n"
    )
    for path, number, hangs in (
        ("/a", "8:1", False),
        ("/mnt", "0:50", True),
        ("/mnt/b", "0:50", True),
        ("/mnt/in/b", "8:2", False),
        ("/mntx", "8:1", False),
        ("/over/b", "8:3", False),
    ):
        entry = mount_of(path, table)
        assert entry is not None
        assert (entry.device_number, entry.may_hang) == (number, hangs), path
    assert mount_of("relative", table) is None
