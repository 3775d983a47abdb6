"""Stamps of time: of two changes through a mount the later one never looks older.

Each ordered pair of the calls that stamp, with and without ``writeback_cache``, and
with the kernel's own stamps ahead of the coarse clock (``lfs.fuse.clock``), as other
filesystems cause it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from lfs.fuse.clock import coarse_ns, kernel_ns
from tests.support.mounting import MountedImage, make_image
from tests.support.mounts import Mounter
from tests.support.patience import HANG_SECONDS

pytestmark = pytest.mark.fuse

_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2
_libc = ctypes.CDLL(None, use_errno=True)


class Stamping(NamedTuple):
    """A call that stamps: how to make ready in a directory, the call, and its stamps."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    stamps: Callable[[Path], list[int]]


def _utimens(path: Path, atime: int, mtime: int) -> None:
    """Call utimensat(2) with what Python has no words for."""
    times = (ctypes.c_long * 4)(0, atime, 0, mtime)
    assert _libc.utimensat(-100, os.fsencode(path), times, 0) == 0


def _with_descriptor(flags: int, use: Callable[[int], object]) -> Callable[[Path], None]:
    def call(path: Path) -> None:
        descriptor = os.open(path / "f", flags, 0o644)
        try:
            use(descriptor)
        finally:
            os.close(descriptor)

    return call


def _write_mapped(descriptor: int) -> None:
    with mmap.mmap(descriptor, 4096) as mapped:
        mapped[:3] = b"new"
        mapped.flush()


def _write_directly(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        os.write(descriptor, mmap.mmap(-1, 4096))
    finally:
        os.close(descriptor)


def _copy(path: Path) -> None:
    with (path / "g").open("rb") as source, (path / "f").open("r+b", buffering=0) as target:
        os.copy_file_range(source.fileno(), target.fileno(), 100)


def _nothing(path: Path) -> None:
    pass


def _file(path: Path) -> None:
    (path / "f").write_bytes(bytes(8192))
    (path / "g").write_bytes(bytes(8192))
    os.setxattr(path / "f", "user.old", b"x")


def _unread(path: Path) -> None:
    """Make something of each type whose access time is behind its change."""
    _file(path)
    (path / "d").mkdir()
    (path / "s").symlink_to("f")
    for name in ("f", "d", "s"):
        os.utime(path / name, ns=(1, time.time_ns()), follow_symlinks=False)


def _contents(path: Path) -> list[int]:
    status = (path / "f").stat()
    return [status.st_mtime_ns, status.st_ctime_ns]


def _attributes(path: Path) -> list[int]:
    return [(path / "f").lstat().st_ctime_ns]


def _new(path: Path) -> list[int]:
    status = (path / "new").lstat()
    times = [status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns]
    return [*times, *_parent(path)]


def _parent(path: Path) -> list[int]:
    return [path.stat().st_mtime_ns, path.stat().st_ctime_ns]


def _access(name: str) -> Callable[[Path], list[int]]:
    return lambda path: [(path / name).lstat().st_atime_ns]


def _moved(path: Path) -> list[int]:
    return [(path / "new").stat().st_ctime_ns, *_parent(path)]


_DIRECT = os.O_RDONLY | os.O_DIRECT
CALLS = {
    "write": Stamping(
        _file, _with_descriptor(os.O_WRONLY, lambda at: os.write(at, b"x")), _contents
    ),
    "append": Stamping(
        _file, _with_descriptor(os.O_WRONLY | os.O_APPEND, lambda at: os.write(at, b"x")), _contents
    ),
    "write through a map": Stamping(
        _file, _with_descriptor(os.O_RDWR, _write_mapped), lambda path: _contents(path)[:1]
    ),
    "direct write": Stamping(_file, lambda path: _write_directly(path / "f"), _contents),
    "copy": Stamping(_file, _copy, _contents),
    "posix_fallocate": Stamping(
        _file, _with_descriptor(os.O_RDWR, lambda at: os.posix_fallocate(at, 0, 20000)), _contents
    ),
    "truncate": Stamping(_file, lambda path: os.truncate(path / "f", 5), _contents),
    "extend": Stamping(_file, lambda path: os.truncate(path / "f", 50000), _contents),
    "empty": Stamping(_file, _with_descriptor(os.O_WRONLY | os.O_TRUNC, lambda _: None), _contents),
    "create": Stamping(_nothing, lambda path: (path / "new").open("x").close(), _new),
    "mknod": Stamping(_nothing, lambda path: os.mknod(path / "new"), _new),
    "mkfifo": Stamping(_nothing, lambda path: os.mkfifo(path / "new"), _new),
    "mkdir": Stamping(_nothing, lambda path: (path / "new").mkdir(), _new),
    "symlink": Stamping(_nothing, lambda path: (path / "new").symlink_to("x"), _new),
    "link": Stamping(_file, lambda path: os.link(path / "f", path / "new"), _moved),
    "unlink": Stamping(_file, lambda path: (path / "f").unlink(), _parent),
    "rmdir": Stamping(
        lambda path: (path / "d").mkdir(), lambda path: (path / "d").rmdir(), _parent
    ),
    "rename": Stamping(_file, lambda path: (path / "f").rename(path / "new"), _moved),
    "replace": Stamping(_file, lambda path: (path / "f").rename(path / "g"), _parent),
    "chmod": Stamping(_file, lambda path: (path / "f").chmod(0o600), _attributes),
    "chown": Stamping(_file, lambda path: os.chown(path / "f", -1, os.getegid()), _attributes),
    "setxattr": Stamping(
        _file, lambda path: os.setxattr(path / "f", "user.new", b"x"), _attributes
    ),
    "removexattr": Stamping(
        _file, lambda path: os.removexattr(path / "f", "user.old"), _attributes
    ),
    "touch": Stamping(
        _file, lambda path: os.utime(path / "f"), lambda path: _contents(path) + _access("f")(path)
    ),
    "touch -m": Stamping(
        _file, lambda path: _utimens(path / "f", _UTIME_OMIT, _UTIME_NOW), _contents
    ),
    "touch -a": Stamping(
        _file,
        lambda path: _utimens(path / "f", _UTIME_NOW, _UTIME_OMIT),
        lambda path: _access("f")(path) + _attributes(path),
    ),
    "touch directory": Stamping(_nothing, os.utime, _parent),
    "utimens": Stamping(_file, lambda path: os.utime(path / "f", ns=(1, 2)), _attributes),
    "read": Stamping(_unread, _with_descriptor(_DIRECT, lambda at: os.read(at, 10)), _access("f")),
    "readdir": Stamping(_unread, lambda path: os.listdir(path / "d"), _access("d")),
    "readlink": Stamping(_unread, lambda path: os.readlink(path / "s"), _access("s")),
}


@pytest.fixture(scope="module", params=["", "writeback_cache"])
def stamped(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[MountedImage]:
    base = tmp_path_factory.mktemp("times")
    options = ["-o", request.param] if request.param else []
    mounted = MountedImage(make_image(base / "test.img", "256M"), base / "mnt", *options)
    yield mounted
    mounted.close()


@pytest.fixture
def push(tmp_path: Path) -> Callable[[], None]:
    """Return a function that takes the kernel's stamps ahead of the coarse clock, if it can."""
    path = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path

    def act() -> None:
        # Who has seen a stamp gets the next one from the fine clock, where the kernel can.
        probe = path / f"lfs-test-{os.getpid()}"
        for _ in range(2):
            probe.write_bytes(b"x")
            probe.stat()
        probe.unlink()

    return act


@pytest.mark.parametrize("first", CALLS)
def test_later_of_two_changes_does_not_look_older(
    stamped: MountedImage, push: Callable[[], None], first: str
) -> None:
    for second in CALLS:
        for pushed in (False, True):
            base = stamped.path / f"{first}, {second}, {pushed}"
            one, other = base / "one", base / "other"
            for name, path in ((first, one), (second, other)):
                path.mkdir(parents=True)
                CALLS[name].prepare(path)
            if pushed:
                push()
            CALLS[first].act(one)
            CALLS[second].act(other)
            earlier, later = CALLS[first].stamps(one), CALLS[second].stamps(other)
            assert max(earlier) <= min(later), (first, second, pushed, earlier, later)
            shutil.rmtree(base)


@pytest.mark.parametrize("options", [(), ("-o", "writeback_cache")])
def test_stamps_that_were_shown_are_kept(
    image: Path, mount: Mounter, options: tuple[str, ...]
) -> None:
    def times(base: Path) -> dict[str, tuple[int, int]]:
        found = {path: path.lstat() for path in base.rglob("*")}
        return {
            str(path.relative_to(base)): (status.st_mtime_ns, status.st_ctime_ns)
            for path, status in found.items()
        }

    mounted = mount(image, *options)
    for name, call in CALLS.items():
        path = mounted.path / name
        path.mkdir()
        call.prepare(path)
        call.act(path)
    shown = times(mounted.path)
    # What the kernel collects it must not stamp with the time of writing it back.
    time.sleep(0.05)
    mounted.stop()
    assert times(mount(image, *options).path) == shown


def test_stamps_that_were_shown_are_kept_where_the_kernel_had_nothing_to_tell(
    image: Path, mount: Mounter
) -> None:
    """Of two changes in one tick the kernel tells the first; the second arrives in the next."""
    mounted = mount(image, "-o", "writeback_cache")
    shown = {}
    for number in range(25):
        path = mounted.path / str(number)
        path.touch()
        end_ns = time.monotonic_ns() + 10**9
        before = after = 0
        while before == after and time.monotonic_ns() < end_ns:
            before = coarse_ns()
            _write_directly(path)
            after = coarse_ns()
        if number % 2:
            time.sleep(0.01)
            os.truncate(path, path.stat().st_size)
        shown[path.name] = (path.stat().st_mtime_ns, path.stat().st_ctime_ns)
    mounted.stop()
    again = mount(image, "-o", "writeback_cache").path
    kept = {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in again.iterdir()
    }
    assert kept == shown


def test_times_that_users_set_stay(stamped: MountedImage) -> None:
    path = stamped.path / "set"
    for ahead_ns in (0, 5_000_000, 3600 * 10**9, -5_000_000):
        path.write_bytes(b"x")
        wanted = time.time_ns() + ahead_ns
        os.utime(path, ns=(wanted, wanted))
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (wanted, wanted)
        other = stamped.path / "other"
        other.write_bytes(b"x")
        assert other.stat().st_mtime_ns <= kernel_ns()


def test_stamps_follow_the_clock(stamped: MountedImage) -> None:
    path = stamped.path / "clock"
    before = coarse_ns()
    path.write_bytes(b"x")
    assert before <= path.stat().st_mtime_ns <= kernel_ns()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_finds_generated_files_up_to_date(stamped: MountedImage) -> None:
    path = stamped.path / "make"
    path.mkdir()
    rules = ["all: last"]
    names = ["first", *(f"step{number}" for number in range(40)), "last"]
    for number, (source, target) in enumerate(pairwise(names)):
        # By the shell's clock and by touch's in turn.
        made = "touch $@" if number % 2 else "echo x >$@"
        rules.append(f"{target}: {source}\n\t@echo made $@\n\t@{made}")
    (path / "Makefile").write_text("\n".join(rules) + "\n")
    (path / "first").write_text("x")
    runs = [
        subprocess.run(
            ["make", "-C", str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=HANG_SECONDS,
        ).stdout
        for _ in range(2)
    ]
    assert runs[0].count("made") == len(names) - 1
    assert "made" not in runs[1], runs[1]
