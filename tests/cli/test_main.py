"""The command ``lfs`` as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfs.cli.main import main


def test_main_without_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_main_reports_a_missing_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    for arguments in (
        ["filefrag", str(missing)],
        ["filefrag", "--image", str(missing), "f"],
        ["sync", str(missing)],
    ):
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert str(missing) in captured.err
        assert "No such file" in captured.err
        assert captured.err.count("\n") == 1
