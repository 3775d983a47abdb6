"""Set-id bits that changes take away: by the filesystem, as every other one takes them.

What is expected is what ext4 does in the same place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.mounted.test_attributes import FILE, USER, as_user, mode

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.needs("root"),
]

GROUP = 4242


def write(flags: int = 0) -> None:
    descriptor = os.open(FILE, os.O_WRONLY | flags)
    os.write(descriptor, b"x" * 4096)
    os.close(descriptor)


def cut() -> None:
    os.truncate(FILE, 1)


def own(uid: int, gid: int) -> None:
    os.chown(FILE, uid, gid)


WRITES: dict[str, Callable[[], None]] = {
    "write": write,
    "append": partial(write, os.O_APPEND),
    "direct": partial(write, os.O_DIRECT),
    "cutting-open": partial(write, os.O_TRUNC),
    "truncate": cut,
}


@pytest.fixture
def path(directory: Path) -> Path:
    """Return a file of the user and of a group that is not the user's."""
    path = directory / FILE
    path.write_bytes(b"content")
    os.chown(path, USER, GROUP)
    return path


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    ("before", "groups", "after"),
    [
        (0o6775, [], 0o775),
        (0o6775, [GROUP], 0o775),
        # Without execution by the group it once meant mandatory locks.
        (0o6764, [], 0o764),
        (0o6764, [GROUP], 0o2764),
        (0o4755, [], 0o755),
        (0o0755, [], 0o755),
    ],
)
def test_write_by_user_takes_them(
    path: Path, change: Callable[[], None], before: int, groups: list[int], after: int
) -> None:
    path.chmod(before)
    assert as_user(path.parent, change, groups=groups) == 0
    assert mode(path) == after


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
def test_write_by_root_leaves_them(
    path: Path, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(0o6775)
    monkeypatch.chdir(path.parent)
    change()
    assert mode(path) == 0o6775


def test_write_through_a_handle_of_root_counts_as_the_writer(path: Path) -> None:
    path.chmod(0o6775)
    descriptor = os.open(path, os.O_WRONLY)
    assert as_user(path.parent, lambda: os.write(descriptor, b"x")) == 0
    os.close(descriptor)
    assert mode(path) == 0o775


@pytest.mark.parametrize(
    ("uid", "gid"), [(1234, 1234), (-1, 1234), (1234, -1), (-1, -1), (USER, GROUP)]
)
@pytest.mark.parametrize(("before", "after"), [(0o6775, 0o775), (0o6764, 0o2764)])
def test_chown_takes_them_even_for_root(
    path: Path, uid: int, gid: int, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(before)
    monkeypatch.chdir(path.parent)
    own(uid, gid)
    assert mode(path) == after


def test_chown_leaves_those_of_directories(directory: Path) -> None:
    directory.chmod(0o6775)
    os.chown(directory, 1234, 1234)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o6775


def test_set_again_after_a_write_they_are_taken_again(path: Path) -> None:
    for _ in range(3):
        path.chmod(0o6775)
        assert as_user(path.parent, write) == 0
        assert mode(path) == 0o775


def test_write_takes_capabilities(path: Path) -> None:
    # Version 2 of the attribute, CAP_NET_RAW permitted and effective (linux/capability.h).
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    path.chmod(0o755)
    os.setxattr(path, "security.capability", value)
    assert as_user(path.parent, write) == 0
    assert os.listxattr(path) == []
