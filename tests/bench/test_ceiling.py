"""The ceiling does nothing, but must do that rightly and be asked what lfs is asked."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyfuse3
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bench.ceilings import lean
from bench.ceilings.ceiling import SLOT_BYTES, Content
from bench.systems.base import System
from bench.systems.ours import Ceiling, LeanCeiling, Lfs

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
    mount_options = "debug"


class LoggingLeanCeiling(LeanCeiling):
    mount_options = "debug"


class LoggingLfs(Lfs):
    mount_options = "debug"


@pytest.fixture(params=[LoggingCeiling, LoggingLeanCeiling])
def ceiling(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    system: System = request.param(tmp_path, 0)
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
def test_ceiling_keeps_names_and_contents(ceiling: System) -> None:
    folder, file = ceiling.place / "folder", ceiling.place / "file"
    folder.mkdir()
    content = os.urandom(3 * SLOT_BYTES + 5)
    file.write_bytes(content)
    with file.open("r+b", buffering=0) as changed:
        changed.write(b"new")
        changed.seek(7)
        changed.write(b"other")
    file.rename(folder / "renamed")
    with pytest.raises(OSError, match="not empty"):
        folder.rmdir()
    ceiling.remount()
    assert (folder / "renamed").read_bytes() == b"new" + content[3:7] + b"other" + content[12:]
    assert [*folder.iterdir()] == [folder / "renamed"]
    (folder / "renamed").unlink()
    folder.rmdir()
    assert not [*ceiling.place.iterdir()]


@pytest.mark.fuse
def test_ceiling_has_no_attributes_and_keeps_modes_if_it_is_not_lean(ceiling: System) -> None:
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
    mode = (ceiling.place / "file").stat().st_mode & 0o777
    assert mode == (0o644 if isinstance(ceiling, LeanCeiling) else 0o640)


@pytest.mark.fuse
def test_lean_ceiling_makes_its_attributes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = lean.LeanCeiling()
    monkeypatch.setattr(pyfuse3, "EntryAttributes", None)
    monkeypatch.setattr(pyfuse3, "FileInfo", None)
    context = cast("pyfuse3.RequestContext", None)

    async def make_and_find() -> set[int]:
        root, replies = pyfuse3.ROOT_INODE, []
        for number in range(3):
            name = b"%d" % number
            _, made = await operations.create(root, name, 0o600, 0, context)
            replies += [made, await operations.lookup(root, name, context)]
            replies += [await operations.getattr(made.st_ino, context)]
            assert made.st_ino == replies[-1].st_ino == 4 * (number + 1) + 2
        return set(map(id, replies))

    assert len(trio.run(make_and_find)) == 1
