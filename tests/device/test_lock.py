from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.device.lock import ImageLock
from lfs.errors import UsageError

_HOLDER = """
import sys, time
from lfs.device.lock import ImageLock
lock = ImageLock(sys.argv[1], exclusive=sys.argv[2] == "exclusive")
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "device.img"
    path.write_bytes(b"")
    return path


class Holder:
    """A process that holds a lock on ``image`` for ``seconds``."""

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
    held = Holder(image, "exclusive")
    yield held
    held.stop()


def test_lock_free_image_is_taken_and_given_back(image: Path) -> None:
    with ImageLock(image, wait_seconds=0):
        pass
    lock = ImageLock(image, wait_seconds=0)
    lock.release()
    lock.release()


def test_lock_held_elsewhere_names_process_and_command(image: Path, holder: Holder) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError) as caught:
        ImageLock(image, wait_seconds=0.2)
    assert time.monotonic() - start >= 0.2
    message = str(caught.value)
    assert message.startswith(f"{image} is in use by process {holder.process.pid} (")
    assert Path(sys.executable).name in message
    assert "\n" not in message


def test_lock_exclusive_keeps_readers_out(image: Path, holder: Holder) -> None:
    with pytest.raises(UsageError, match="in use by process"):
        ImageLock(image, exclusive=False, wait_seconds=0)


def test_lock_readers_share_and_keep_writers_out(image: Path) -> None:
    reader = Holder(image, "shared")
    try:
        with ImageLock(image, exclusive=False, wait_seconds=0):
            pass
        with pytest.raises(UsageError, match="in use by process"):
            ImageLock(image, wait_seconds=0)
    finally:
        reader.stop()


def test_lock_is_taken_when_the_holder_ends_in_time(image: Path) -> None:
    finishing = Holder(image, "exclusive", seconds=0.3)
    with ImageLock(image, wait_seconds=30):
        pass
    finishing.stop()


def test_lock_killed_holder_leaves_nothing_behind(image: Path, holder: Holder) -> None:
    holder.stop()
    with ImageLock(image, wait_seconds=0):
        pass


def test_lock_holder_that_hides_is_another_process(
    image: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfs.device.lock._command_line", lambda _: "")
    with pytest.raises(UsageError, match=r"is in use by another process$"):
        ImageLock(image, wait_seconds=0)


def test_lock_inherited_by_a_child_names_the_child(image: Path) -> None:
    lock = ImageLock(image, wait_seconds=0)
    os.set_inheritable(lock._descriptor, True)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[lock._descriptor])
    try:
        # A program that is just beginning has no command line to show yet.
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        lock.release()
        with pytest.raises(UsageError, match=rf"process {child.pid} \(sleep 60\)"):
            ImageLock(image, wait_seconds=0)
    finally:
        child.kill()
        child.wait()


def test_lock_missing_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        ImageLock(tmp_path / "none.img")


def test_lock_is_converted_both_ways(image: Path) -> None:
    with ImageLock(image, wait_seconds=0) as lock:
        lock.convert(exclusive=False)
        with ImageLock(image, exclusive=False, wait_seconds=0):
            pass
        lock.convert(exclusive=True)
        with pytest.raises(UsageError, match="is in use by"):
            ImageLock(image, exclusive=False, wait_seconds=0)


def test_lock_that_is_shared_does_not_become_exclusive_and_stays(image: Path) -> None:
    with (
        ImageLock(image, exclusive=False, wait_seconds=0) as lock,
        ImageLock(image, exclusive=False, wait_seconds=0) as other,
    ):
        with pytest.raises(UsageError, match="is in use by"):
            lock.convert(exclusive=True)
        other.release()
        with pytest.raises(UsageError, match="is in use by"):
            ImageLock(image, wait_seconds=0)
        lock.convert(exclusive=True)
