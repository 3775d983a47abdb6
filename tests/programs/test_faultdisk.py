"""Faulty disks under programs of others: what ``faultdisk`` reports is what they suffer.

ext4 through the FUSE door and a loop device; qemu-img, nbdinfo and nbdcopy
through the NBD door.  Ranges of plans are those of known files, so that a fault
hits or not by construction and not by luck.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faultdisk.daemons import ServedDisk, faultdisk
from tests.programs.support.faulty import (
    BLOCK_BYTES,
    IMAGE_BYTES,
    Appender,
    FaultyExt4,
    check_ext4,
    whole_records,
)
from tests.programs.support.mounting import Need, run

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.needs("loop"),
]

FILE_BYTES = 1 << 20


@pytest.fixture
def ext4(need: Need, tmp_path: Path) -> Iterator[FaultyExt4]:
    need("mkfs.ext4", "e2fsck", "dumpe2fs", "filefrag", "losetup")
    one = FaultyExt4(tmp_path, "--seed", "1", "--log", tmp_path / "writes.log")
    yield one
    one.close()


def _write(path: Path, content: bytes) -> None:
    """Write a file over itself, durably; raises OSError."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make the names in a directory durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_from_disk(path: Path) -> bytes:
    """Return a file's content as the disk has it, whatever the kernel remembers."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _fio(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run fio in a directory with a file of ``FILE_BYTES`` that checks itself."""
    common = ["--name=job", "--filename=job", f"--size={4 * FILE_BYTES}", "--bs=4k"]
    verify = ["--verify=crc32c", "--verify_fatal=1", "--randseed=1"]
    return subprocess.run(
        ["fio", *common, *verify, "--ioengine=libaio", *options],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


# ------------------------------------------------------------------------------- ext4


@pytest.mark.parametrize("direct", ["--direct=1", "--direct=0"])
def test_ext4_on_a_good_disk_verifies(ext4: FaultyExt4, need: Need, direct: str) -> None:
    need("fio")
    done = _fio(ext4.place, "--rw=randwrite", "--iodepth=16", "--end_fsync=1", direct)
    assert done.returncode == 0, done.stderr + done.stdout
    ext4.unmount()
    operations = ext4.served.ask("stats")["operations"]
    assert operations["write"]["bytes"] >= 4 * FILE_BYTES
    assert operations["flush"]["count"]
    assert ext4.served.fault_kinds() == set()
    ext4.served.stop()
    assert check_ext4(ext4.image, repair=False) == 0


def test_ext4_corrupted_reads_are_seen_by_fio_and_reported(ext4: FaultyExt4, need: Need) -> None:
    need("fio")
    assert _fio(ext4.place, "--rw=write", "--do_verify=0", "--end_fsync=1").returncode == 0
    reading = ("--rw=read", "--direct=1", "--verify_only")
    assert _fio(ext4.place, *reading).returncode == 0
    ext4.served.plan(f"corrupt 100% on read {ext4.extents(ext4.place / 'job')}")
    done = _fio(ext4.place, *reading)
    assert done.returncode != 0
    assert "verify" in done.stderr
    assert ext4.served.fault_kinds() == {"corrupt"}
    # It was the way back that was bad, not the disk.
    ext4.served.plan("")
    assert _fio(ext4.place, *reading).returncode == 0


def test_ext4_lost_writes_leave_old_content_and_are_reported(ext4: FaultyExt4) -> None:
    file = ext4.place / "file"
    _write(file, b"old." * (FILE_BYTES // 4))
    ext4.served.plan(f"loss 100% {ext4.extents(file)}")
    _write(file, b"new!" * (FILE_BYTES // 4))
    assert _read_from_disk(file) == b"old." * (FILE_BYTES // 4)
    assert ext4.served.fault_kinds() == {"loss"}
    lines = faultdisk("faults", ext4.served.place).splitlines()
    lost = [int(match[1]) for line in lines if (match := re.search(r"write \d+\+(\d+): ack", line))]
    assert sum(lost) == FILE_BYTES


def test_ext4_lost_inodes_are_found_by_e2fsck(ext4: FaultyExt4) -> None:
    groups = run(["dumpe2fs", ext4.image])
    tables = re.findall(r"Inode table at (\d+)-(\d+)", groups)
    ranges = " ".join(
        f"in {int(first) * BLOCK_BYTES}-{(int(last) + 1) * BLOCK_BYTES}" for first, last in tables
    )
    ext4.served.plan(f"loss 100% {ranges}")
    for number in range(20):
        (ext4.place / f"file{number}").write_text("content")
    ext4.unmount()
    assert ext4.served.fault_kinds() == {"loss"}
    ext4.served.stop()
    # The directory names inodes that never reached the disk: 4, errors left uncorrected.
    assert check_ext4(ext4.image, repair=False) & 4


def test_ext4_errors_reach_the_program_and_are_reported(ext4: FaultyExt4) -> None:
    file = ext4.place / "file"
    _write(file, bytes(FILE_BYTES))
    ext4.served.plan(f"error EIO on write {ext4.extents(file)}")
    with pytest.raises(OSError, match="Input/output error") as caught:
        _write(file, b"new!" * (FILE_BYTES // 4))
    assert caught.value.errno == errno.EIO
    ext4.served.plan(f"error EIO on read {ext4.extents(file)}")
    with pytest.raises(OSError, match="Input/output error"):
        _read_from_disk(file)
    assert ext4.served.fault_kinds() == {"error"}
    operations = ext4.served.ask("stats")["operations"]
    assert operations["write"]["errors"]
    assert operations["read"]["errors"]


def test_ext4_gives_up_a_journal_that_cannot_be_written(ext4: FaultyExt4) -> None:
    ext4.served.plan("error EIO on write")
    (ext4.place / "folder").mkdir()
    with pytest.raises(OSError, match=r"Input/output error|Read-only file system"):
        _sync_directory(ext4.place)
    assert ext4.served.fault_kinds() == {"error"}
    # It is given up for good, also when the disk is well again.
    ext4.served.plan("")
    with pytest.raises(OSError, match=r"Input/output error|Read-only file system"):
        (ext4.place / "other").mkdir()


@pytest.mark.parametrize("survival", ["any", "torn"])
def test_ext4_keeps_what_was_acknowledged_before_a_cut(ext4: FaultyExt4, survival: str) -> None:
    ext4.served.plan("seed 7; cache 64M")
    appender = Appender(ext4.place / "records")
    try:
        appender.wait_for(150)
        assert "cached writes arrived" in faultdisk("cut", ext4.served.place, survival)
        assert "Error" in appender.finish()
    finally:
        appender.close()
    run(["umount", "-l", ext4.place])
    ext4.detach()
    faultdisk("restart", ext4.served.place)
    ext4.attach(ext4.served.disk)
    assert check_ext4(ext4.loop, repair=True) in (0, 1)
    ext4.mount()
    assert whole_records(ext4.place / "records") > appender.acknowledged
    ext4.unmount()


def test_ext4_keeps_what_was_acknowledged_before_a_mark_of_the_log(
    ext4: FaultyExt4, tmp_path: Path
) -> None:
    appender = Appender(ext4.place / "records")
    try:
        appender.wait_for(100)
        acknowledged = appender.acknowledged
        faultdisk("mark", ext4.served.place, "a hundred")
        appender.wait_for(150)
    finally:
        appender.close()
    ext4.unmount()
    ext4.served.stop()
    log = tmp_path / "writes.log"
    assert "a hundred" in faultdisk("log", log)
    printed = faultdisk("replay", log, ext4.pristine, "--mark", "a hundred")
    assert re.fullmatch(r".*: \d+ events applied \(flush \d+, mark 1, write \d+\)\n", printed)
    assert check_ext4(ext4.pristine, repair=True) in (0, 1)
    ext4.attach(ext4.pristine)
    ext4.mount()
    assert whole_records(ext4.place / "records") > acknowledged
    ext4.unmount()


# -------------------------------------------------------------------------------- NBD


@pytest.fixture
def nbd(need: Need, tmp_path: Path) -> Iterator[ServedDisk]:
    """An empty disk served on a socket."""
    need("qemu-img", "nbdinfo", "nbdcopy")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    one = ServedDisk(tmp_path / "nbd", image, "--seed", "1", nbd=True)
    yield one
    one.close()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A file of the disk's size, with data and holes."""
    path = tmp_path / "content"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
        for place in range(0, IMAGE_BYTES, 16 << 20):
            file.seek(place)
            file.write(os.urandom(1 << 20))
    return path


def _differ(first: Path, second: Path) -> bool:
    return subprocess.run(["cmp", "-s", first, second], check=False).returncode == 1


def test_qemu_img_converts_in_and_out(nbd: ServedDisk, content: Path, tmp_path: Path) -> None:
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", content, nbd.uri])
    compare: list[str | Path] = ["qemu-img", "compare", "-f", "raw", "-F", "raw", content, nbd.uri]
    assert "identical" in run(compare)
    back = tmp_path / "back.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", nbd.uri, back])
    assert "identical" in run(["qemu-img", "compare", "-F", "raw", back, content])
    assert nbd.fault_kinds() == set()
    # One bit of the first mebibyte is enough.
    nbd.plan("corrupt 100% on read in 0-1M times 1")
    done = subprocess.run(compare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Content mismatch" in done.stdout
    assert nbd.fault_kinds() == {"corrupt"}
    nbd.stop()
    assert not _differ(content, tmp_path / "disk.img")


def test_nbdcopy_copies_in_and_out(nbd: ServedDisk, content: Path, tmp_path: Path) -> None:
    run(["nbdcopy", "--flush", content, nbd.uri])
    back = tmp_path / "back"
    run(["nbdcopy", nbd.uri, back])
    assert not _differ(content, back)
    operations = nbd.ask("stats")["operations"]
    assert operations["write"]["bytes"] >= 8 << 20
    assert operations["flush"]["count"]
    nbd.plan("corrupt 100% on read in 0-1M times 1")
    run(["nbdcopy", nbd.uri, back])
    assert _differ(content, back)
    assert nbd.fault_kinds() == {"corrupt"}


def test_nbdcopy_fails_by_errors(nbd: ServedDisk, content: Path, tmp_path: Path) -> None:
    nbd.plan("error ENOSPC on write in 16M-17M")
    done = subprocess.run(
        ["nbdcopy", content, nbd.uri], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    nbd.plan("error EIO on read in 16M-17M")
    done = subprocess.run(
        ["nbdcopy", nbd.uri, tmp_path / "back"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Input/output error" in done.stderr
    assert nbd.fault_kinds() == {"error"}


def test_nbdinfo_shows_what_the_disk_can(nbd: ServedDisk) -> None:
    assert "newstyle-fixed without TLS" in run(["nbdinfo", nbd.uri])
    [export] = json.loads(run(["nbdinfo", "--json", "--no-content", nbd.uri]))["exports"]
    assert export["export-size"] == IMAGE_BYTES
    assert export["description"] == "disk.img through faultdisk"
    assert [export[f"block_size_{name}"] for name in ("minimum", "preferred", "maximum")] == [
        512,
        4096,
        32 << 20,
    ]
    able = {name.removeprefix("can_") for name, value in export.items() if value is True}
    assert able == {"df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"}
    assert "disk.img through faultdisk" in run(["nbdinfo", "--list", "--no-content", nbd.uri])
