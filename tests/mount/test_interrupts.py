"""Ctrl-C while something is mounted, and while something is counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lfs.device.file import FileDevice
from lfs.kernel.mountpoint import find_mount, unmount
from tests.command.commands import program
from tests.support.mounting import WAIT_SECONDS, environment, without_log_notice
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse

SEEDS = range(8)


def begin(name: str, *arguments: str | Path, prologue: str = "") -> subprocess.Popen[bytes]:
    """Start a program as a job of its own, and return once it has begun."""
    return subprocess.Popen(
        [*program(name, prologue), *map(str, arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Send SIGINT to the whole job, as a terminal does; return exit code, output and errors."""
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=WAIT_SECONDS)
    return process.returncode, output, errors


@pytest.mark.parametrize("seed", SEEDS)
def test_interrupted_mount_is_whole_or_none(image: Path, tmp_path: Path, seed: int) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    # In charge before anything is sent: what Python does before that is not ours.
    prologue = (
        "from lfs.command import start; before = start._open_standard_descriptors\n"
        "def ready(): before(); os.write(1, b'x')\n"
        "import os; start._open_standard_descriptors = ready\n"
    )
    with begin("mount.lfs", image, directory, prologue=prologue) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        time.sleep(random.Random(seed).random() * 0.4)
        try:
            code, output, errors = interrupt(process)
        finally:
            mounted = find_mount(str(directory)) is not None
            if mounted:
                assert not os.listdir(directory)
                unmount(str(directory))
    # One that comes while the command says what it has mounted is too late, and ends that.
    assert code == -signal.SIGINT or (mounted and code == 0)
    assert (output, without_log_notice(errors.decode())) == (b"", "")
    FileDevice(image, wait_seconds=WAIT_SECONDS).close()


@pytest.mark.parametrize("whole_job", [False, True])
def test_interrupted_count_is_printed(mount: Mounter, image: Path, whole_job: bool) -> None:
    path = mount(image).path
    script = f"touch {path}/new; echo begun; exec sleep 60"
    with begin("lfs", "requests", path, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        if not whole_job:
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=WAIT_SECONDS)
        else:
            _, output, errors = interrupt(process)
    assert process.returncode == 128 + signal.SIGINT
    assert errors == b""
    assert b"1  create\n" in output
    assert output.endswith(b"  total\n")


def test_command_that_stands_an_interrupt_is_counted_to_its_end(
    mount: Mounter, image: Path
) -> None:
    path = mount(image).path
    script = f"trap 'touch {path}/new; exit 7' INT; echo begun; while :; do sleep 0.1; done"
    with begin("lfs", "requests", path, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        code, output, _ = interrupt(process)
    assert code == 7
    assert b"1  create\n" in output
