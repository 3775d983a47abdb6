"""rsync and tar of a tree with one of everything: ext4 or whatever /tmp is, to lfs and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need, run
from tests.programs.support.trees import check_sparse, compare_trees, make_tree, make_what_tar_omits

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.needs("root", "nodes"),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    make_tree(top)
    return top


def _rsync(source: Path, copy: Path, *options: str) -> str:
    """Copy, and return a line for each thing that was not there yet, times to the nanosecond."""
    exact = ["--numeric-ids", "--sparse", "--delete", "--modify-window=-1"]
    changes = ["--itemize-changes", *options]
    return run(["rsync", "-aHAX", *exact, *changes, f"{source}/", f"{copy}/"])


def test_rsync_has_nothing_to_copy_the_second_time(
    disk: Disk, need: Need, tmp_path: Path, source: Path
) -> None:
    need("rsync")
    make_what_tar_omits(source)
    copy, back = disk.place / "copy", tmp_path / "back"
    assert "cd+++++++++ names/deep/" in _rsync(source, copy)
    compare_trees(source, copy)
    check_sparse(copy)
    assert _rsync(source, copy) == ""
    disk.remount()
    assert _rsync(source, copy, "--checksum") == ""
    compare_trees(source, copy)
    _rsync(copy, back)
    compare_trees(source, back)
    # What has changed is found, and nothing else.
    (source / "contents" / "1").write_text("changed")
    assert [line.split()[-1] for line in _rsync(source, copy).splitlines()] == ["contents/1"]


def _tar(*arguments: str | Path) -> str:
    """Run tar so that it keeps attributes, holes and times to the nanosecond."""
    kept = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=posix"]
    return run(["tar", *kept, *arguments])


def test_tar_keeps_attributes_and_holes(
    disk: Disk, need: Need, tmp_path: Path, source: Path
) -> None:
    need("tar")
    archive, again = tmp_path / "source.tar", disk.place / "again.tar"
    copy, back = disk.place / "copy", tmp_path / "back"
    copy.mkdir()
    back.mkdir()
    _tar("-S", "-cf", archive, "-C", source, ".")
    _tar("-S", "-xpf", archive, "-C", copy)
    assert _tar("--compare", "-f", archive, "-C", copy) == ""
    compare_trees(source, copy)
    check_sparse(copy)
    disk.remount()
    assert _tar("--compare", "-f", archive, "-C", copy) == ""
    # lfs has no SEEK_HOLE: without it tar looks for zeros itself.
    _tar("-S", "--hole-detection=raw", "-cf", again, "-C", copy, ".")
    assert again.stat().st_size < 2 * archive.stat().st_size
    _tar("-S", "-xpf", again, "-C", back)
    compare_trees(source, back)
    check_sparse(back)


# One entry for each kind of line that a list may have.
_LISTS = {
    "contents/1": ["u:1000:rw-", "g:1001:r--", "u:4000000000:---", "m::r--"],
    "contents/4096": ["u:0:rwx"],
    "contents": ["d:u:1000:rwx", "d:g:1001:r-x", "d:m::rwx", "u:65534:r-x"],
    "names": ["d:u::rwx", "d:g::---", "d:o::---"],
}


def _set_lists(top: Path) -> None:
    for name, entries in _LISTS.items():
        run(["setfacl", "-n", "-m", ",".join(entries), top / name])


def _lists(top: Path) -> list[str]:
    """Return the lists of a whole tree as getfacl prints them, in an order of their own."""
    # Not every name is text.
    printed = run(["getfacl", "-R", "-n", "-P", "."], top, errors="surrogateescape")
    return sorted(printed.split("\n\n"))


def test_rsync_and_tar_keep_access_control_lists(
    disk: Disk, need: Need, tmp_path: Path, source: Path
) -> None:
    need("rsync", "tar", "setfacl", "getfacl")
    _set_lists(source)
    copy, unpacked = disk.place / "copy", disk.place / "unpacked"
    archive = disk.place / "source.tar"
    unpacked.mkdir()
    _rsync(source, copy)
    _tar("--acls", "-S", "-cf", archive, "-C", source, ".")
    _tar("--acls", "-S", "-xpf", archive, "-C", unpacked)
    for _ in range(2):
        assert _rsync(source, copy, "--checksum") == ""
        for place in (copy, unpacked):
            assert _lists(place) == _lists(source)
            # Lists are attributes too, and belong to what lstat says of modes.
            compare_trees(source, place)
        disk.remount()
    # What is made in a directory inherits from it.
    (copy / "contents" / "new").touch()
    (source / "contents" / "new").touch()
    assert _lists(copy / "contents") == _lists(source / "contents")
