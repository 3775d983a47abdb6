"""Commands of faultdisk run in the test's own process, well or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from faultdisk.main import main

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *arguments: str | Path) -> str:
    """Run faultdisk, expect exit code 1 and one line of error; return the line."""
    assert main(list(map(str, arguments))) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("faultdisk: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("faultdisk: ").rstrip("\n")


def done_well(capsys: Capture, *arguments: str | Path) -> str:
    """Run faultdisk, expect that it does well; return what it printed."""
    assert main(list(map(str, arguments))) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out
