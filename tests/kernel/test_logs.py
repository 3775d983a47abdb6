"""The daemon's log: whoever reads it, or does not, keeps nobody waiting."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lfs.cli.main import main as lfs
from lfs.fuse.handlers import described
from lfs.kernel import logs
from lfs.kernel.logs import LINE_BYTES_MAX, QUEUE_LINES_MAX, RECENT_LINES, Line, LogQueue, SystemLog
from lfs.kernel.mountpoint import MountError, unmount
from tests.support.mounting import ROOT, WAIT_SECONDS, environment, make_image, wait_until
from tests.support.mounts import Mounter
from tests.support.patience import HANG_SECONDS


class Reader:
    """Keeps what it is sent; while it is stopped it lets the sender wait."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.running.set()
        self.lines: list[str] = []

    def send(self, line: Line) -> None:
        self.running.wait()
        self.lines.append(line.text)


def say(queue: LogQueue, *texts: str) -> None:
    for text in texts:
        queue.handle(logging.LogRecord("test", logging.ERROR, "", 0, text, (), None))


def test_lines_begin_with_what_they_are_about() -> None:
    reader = Reader()
    queue = LogQueue(reader, "a.img on /mnt")
    say(queue, "one", "two")
    queue.flush()
    assert reader.lines == ["a.img on /mnt: one", "a.img on /mnt: two"]


def test_reader_that_stops_keeps_nobody_waiting_and_hears_what_it_missed() -> None:
    reader = Reader()
    queue = LogQueue(reader)
    reader.running.clear()
    say(queue, "first")
    wait_until(lambda: not queue._lines, "the first line is being sent")
    lost_count = 7
    texts = [f"line {number}" for number in range(QUEUE_LINES_MAX + lost_count)]
    say(queue, *texts)
    reader.running.set()
    queue.flush()
    assert reader.lines == [
        "first",
        f"{lost_count} lines before this one were lost: nobody read them",
        *texts[lost_count:],
    ]


def test_end_waits_a_bounded_time_for_a_reader_that_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "END_SECONDS", 0.1)
    reader = Reader()
    queue = LogQueue(reader)
    reader.running.clear()
    say(queue, "never read")
    queue.flush()
    assert reader.lines == []
    reader.running.set()


def test_long_line_is_cut() -> None:
    reader = Reader()
    queue = LogQueue(reader)
    say(queue, "x" * (LINE_BYTES_MAX + 1))
    queue.flush()
    assert reader.lines == ["x" * LINE_BYTES_MAX]


def test_recent_lines_are_the_last_whoever_reads() -> None:
    queue = LogQueue(SystemLog("test", "/nonexistent/log"))
    texts = [f"line {number}" for number in range(RECENT_LINES + 3)]
    say(queue, *texts)
    assert [line.split(" ", 2)[2] for line in queue.recent()] == texts[3:]


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        ("read", {"fh": 25, "off": 4096, "size": 8192}, "read inode 12 bytes 4096+8192"),
        ("write", {"fh": 24, "off": 0, "buf": b"abc"}, "write inode 12 bytes 0+3"),
        ("lookup", {"parent_inode": 1, "name": b"a b"}, "lookup directory 1 'a b'"),
        ("readdir", {"fh": 24, "start_id": 0}, "readdir inode 12"),
        ("setattr", {"inode": 12, "fh": 25}, "setattr inode 12"),
        (
            "rename",
            {"parent_inode_old": 1, "name_old": b"a", "parent_inode_new": 5, "name_new": b"b"},
            "rename directory 1 to directory 5 'a' 'b'",
        ),
    ],
)
def test_request_is_described_by_its_file_and_place(
    kind: str, arguments: dict[str, object], text: str
) -> None:
    assert described(kind, arguments, lambda _, handle: handle >> 1) == text


# ----------------------------------------------------------------------- the system log


class SystemLogReader:
    """A socket like /dev/log, read by the test when it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(WAIT_SECONDS)
        self.path = path

    def line(self) -> str:
        return self.socket.recv(65536).decode()

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogQueue]:
    monkeypatch.setattr(logs, "RETRY_SECONDS_MAX", 0.1)
    yield LogQueue(SystemLog("mount.lfs", str(tmp_path / "log")))
    with suppress(FileNotFoundError):
        (tmp_path / "log").unlink()


def test_system_log_gets_severity_time_command_and_text(queue: LogQueue, tmp_path: Path) -> None:
    reader = SystemLogReader(tmp_path / "log")
    record = logging.LogRecord("test", logging.ERROR, "", 0, "a line", (), None)
    record.created = time.mktime((2026, 3, 5, 7, 8, 9, 0, 0, -1))
    queue.handle(record)
    assert reader.line() == f"<27>Mar  5 07:08:09 mount.lfs[{os.getpid()}]: a line"
    reader.close()


def test_system_log_that_comes_later_gets_what_was_said_before(
    queue: LogQueue, tmp_path: Path
) -> None:
    say(queue, "one", "two")
    queue.flush()
    reader = SystemLogReader(tmp_path / "log")
    assert reader.line().endswith(": one")
    assert reader.line().endswith(": two")
    reader.close()


def test_system_log_that_is_started_again_gets_the_next_line(
    queue: LogQueue, tmp_path: Path
) -> None:
    before = SystemLogReader(tmp_path / "log")
    say(queue, "one")
    assert before.line().endswith(": one")
    before.close()
    after = SystemLogReader(tmp_path / "log")
    say(queue, "two")
    assert after.line().endswith(": two")
    after.close()


def test_system_log_that_does_not_read_holds_nobody_up(
    queue: LogQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "END_SECONDS", 0.3)
    reader = SystemLogReader(tmp_path / "log")
    texts = [f"line {number}" for number in range(3 * QUEUE_LINES_MAX)]
    say(queue, *texts)
    queue.flush()
    received: list[str] = []
    while not received or not received[-1].endswith(texts[-1]):
        received.append(reader.line().partition("]: ")[2])
    notices = [line for line in received if "were lost" in line]
    kept = [line for line in received if line not in notices]
    assert len(kept) + sum(int(notice.split()[0]) for notice in notices) == len(texts)
    assert kept == [text for text in texts if text in kept]
    reader.close()


# ----------------------------------------------------------------------- a real daemon


@pytest.mark.fuse
def test_log_shows_what_the_daemon_said(
    image: Path, mount: Mounter, capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mount(image)
    assert lfs(["log", str(mounted.path)]) == 0
    assert capsys.readouterr().out.endswith(f" {image} on {mounted.path}: mounted\n")


@pytest.mark.fuse
def test_terminal_that_is_stuck_holds_nobody_up(image: Path, tmp_path: Path) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    reader, writer = os.pipe()
    daemon = subprocess.Popen(
        [sys.executable, "-m", "lfs.mount.main", image, directory, "-f", "-o", "debug"],
        env=environment(),
        stderr=writer,
    )
    os.close(writer)
    try:
        wait_until(lambda: os.path.ismount(directory), "it is mounted")
        # Every request is a line, and nobody reads the pipe, which holds 64 KiB.
        for number in range(2000):
            (directory / f"f{number % 10}").touch()
            (directory / f"f{number % 10}").unlink()
        subprocess.run(["umount", directory], check=True, timeout=WAIT_SECONDS)
        assert daemon.wait(WAIT_SECONDS) == 0
        assert f" on {directory}: ".encode() in os.read(reader, 65536)
    finally:
        daemon.kill()
        daemon.wait()
        os.close(reader)
        with suppress(MountError):
            unmount(str(directory), lazily=True)


_NAMESPACE = ["unshare", "-m", "--propagation", "private", sys.executable, "-c"]
_BEGIN = """
import os, socket, subprocess, sys, threading, time
from pathlib import Path
from lfs.cli.main import main as lfs
from lfs.mount.main import main as mount
from lfs.mount.unmount import main as unmount

kind, image, directory, trigger = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
for name, minor, major in (("fuse", 229, 10), ("null", 3, 1), ("urandom", 9, 1)):
    os.mknod("/dev/" + name, 0o020666, os.makedev(major, minor))
os.mkdir("/dev/shm")
reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reader.bind("/dev/log")
assert mount([image, directory, "-o", f"fault=error EIO on read in 1M- while {trigger}"]) == 0
names = [os.path.join(directory, f"f{number}") for number in range(40)]
for name in names:
    Path(name).write_bytes(os.urandom(40_000))
assert lfs(["sync", directory]) == 0
"""
_SCRIPT = (
    _BEGIN
    + """
def write_all():
    log = os.open(os.path.join(directory, "syslog"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(log, reader.recv(65536) + b"\\n")
        os.fsync(log)

if kind == "writes":
    threading.Thread(target=write_all, daemon=True).start()
Path("/proc/sys/vm/drop_caches").write_text("1")
Path(trigger).touch()
refused = 0
for name in names:
    try:
        Path(name).read_bytes()
    except OSError:
        refused += 1
os.unlink(trigger)
worst = 0.0
for name in names:
    start = time.perf_counter()
    assert len(Path(name).read_bytes()) == 40_000
    worst = max(worst, time.perf_counter() - start)
time.sleep(1)
lines = Path(directory, "syslog").read_bytes() if kind == "writes" else b""
print(refused, worst < 5, b"read failed by plan" in lines, flush=True)
os._exit(unmount(["-l", directory]))
"""
)
# A log daemon whose every line makes a request that fails, which makes a line.
_FEEDING_SCRIPT = (
    _BEGIN
    + """
while not reader.recv(65536).endswith(b": mounted"):
    pass
lines = []
def answer():
    bad = os.open(names[0], os.O_RDONLY)
    while True:
        lines.append(reader.recv(65536))
        try:
            os.pread(bad, 40_000, 0)
        except OSError:
            pass
threading.Thread(target=answer, daemon=True).start()
Path("/proc/sys/vm/drop_caches").write_text("1")
Path(trigger).touch()
refused = 0
for name in names:
    try:
        Path(name).read_bytes()
    except OSError:
        refused += 1
time.sleep(2)
count = len(lines)
os.unlink(trigger)
assert lfs(["log", directory]) == 0
print(refused, count < 100, flush=True)
os._exit(unmount(["-l", directory]))
"""
)


_needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root makes namespaces"
)


@pytest.mark.fuse
@_needs_namespace
@pytest.mark.parametrize("kind", ["deaf", "writes"])
def test_log_daemon_that_does_not_read_or_writes_to_the_mount_stops_nobody(
    tmp_path: Path, kind: str
) -> None:
    image = make_image(tmp_path / "a.img", "100M")
    directory = tmp_path / "mnt"
    directory.mkdir()
    done = _run_in_namespace(_SCRIPT, kind, image, directory, tmp_path / "trigger")
    assert done.stdout == f"40 True {kind == 'writes'}\n", done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.fuse
@_needs_namespace
def test_log_daemon_that_fails_on_the_mount_does_not_feed_itself(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.img", "100M")
    directory = tmp_path / "mnt"
    directory.mkdir()
    done = _run_in_namespace(_FEEDING_SCRIPT, "feeds", image, directory, tmp_path / "trigger")
    assert done.stdout.endswith("40 True\n"), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def _run_in_namespace(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_NAMESPACE, script, *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
