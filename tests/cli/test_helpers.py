"""``lfs install-helpers``: links for mount(8) and its like, and nothing of others touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfs.cli import helpers
from lfs.cli.main import main


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the commands of an installation, this one's to be."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in {*helpers.HELPERS.values(), "lfs"}:
        (path / name).touch()
    monkeypatch.setattr("sys.argv", [str(path / "lfs")])
    return path


@pytest.fixture
def sbin(tmp_path: Path) -> Path:
    path = tmp_path / "sbin"
    path.mkdir()
    return path


def install(sbin: Path, *arguments: str) -> int:
    return main(["install-helpers", "--directory", str(sbin), *arguments])


def links(sbin: Path) -> dict[str, Path]:
    return {path.name: path.readlink() for path in sbin.iterdir() if path.is_symlink()}


def test_helpers_are_links_to_the_commands(commands: Path, sbin: Path) -> None:
    assert install(sbin) == 0
    assert links(sbin) == {name: commands / to for name, to in helpers.HELPERS.items()}


def test_helpers_of_an_earlier_installation_are_replaced(commands: Path, sbin: Path) -> None:
    (sbin / "mount.lfs").symlink_to("/gone/bin/mount.lfs")
    assert install(sbin) == 0
    assert links(sbin)["mount.lfs"] == commands / "mount.lfs"


@pytest.mark.usefixtures("commands")
def test_helpers_are_removed_and_nothing_else(sbin: Path) -> None:
    (sbin / "mount.other").touch()
    assert install(sbin) == 0
    assert install(sbin, "--remove") == 0
    assert [path.name for path in sbin.iterdir()] == ["mount.other"]


def test_helpers_beside_the_commands_leave_them(commands: Path) -> None:
    assert install(commands) == 0
    assert not (commands / "mount.lfs").is_symlink()
    assert (commands / "mount.fuse.lfs").readlink() == commands / "mount.lfs"
    assert install(commands, "--remove") == 0
    assert (commands / "mount.lfs").exists()
    assert not (commands / "mount.fuse.lfs").exists()


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("arguments", [[], ["--remove"]])
def test_helpers_of_others_are_refused_before_anything_changes(
    sbin: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (sbin / "umount.lfs").write_text("precious")
    assert install(sbin, *arguments) == 1
    text = f"lfs: {sbin}/umount.lfs exists and is no link to a command of lfs\n"
    assert capsys.readouterr().err == text
    assert [path.name for path in sbin.iterdir()] == ["umount.lfs"]


def test_helpers_need_a_directory_and_commands(
    commands: Path, sbin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install(commands / "lfs") == 1
    assert capsys.readouterr().err == f"lfs: {commands}/lfs is not a directory\n"
    (commands / "mount.lfs").unlink()
    monkeypatch.setattr("sys.executable", str(sbin / "python"))
    assert install(sbin) == 1
    text = "lfs: mount.lfs is not beside this command: install lfsprogs by pip\n"
    assert capsys.readouterr().err == text
