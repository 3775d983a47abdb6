"""Mounts on a faulty disk: ``mount.lfs -o fault=PLAN``."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from fsck.check import check_device
from lfs.cli.main import main as lfs
from lfs.device.file import FileDevice
from lfs.device.memory import MemoryDevice
from lfs.device.write_log import replay_log
from lfs.kernel.mountpoint import find_lfs, unmount
from lfs.kernel.rate_limit import BURST
from lfs.mount.options import OptionError, parse_options
from lfs.mount.session import PANIC_EXIT_CODE
from tests.support.mounting import MountedImage, make_image, run, wait_until
from tests.support.mounts import Mounter
from tests.support.patience import HANG_SECONDS


def synced(path: Path, content: bytes) -> None:
    """Write a file and sync it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def test_options_of_a_faulty_disk() -> None:
    options = parse_options(["fault=loss 1% on write,fault_log=a.log,fault_control=a.sock"])
    fault = options.fault
    assert (fault.plan, fault.log, fault.control) == ("loss 1% on write", "a.log", "a.sock")


@pytest.mark.parametrize("option", ["fault=", "fault_log=", "fault_control="])
def test_options_without_a_value_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match=option):
        parse_options([option])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "fault=loss 1% los 3%",
            "fault plan, line 1, column 9: 'los': unknown word; is loss meant?",
        ),
        ("fault=@/nowhere/plan", "cannot read the plan /nowhere/plan: No such file or directory"),
        ("fault_log=a.log", "fault_log and fault_control need fault=PLAN"),
    ],
)
def test_mount_with_a_bad_plan_is_refused(tmp_path: Path, options: str, message: str) -> None:
    image = make_image(tmp_path / "a.img", "16M")
    done = run("lfs.mount.main", image, tmp_path, "-o", options)
    assert done.returncode == 1
    assert done.stderr == f"mount.lfs: {message}\n"


@pytest.mark.fuse
def test_mount_with_a_log_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.img", "16M")
    options = "fault=delay 1us,fault_log=/nowhere/a.log"
    done = run("lfs.mount.main", image, tmp_path, "-o", options)
    assert done.returncode == 32
    expected = "cannot write the log /nowhere/a.log: No such file or directory"
    assert done.stderr == f"mount.lfs: {expected}\n"


@pytest.mark.fuse
def test_read_error_is_for_that_file_alone(image: Path, mount: Mounter, tmp_path: Path) -> None:
    before = mount(image)
    for name in ("one", "two"):
        synced(before.path / name, name.encode() * 100_000)
    before.stop()
    trigger = tmp_path / "now"
    mounted = mount(image, "-o", f"fault=error EIO on read times 1 while {trigger}")
    assert (mounted.path / "one").stat().st_size == 300_000
    assert (mounted.path / "two").stat().st_size == 300_000
    trigger.touch()
    file = os.open(mounted.path / "one", os.O_RDONLY | os.O_DIRECT)
    with pytest.raises(OSError, match="Input/output error"):
        os.read(file, 4096)
    os.close(file)
    assert (mounted.path / "two").read_bytes() == b"two" * 100_000
    mounted.await_log("fault 1: error, read")
    assert (mounted.path / "one").read_bytes() == b"one" * 100_000
    synced(mounted.path / "three", b"and it goes on")


@pytest.mark.fuse
def test_write_error_is_made_good_elsewhere(image: Path, mount: Mounter, tmp_path: Path) -> None:
    trigger = tmp_path / "now"
    mounted = mount(image, "-o", f"fault=error EIO on write times 2 while {trigger}")
    synced(mounted.path / "before", b"before" * 10_000)
    trigger.touch()
    synced(mounted.path / "during", b"during" * 10_000)
    mounted.await_log("written elsewhere", 2)
    assert mounted.log.count("written elsewhere") == 2
    lost = os.statvfs(mounted.path)
    mounted.kill()
    with closing(FileDevice(image, read_only=True)) as device:
        assert not check_device(device, data=True).problems
    again = mount(image)
    assert (again.path / "before").read_bytes() == b"before" * 10_000
    assert (again.path / "during").read_bytes() == b"during" * 10_000
    assert os.statvfs(again.path).f_blocks > lost.f_blocks


def broken(image: Path, mount: Mounter, tmp_path: Path, options: str) -> MountedImage:
    """Mount, sync a file, and let a sync meet a disk that takes no write any more."""
    trigger = tmp_path / "now"
    mounted = mount(image, "-o", f"{options}commit=3600,fault=error EIO on write while {trigger}")
    synced(mounted.path / "kept", b"kept" * 5_000)
    trigger.touch()
    with pytest.raises(OSError, match=r"Input/output error|connection abort"):
        synced(mounted.path / "new", b"new")
    trigger.unlink()
    return mounted


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("options", "code"),
    [("", errno.EROFS), ("errors=remount-ro,", errno.EROFS), ("errors=continue,", errno.EIO)],
)
def test_disk_that_takes_no_write_refuses_changes_and_serves_reads(
    image: Path, mount: Mounter, tmp_path: Path, options: str, code: int
) -> None:
    mounted = broken(image, mount, tmp_path, options)
    assert (mounted.path / "kept").read_bytes() == b"kept" * 5_000
    for name in ("one", "two"):
        with pytest.raises(OSError, match=os.strerror(code)) as refusal:
            (mounted.path / name).touch()
        assert refusal.value.errno == code
    mounted.await_log("from now on")
    assert mounted.log.count("from now on") == 1
    mounted.stop()
    with closing(FileDevice(image, read_only=True)) as device:
        assert not check_device(device, data=True).problems
    assert (mount(image).path / "kept").read_bytes() == b"kept" * 5_000


@pytest.mark.fuse
def test_disk_that_takes_no_write_ends_the_daemon_if_asked_to(
    image: Path, mount: Mounter, tmp_path: Path
) -> None:
    mounted = broken(image, mount, tmp_path, "errors=panic,")
    assert mounted.process.wait(HANG_SECONDS) == PANIC_EXIT_CODE
    assert mounted.log.count("ending at once") == 1
    assert ": ending at once: " in mounted.log.rstrip().splitlines()[-1]
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        (mounted.path / "kept").read_bytes()
    unmount(str(mounted.path), lazily=True)
    again = mount(image)
    assert (again.path / "kept").read_bytes() == b"kept" * 5_000
    assert not (again.path / "new").exists()


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a mount read-only")
def test_mount_table_says_read_only_once_no_file_is_open_for_writing(
    image: Path, mount: Mounter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trigger = tmp_path / "now"
    mounted = mount(image, "-o", f"commit=3600,fault=error EIO on write while {trigger}")
    assert lfs(["state", str(mounted.path)]) == 0
    assert capsys.readouterr().out == "writable\n"
    with (mounted.path / "open").open("w") as file:
        trigger.touch()
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(file.fileno())
        trigger.unlink()
        mounted.await_log("the mount table says rw until no file is open for writing")
        assert not find_lfs(str(mounted.path)).read_only
        assert lfs(["state", str(mounted.path)]) == 1
        out = capsys.readouterr().out
        assert out.startswith("failed: every change is refused: write failed by plan")
    wait_until(lambda: find_lfs(str(mounted.path)).read_only, "the mount table says ro")
    assert os.statvfs(mounted.path).f_flag & os.ST_RDONLY
    mounted.stop()


@pytest.mark.fuse
def test_mount_table_is_left_alone_where_changes_fail_by_choice(
    image: Path, mount: Mounter, tmp_path: Path
) -> None:
    mounted = broken(image, mount, tmp_path, "errors=continue,")
    time.sleep(0.5)
    assert not find_lfs(str(mounted.path)).read_only


@pytest.mark.fuse
def test_flipped_bits_never_reach_a_program(image: Path, mount: Mounter) -> None:
    content = os.urandom(3 << 20)
    before = mount(image)
    (before.path / "file").write_bytes(content)
    before.stop()
    mounted = mount(image, "-o", "fault=seed 1 corrupt 30% on read skip 9")
    file = os.open(mounted.path / "file", os.O_RDONLY | os.O_DIRECT)
    answers = [_try_read(file, offset) for offset in range(0, len(content), 1 << 16)]
    os.close(file)
    refused = answers.count(None)
    assert refused
    for number, answer in enumerate(answers):
        assert answer in (None, content[number << 16 : number + 1 << 16])
    mounted.stop()
    # Each has a line, or is counted in one.
    left_out = re.findall(r"(\d+) more like it were not logged: .*checksum differs", mounted.log)
    lines = mounted.log.count("checksum differs") - len(left_out)
    assert lines >= min(refused, BURST)
    assert lines + sum(map(int, left_out)) >= refused


def _try_read(file: int, offset: int) -> bytes | None:
    try:
        return os.pread(file, 1 << 16, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


@pytest.mark.fuse
def test_power_cut_keeps_what_was_synced(image: Path, mount: Mounter, tmp_path: Path) -> None:
    log, control = tmp_path / "writes", tmp_path / "control"
    replayed = MemoryDevice(image.stat().st_size)
    with closing(FileDevice(image, read_only=True)) as device:
        replayed.write(0, [device.read(0, device.size_bytes)])
    plan = "seed 4; cache 64M; reorder 30%; cut mark now survive torn"
    mounted = mount(image, "-o", f"fault={plan},fault_log={log},fault_control={control}")
    for number in range(40):
        synced(mounted.path / f"file {number}", bytes([number]) * (number * 900))
    assert run("faultdisk.main", "mark", control, "now").returncode == 0
    with pytest.raises(OSError, match="Input/output error"):
        synced(mounted.path / "late", b"too late")
    mounted.await_log("power cut")
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "later").touch()
    mounted.stop()
    again = mount(image)
    for number in range(40):
        assert (again.path / f"file {number}").read_bytes() == bytes([number]) * (number * 900)
    again.stop()
    with closing(FileDevice(image, read_only=True)) as device:
        assert not check_device(device, data=True).problems
    replay_log(log, replayed, mark="now")
    assert not check_device(replayed, data=True).problems
