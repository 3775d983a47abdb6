"""The report of faults: whoever reads it, or does not, keeps no request waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faultdisk.daemon import served as serving
from faultdisk.daemon.served import report_file


def test_report_that_is_written_has_each_line_with_its_time(tmp_path: Path) -> None:
    with report_file(str(tmp_path / "report")) as report:
        report("one")
        report("two")
    lines = (tmp_path / "report").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two"]


def test_report_that_nobody_reads_keeps_nobody_waiting_and_says_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "REPORT_LINES_MAX", 10)
    path = tmp_path / "report"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    text = "x" * 4000
    count = 100  # 64 KiB of them fit into the pipe
    with report_file(str(path)) as report:
        for _ in range(count):
            report(text)
        os.set_blocking(reader, True)
        received = b""
        while b"lines before this one were lost" not in received:
            received += os.read(reader, 65536)
    os.close(reader)
    lines = received.decode().splitlines()
    assert len(lines) - 1 + int(lines[-1].split()[0]) == count
