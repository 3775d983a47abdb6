"""git switches between branches that differ in every way, before and after it collects garbage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need, git
from tests.support.client import Data

pytestmark = pytest.mark.fuse

_BRANCHES = 4


def _make_branches(place: Path) -> dict[str, str]:
    """Commit branches that change, remove and add files; return their trees."""
    git(place, "init", "-q", "-b", "trunk")
    for number in range(400):
        path = place / f"directory{number % 20}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Data(number, number * 13).bytes())
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "Begin")
    trees = {}
    for branch in range(_BRANCHES):
        git(place, "switch", "-q", "-c", f"branch{branch}", "trunk")
        for path in sorted(place.glob("directory*/file*"))[branch::3]:
            path.write_text(f"{branch}")
        shutil.rmtree(place / f"directory{branch}")
        # What is a directory elsewhere is a file here, and a symlink there.
        (place / f"directory{branch}").symlink_to("directory9")
        shutil.rmtree(place / f"directory{branch + 10}")
        (place / f"directory{branch + 10}").write_text("file")
        (place / "directory9" / "script").write_text("#!/bin/sh\n")
        (place / "directory9" / "script").chmod(0o755 if branch % 2 else 0o644)
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", f"Branch {branch}")
        trees[f"branch{branch}"] = git(place, "rev-parse", "HEAD^{tree}")
    return trees


def _check_branches(clone: Path, trees: dict[str, str]) -> None:
    """Switch to each branch and hash every file anew, whatever the index remembers."""
    for branch, tree in trees.items():
        git(clone, "switch", "-q", "--discard-changes", branch)
        (clone / ".git" / "index").unlink()
        git(clone, "add", "-A")
        assert git(clone, "write-tree") == tree


def test_git_switches_branches_and_collects_garbage(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("git")
    source, clone = tmp_path / "source", disk.place / "clone"
    source.mkdir()
    trees = _make_branches(source)
    git(tmp_path, "clone", "-q", "--no-local", str(source), str(clone))
    _check_branches(clone, trees)
    # A second tree of the same repository, and a merge in it.
    git(clone, "worktree", "add", "-q", "-b", "merged", str(disk.place / "merged"), "branch0")
    git(disk.place / "merged", "merge", "-q", "-s", "ours", "-m", "Merge", "branch1")
    git(clone, "gc", "-q", "--aggressive", "--prune=now")
    _check_branches(clone, trees)
    disk.remount()
    git(clone, "fsck", "--full", "--strict")
    _check_branches(clone, trees)
    assert git(disk.place / "merged", "status", "--porcelain") == ""
