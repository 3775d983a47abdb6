"""Going to the background: what the caller is told, and when the child leaves its group."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lfs.kernel.daemon import run_in_background
from lfs.kernel.logs import where_to_look
from lfs.kernel.mountpoint import MountError, find_mount
from tests.support.mounting import WAIT_SECONDS, environment, wait_until

BROKEN = """
import sys
from lfs.mount.main import main
from lfs.fuse.operations import LfsOperations

async def broken(self, inode, ctx):
    raise RuntimeError("broken")

LfsOperations.getattr = broken
sys.exit(main(sys.argv[1:]))
"""


def test_daemon_that_ends_at_once_is_told() -> None:
    with pytest.raises(MountError) as caught:
        run_in_background(lambda _: os._exit(3))
    assert caught.value.exit_code == 32
    assert str(caught.value) == (
        f"the daemon ended before the filesystem answered; {where_to_look()}"
    )


def test_daemon_that_fails_says_why_with_its_exit_code() -> None:
    def fail(ready: Callable[[], None]) -> None:
        raise MountError("no such luck", 7)

    with pytest.raises(MountError, match="no such luck") as caught:
        run_in_background(fail)
    assert caught.value.exit_code == 7


def test_daemon_leaves_the_process_group_when_it_is_ready_and_not_before(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"

    def start(ready: Callable[[], None]) -> None:
        before.write_text(str(os.getpgrp()))
        ready()
        after.with_suffix(".new").write_text(f"{os.getpgrp()} {os.getpid()}")
        after.with_suffix(".new").rename(after)

    run_in_background(start)
    assert int(before.read_text()) == os.getpgrp()
    wait_until(after.exists, "the child is done")
    group, pid = after.read_text().split()
    assert group == pid


@pytest.mark.fuse
def test_daemon_that_fails_before_it_has_answered_ends(image: Path, tmp_path: Path) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, image, directory],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mount.lfs: ")
    assert done.stderr.count("\n") == 1
    assert find_mount(str(directory)) is None
