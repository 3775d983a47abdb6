"""The ceiling does nothing, but must do that rightly and be asked what lfs is asked."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.ceiling import SLOT_BYTES, Content
from bench.systems.base import System
from bench.systems.ours import Ceiling, Lfs

EDGES = [0, 1, 4096, SLOT_BYTES - 1, SLOT_BYTES, SLOT_BYTES + 1, 2 * SLOT_BYTES]
places = st.one_of(st.sampled_from(EDGES), st.integers(0, 3 * SLOT_BYTES))
steps = st.lists(st.tuples(st.sampled_from(["write", "resize"]), places, places), max_size=4)


@given(steps)
def test_content_reads_back_as_a_bytearray_does(steps: list[tuple[str, int, int]]) -> None:
    content, model = Content(), bytearray()
    for number, (step, offset, length) in enumerate(steps, 1):
        if step == "write" and length:
            data = bytes([number]) * min(length, SLOT_BYTES)
            content.write(offset, data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + len(data)] = data
        elif step == "resize":
            content.resize(offset)
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        assert content.size == len(model)
        for start in (0, max(0, offset - 10), SLOT_BYTES - 5):
            read = content.read(start, SLOT_BYTES + 100)
            assert read == bytes(model[start : start + SLOT_BYTES + 100])


class LoggingCeiling(Ceiling):
    def mount(self) -> None:
        self.run_daemon([sys.executable, "-m", "bench.ceiling", self.place, "debug"])


class LoggingLfs(Lfs):
    mount_options = "debug"


@pytest.fixture
def ceiling(tmp_path: Path) -> Iterator[System]:
    system = LoggingCeiling(tmp_path, 0)
    system.start()
    yield system
    system.stop()


def work(place: Path) -> None:
    folder = place / "folder"
    folder.mkdir()
    for number in range(3):
        file = folder / str(number)
        file.write_bytes(b"content")
        file.read_bytes()
        file.write_bytes(b"other")
        file.rename(folder / f"{number} renamed")
    os.listdir(folder)
    for _ in range(2):
        (place / "missing").exists()
    with (place / "log").open("wb", buffering=0) as log:
        for _ in range(3):
            log.write(bytes(4096))
            os.fsync(log)
    os.truncate(place / "log", 100)
    (place / "link").symlink_to("log")
    (place / "link").read_bytes()
    (place / "log").chmod(0o600)
    subprocess.run(["cp", "-r", folder, place / "copy"], check=True)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def requests(system: System) -> Counter[str]:
    """Return what the kernel asked by kind.

    When it forgets is its own affair, and any program that looks at all mounts, as
    ``df`` does, asks something about the root.
    """
    text = system.image.with_suffix(".log").read_text()
    found = re.findall(r"opcode: (\w+) \(\d+\), nodeid: (\d+)", text)
    return Counter(
        kind
        for kind, inode in found
        if "FORGET" not in kind and not (inode == "1" and kind in ("GETATTR", "GETXATTR", "STATFS"))
    )


@pytest.mark.fuse
def test_ceiling_is_asked_what_lfs_is_asked(ceiling: System, tmp_path: Path) -> None:
    lfs = LoggingLfs(tmp_path, 64 << 20)
    try:
        lfs.start()
        for system in (ceiling, lfs):
            work(system.place)
            system.unmount()
    finally:
        lfs.stop()
    assert requests(lfs)["WRITE"] >= 9
    assert requests(ceiling) == requests(lfs)


@pytest.mark.fuse
def test_ceiling_has_no_attributes_and_applies_the_umask(ceiling: System) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="No data") as caught:
            os.getxattr(ceiling.place, "user.none")
        # After one ENOSYS the kernel would say EOPNOTSUPP and never ask again.
        assert caught.value.errno == errno.ENODATA
    umask = os.umask(0o027)
    try:
        (ceiling.place / "file").write_bytes(b"")
    finally:
        os.umask(umask)
    assert (ceiling.place / "file").stat().st_mode & 0o777 == 0o640
