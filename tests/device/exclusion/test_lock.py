"""Locks on files by processes: who excludes whom, who is named, what is waited for."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from lfs.device.exclusion import lock as lock_module
from lfs.device.exclusion.identity import places_of, share_bytes
from lfs.device.exclusion.lock import locked_file
from lfs.device.file import FileDevice
from tests.support.patience import HANG_SECONDS

_HOLDER = """
import sys, time
from lfs.device.file import FileDevice
device = FileDevice(sys.argv[1], read_only=sys.argv[2] == "reader")
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""

closing = contextlib.closing


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "device.img"
    path.write_bytes(b"")
    return path


class Holder:
    """A process that has ``image`` open for ``seconds``."""

    def __init__(self, image: Path, kind: str, seconds: float = 60) -> None:
        command = [sys.executable, "-c", _HOLDER, str(image), kind, str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def holder(image: Path) -> Iterator[Holder]:
    held = Holder(image, "writer")
    yield held
    held.stop()


def refusal(image: Path, read_only: bool = False, wait_seconds: float = 0.0) -> str:
    """Return the line with which an image is refused."""
    with pytest.raises(UsageError) as caught:
        FileDevice(image, read_only, wait_seconds=wait_seconds)
    return str(caught.value)


def test_free_image_is_taken_and_given_back(image: Path) -> None:
    with closing(FileDevice(image)):
        pass
    device = FileDevice(image)
    device.close()
    device.close()


def test_image_held_elsewhere_names_process_and_command(image: Path, holder: Holder) -> None:
    start = time.monotonic()
    message = refusal(image, wait_seconds=0.2)
    assert time.monotonic() - start >= 0.2
    assert message.startswith(f"{image} is in use by process {holder.process.pid} (")
    assert Path(sys.executable).name in message
    assert "\n" not in message


def test_writer_keeps_readers_out(image: Path, holder: Holder) -> None:
    assert f"process {holder.process.pid}" in refusal(image, read_only=True)


def test_a_second_device_of_one_process_is_refused(image: Path) -> None:
    with closing(FileDevice(image)):
        own = f"{image} is in use by process {os.getpid()} (this one)"
        assert refusal(image) == refusal(image, read_only=True) == own
    with closing(FileDevice(image, read_only=True)), closing(FileDevice(image, True)):
        assert refusal(image) == own


def test_readers_share_and_keep_writers_out(image: Path) -> None:
    reader = Holder(image, "reader")
    try:
        with closing(FileDevice(image, read_only=True)):
            pass
        assert f"process {reader.process.pid}" in refusal(image)
    finally:
        reader.stop()


def test_holder_that_ends_in_time_is_waited_for_and_told_at_once(
    image: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def end(line: str) -> None:
        events.append(line)
        holder.stop()

    def sleep(seconds: float) -> None:
        events.append("wait")
        really_sleep(seconds)

    really_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", sleep)
    with closing(FileDevice(image, wait_seconds=30, on_wait=end)):
        pass
    line, *waits = events
    assert line.startswith(f"{image} is in use by process {holder.process.pid} (")
    assert line.endswith(": waiting for up to 30 seconds")
    assert set(waits) == {"wait"}


def test_the_line_does_not_wait_for_the_name_of_a_holder(
    image: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds it may hang in a way that holds up whoever looks."""
    monkeypatch.setattr(lock_module, "LOOKUP_SECONDS", 0.01)
    looked = threading.Event()
    monkeypatch.setattr(lock_module, "describe_process", lambda _: str(looked.wait(HANG_SECONDS)))
    lines: list[str] = []

    def end(line: str) -> None:
        lines.append(line)
        holder.stop()

    with closing(FileDevice(image, wait_seconds=HANG_SECONDS, on_wait=end)):
        assert not looked.is_set()
    looked.set()
    assert lines == [f"{image} is in use: waiting for up to {HANG_SECONDS:g} seconds"]


def test_who_does_not_wait_says_nothing_of_waiting(image: Path, holder: Holder) -> None:
    lines: list[str] = []
    with pytest.raises(UsageError):
        FileDevice(image, on_wait=lines.append)
    assert lines == []


def test_killed_holder_leaves_nothing_behind(image: Path, holder: Holder) -> None:
    holder.stop()
    with closing(FileDevice(image)):
        pass


def test_holder_that_hides_is_another_process(
    image: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfs.device.exclusion.holders.command_line", lambda _: "")
    assert refusal(image) == f"{image} is in use by another process"


def test_lock_inherited_by_a_child_stays_and_names_the_child(image: Path) -> None:
    device = FileDevice(image)
    os.set_inheritable(device.fileno(), True)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[device.fileno()])
    try:
        # A program that is just beginning has no command line to show yet.
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        device.close()
        assert f"process {child.pid} (sleep 60)" in refusal(image)
    finally:
        child.kill()
        child.wait()


def test_lock_stays_with_a_child_that_was_forked(image: Path) -> None:
    device = FileDevice(image)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    device.close()
    assert f"process {child} (" in refusal(image)
    os.close(writer)
    os.waitpid(child, 0)
    FileDevice(image).close()


def test_device_is_shared_and_taken_back(image: Path) -> None:
    with closing(FileDevice(image)) as device:
        device.share()
        FileDevice(image, read_only=True).close()
        refusal(image)
        device.make_writable()
        refusal(image, read_only=True)


def test_device_that_is_shared_does_not_become_writable_and_stays(image: Path) -> None:
    with closing(FileDevice(image, True)) as device:
        other = FileDevice(image, True)
        with pytest.raises(UsageError, match="is in use by"):
            device.make_writable()
        assert device.read_only
        other.close()
        refusal(image)
        device.make_writable()
        refusal(image, read_only=True)


def test_failed_upgrade_leaves_no_lock_behind(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was locked on the way is given back, by the descriptor that failed too."""

    def refuse(lock: lock_module.ImageLock) -> None:
        raise lock_module.InUseError(image, [])

    with closing(FileDevice(image, True)) as device:
        with monkeypatch.context() as patch:
            patch.setattr(lock_module.ImageLock, "_refuse_claimed", refuse)
            with pytest.raises(UsageError):
                device.make_writable()
        FileDevice(image, True).close()
        assert "(this one)" in refusal(image)
        device.make_writable()


def test_other_files_are_locked_alike(image: Path) -> None:
    with locked_file(image):
        refusal(image)
        with pytest.raises(UsageError, match="is in use by"), locked_file(image, exclusive=False):
            pass
    with pytest.raises(UsageError, match="No such file"), locked_file(image.with_name("none")):
        pass


def test_pipes_and_terminals_need_no_lock(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), os.devnull):
        with locked_file(path), locked_file(path):
            pass
        assert places_of(os.stat(path), path) == []
    # Nobody has opened it for reading.
    with pytest.raises(OSError, match="No such device"):
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    assert not share_bytes(os.devnull, os.devnull)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_filesystem_without_locks_is_used_with_a_warning(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    whole: Callable[..., object] = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: bytes = b"") -> object:
        if command == fcntl.F_OFD_SETLK:
            raise OSError(code, os.strerror(code))
        return whole(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with caplog.at_level(logging.WARNING):
        FileDevice(image).close()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{image} can't be locked ({os.strerror(code)}): nothing keeps others from using it"
    )
