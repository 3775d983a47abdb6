from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lfs.device.exclusion import holders
from lfs.device.exclusion.holders import command_line


def test_command_line_is_that_of_the_process() -> None:
    first = Path("/proc/self/cmdline").read_text().split("\0")[0]
    assert command_line(os.getpid()).startswith(first)
    assert command_line(2**22 + 1) == ""


def test_process_whose_memory_the_kernel_waits_for_is_told_by_its_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    os.mkfifo(tmp_path / "7" / "cmdline")
    (tmp_path / "7" / "comm").write_text("stuck\n")
    monkeypatch.setattr(holders, "PROC", tmp_path)
    monkeypatch.setattr(holders, "COMMAND_SECONDS", 0.05)
    assert command_line(7) == "stuck"
    # The thread that waits for an answer gets one, and ends.
    with (tmp_path / "7" / "cmdline").open("w"):
        pass
    for thread in threading.enumerate():
        if thread.daemon:
            thread.join(1)
