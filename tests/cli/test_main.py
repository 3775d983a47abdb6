"""The command ``lfs`` as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lfs.cli import filefrag
from lfs.cli.main import main
from lfs.device.exclusion.lock import locked_file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see lfs --help)"),
        (["sync"], "the following arguments are required: DIR (see lfs sync --help)"),
        (["filefrag"], "the following arguments are required: FILE (see lfs filefrag --help)"),
        (["requests"], "the following arguments are required: DIR (see lfs requests --help)"),
        (["requests", "-z", "/"], "unrecognized arguments: -z (see lfs --help)"),
        (["sync", "-z", "/"], "unrecognized arguments: -z (see lfs --help)"),
        (
            ["filefrag", "--image"],
            "argument --image: expected one argument (see lfs filefrag --help)",
        ),
        (
            ["install-helpers", "--directory"],
            "argument --directory: expected one argument (see lfs install-helpers --help)",
        ),
    ],
)
def test_main_wrong_usage_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"lfs: {message}\n"


def test_main_unknown_command_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["snyc"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("lfs: argument COMMAND: invalid choice: 'snyc' (choose from ")
    assert err.count("\n") == 1


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run, expect exit code 1 and one line of error; return the line."""
    assert main(list(map(str, arguments))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lfs: ")
    assert err.count("\n") == 1
    return err.removeprefix("lfs: ").rstrip("\n")


@pytest.mark.parametrize("command", ["requests", "state", "log"])
def test_main_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert _refused(capsys, command, tmp_path) == f"{tmp_path} is not on a mounted lfs"


def test_main_other_kinds_of_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(1 << 20))
    assert _refused(capsys, "sync", plain) == f"{plain}: Not a directory"
    assert _refused(capsys, "filefrag", plain) == f"{plain} is not on a mounted lfs (see --image)"
    assert _refused(capsys, "filefrag", "--image", tmp_path, "f") == (
        f"{tmp_path} is neither an image file nor a block device"
    )
    assert _refused(capsys, "filefrag", "--image", plain, "f") == (
        f"{plain}: not an lfs filesystem (no valid superblock)"
    )


def test_main_image_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filefrag, "_LOCK_WAIT_SECONDS", 0.0)
    image = tmp_path / "a.img"
    image.touch()
    with locked_file(image):
        text = _refused(capsys, "filefrag", "--image", image, "f")
    assert text.startswith(f"{image} is in use by process {os.getpid()} ")


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
