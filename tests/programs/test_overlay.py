"""A mounted disk as the upper layer of overlayfs, as containers use it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk

pytestmark = pytest.mark.fuse

_OPTIONS = "redirect_dir=on,index=on,metacopy=off"


class Overlay:
    """Lower files beside the disk, changes on it."""

    def __init__(self, disk: Disk, work: Path) -> None:
        """Make lower files; ``mount`` puts them together with the disk."""
        self.lower, self.merged = work / "lower", work / "merged"
        self.upper, self.work = disk.place / "upper", disk.place / "work"
        for path in (self.lower, self.merged, self.upper, self.work):
            path.mkdir()
        for name in ("kept", "changed", "removed", "renamed", "replaced"):
            (self.lower / name).write_text(f"lower {name}\n")
        (self.lower / "tree/below").mkdir(parents=True)
        for number in range(20):
            (self.lower / f"tree/below/{number}").write_text(str(number))
        (self.lower / "emptied").mkdir()
        (self.lower / "emptied/file").touch()
        (self.lower / "one").write_text("linked")
        os.link(self.lower / "one", self.lower / "two")

    def mount(self) -> str:
        """Mount; returns the error, if there is one."""
        options = f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work},{_OPTIONS}"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(self.merged)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    def unmount(self) -> None:
        """Unmount if it is mounted."""
        if os.path.ismount(self.merged):
            subprocess.run(["umount", str(self.merged)], check=True)

    def tree(self) -> dict[str, str]:
        """Return the contents of all files, by path."""
        paths = [path for path in self.merged.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.merged)): path.read_text() for path in paths}


@pytest.fixture
def overlay(disk: Disk, tmp_path: Path) -> Iterator[Overlay]:
    one = Overlay(disk, tmp_path)
    # Whether this machine can do it at all is told by a filesystem that surely can.
    probe = Path("/dev/shm") / f"lfs-overlay-{os.getpid()}"
    try:
        for name in ("lower", "upper", "work", "merged"):
            (probe / name).mkdir(parents=True)
        options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
        probed = subprocess.run(command, capture_output=True, text=True, check=False)
        if probed.returncode:
            pytest.skip(f"overlayfs can't be mounted here: {probed.stderr.strip()[:200]}")
        subprocess.run(["umount", str(probe / "merged")], check=True)
        yield one
    finally:
        one.unmount()
        subprocess.run(["rm", "-rf", str(probe)], check=True)


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_changes_of_all_kinds_go_to_the_disk(disk: Disk, overlay: Overlay) -> None:
    assert overlay.mount() == ""
    merged = overlay.merged
    # An upper layer without whiteouts would be read-only.
    assert not os.statvfs(merged).f_flag & os.ST_RDONLY
    with (merged / "changed").open("a") as file:
        file.write("and more\n")
    (merged / "removed").unlink()
    (merged / "renamed").rename(merged / "new name")
    (merged / "kept").rename(merged / "replaced")
    (merged / "tree").rename(merged / "moved")
    (merged / "moved/below/3").unlink()
    (merged / "moved/below/4").write_text("upper 4")
    (merged / "emptied/file").unlink()
    (merged / "emptied").rmdir()
    (merged / "emptied").mkdir()
    (merged / "emptied/other").write_text("new")
    (merged / "one").write_text("changed")
    (merged / "added").write_text("added")
    os.link(merged / "added", merged / "second")
    expected = {
        "changed": "lower changed\nand more\n",
        "new name": "lower renamed\n",
        "replaced": "lower kept\n",
        "emptied/other": "new",
        "one": "changed",
        "two": "changed",
        "added": "added",
        "second": "added",
        **{f"moved/below/{n}": str(n) for n in range(20) if n != 3},
        "moved/below/4": "upper 4",
    }
    assert overlay.tree() == expected
    assert (merged / "one").stat().st_ino == (merged / "two").stat().st_ino
    overlay.unmount()

    upper = overlay.upper
    for name in ("removed", "renamed", "kept", "tree"):
        assert _is_whiteout(upper / name), name
    assert _is_whiteout(upper / "moved/below/3")
    assert os.getxattr(upper / "moved", "trusted.overlay.redirect").endswith(b"tree")
    assert os.getxattr(upper / "emptied", "trusted.overlay.opaque") == b"y"
    assert (upper / "changed").read_text() == expected["changed"]

    disk.remount()
    assert overlay.mount() == ""
    assert overlay.tree() == expected
    overlay.unmount()


def test_tree_is_copied_and_removed(disk: Disk, overlay: Overlay) -> None:
    assert overlay.mount() == ""
    for path in sorted(Path("/usr/share/doc").iterdir())[:60]:
        subprocess.run(["cp", "-a", str(path), str(overlay.merged)], check=True)
        copy = overlay.merged / path.name
        compare = ["diff", "-r", "--no-dereference", str(path), str(copy)]
        assert subprocess.run(compare, check=False).returncode == 0
    subprocess.run(["rm", "-rf", *map(str, overlay.merged.iterdir())], check=True, timeout=120)
    assert os.listdir(overlay.merged) == []
    overlay.unmount()
    assert {path.name for path in overlay.upper.iterdir()} == set(os.listdir(overlay.lower))
    assert all(_is_whiteout(path) for path in overlay.upper.iterdir())
