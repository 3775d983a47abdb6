"""How many requests the kernel sends for a system call: the figures speed depends on.

Each count is exact.  One that grows makes a workload slower on every machine; one that
shrinks is a gain to be kept.  What only the kernel's timing decides (when a file that
was closed is released, when an inode is forgotten) is counted apart.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lfs.control.questions import read_counts
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse

FILES = 100
DEFERRED = ("release", "releasedir", "forget")
CONTENT = bytes(1024)

Names = list[Path]


class Kernel:
    """The requests that the kernel sends to one mount."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sent: Counter[str] = Counter()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count what is sent meanwhile."""
        read_counts(str(self.directory))
        before = read_counts(str(self.directory))
        yield
        self.sent = read_counts(str(self.directory)) - before
        for kind in DEFERRED:
            del self.sent[kind]

    def forget(self) -> None:
        """Let the kernel forget names, attributes and contents."""
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3")
        except OSError:
            pytest.skip("only root clears the kernel's caches")


@pytest.fixture
def kernel(image: Path, mount: Mounter) -> Kernel:
    return Kernel(mount(image).path)


@pytest.fixture
def names(kernel: Kernel) -> Names:
    """Return the paths of files that do not exist yet, in a directory of their own."""
    directory = kernel.directory / "d"
    directory.mkdir()
    # The kernel learns of the directory what every path through it needs.
    os.stat(directory)
    return [directory / str(number) for number in range(FILES)]


def make(path: Path, flags: int = os.O_CREAT | os.O_EXCL) -> None:
    descriptor = os.open(path, flags | os.O_WRONLY, 0o644)
    os.write(descriptor, CONTENT)
    os.close(descriptor)


def read(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.read(descriptor, 4096)
    os.close(descriptor)


def each(**counts: int) -> Counter[str]:
    """Return ``counts`` for each file."""
    return Counter({kind: count * FILES for kind, count in counts.items()})


def in_directory(**counts: int) -> Counter[str]:
    """Return ``counts`` for each file, where each is followed by a change of their directory.

    The kernel asks for the permissions of a directory again after it has changed it.
    """
    return each(**counts, getattr=1) - Counter(getattr=1)


def test_create_write_close(kernel: Kernel, names: Names) -> None:
    with kernel.watched():
        for name in names:
            make(name)
    # The kernel asks once for each inode whether it has capabilities to take away.
    assert kernel.sent == in_directory(lookup=1, create=1, getxattr=1, write=1)


def test_mkdir_and_rmdir(kernel: Kernel, names: Names) -> None:
    with kernel.watched():
        for name in names:
            name.mkdir()
    assert kernel.sent == in_directory(lookup=1, mkdir=1)
    os.stat(names[0].parent)
    with kernel.watched():
        for name in names:
            name.rmdir()
    assert kernel.sent == in_directory(rmdir=1)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        # Size and times are asked for when they are needed, and a read to the end needs the size.
        (os.stat, each(getattr=1)),
        (read, each(open=1, getattr=1, read=1)),
        (lambda name: make(name, os.O_TRUNC), each(open=1, write=1)),
        (os.unlink, in_directory(unlink=1)),
        (lambda name: os.rename(name, f"{name}-renamed"), in_directory(lookup=1, rename=1)),
        (lambda name: os.chmod(name, 0o600), each(setattr=1)),
        (lambda name: os.utime(name), each(setattr=1)),
    ],
    ids=["stat", "open-read-close", "rewrite", "unlink", "rename", "chmod", "utime"],
)
def test_of_files_just_written(
    kernel: Kernel, names: Names, work: Callable[[Path], None], expected: Counter[str]
) -> None:
    for name in names:
        make(name)
    os.stat(names[0].parent)
    with kernel.watched():
        for name in names:
            work(name)
    assert kernel.sent == expected


def test_what_the_kernel_knows_it_does_not_ask_for(kernel: Kernel, names: Names) -> None:
    for name in names:
        make(name)
        read(name)
        # Reading has changed the access time.
        os.stat(name)
    missing = [name.with_name(f"{name.name}-missing") for name in names]
    for name in missing:
        assert not name.exists()
    with kernel.watched():
        for name in names:
            os.stat(name)
        for name in missing:
            assert not name.exists()
    assert kernel.sent == Counter()
    with kernel.watched():
        for name in names:
            read(name)
    # The contents come from the kernel's cache.
    assert kernel.sent == each(open=1)


def test_stat_and_listing_of_files_that_it_forgot(kernel: Kernel, names: Names) -> None:
    for name in names:
        make(name)
    kernel.forget()
    with kernel.watched():
        for name in names:
            os.stat(name)
    assert kernel.sent == each(lookup=1) + Counter(lookup=1)
    kernel.forget()
    with kernel.watched():
        for entry in os.scandir(names[0].parent):
            entry.stat()
    # One reply holds the names and attributes of all but the sample, the next says that there
    # are no more.
    assert kernel.sent == Counter(lookup=2, opendir=1, readdir=2)


def test_listing_what_the_kernel_knows(kernel: Kernel, names: Names) -> None:
    for name in names:
        make(name)
    folder = names[0].parent
    for entry in os.scandir(folder):
        entry.stat()
    # The listing has changed the access time.
    os.stat(folder)
    with kernel.watched():
        found = {entry.name: (entry.inode(), entry.stat()) for entry in os.scandir(folder)}
    # The replies are brief, and nobody asks for more.
    assert kernel.sent == Counter(opendir=1, readdir=2)
    assert found.keys() == {name.name for name in names}
    for number, status in found.values():
        assert (number, status.st_size) == (status.st_ino, len(CONTENT))


def list_names(folder: Path) -> None:
    assert len(os.listdir(folder)) == FILES


def list_attributes(folder: Path) -> None:
    assert sum(entry.stat().st_size == len(CONTENT) for entry in os.scandir(folder)) == FILES


def test_who_wants_no_attributes_is_told_none(kernel: Kernel) -> None:
    folders = [kernel.directory / f"folder {number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
        for number in range(FILES):
            make(folder / str(number))
    kernel.forget()
    for folder in folders[:3]:
        list_names(folder)
    with kernel.watched():
        for folder in folders:
            for number in range(FILES):
                os.stat(folder / str(number))
    # The first listing told all but its sample.
    assert kernel.sent["lookup"] == 1 + 3 * FILES + 1
    kernel.forget()
    with kernel.watched():
        for folder in folders:
            list_attributes(folder)
    # What it asked for told that it wants attributes; only the samples are not listed with them.
    assert kernel.sent == Counter(lookup=4 + 1, opendir=4, readdir=8)


def test_writes_and_fsyncs(kernel: Kernel) -> None:
    descriptor = os.open(kernel.directory / "f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, CONTENT)
    with kernel.watched():
        for _ in range(FILES):
            os.write(descriptor, CONTENT)
            os.fsync(descriptor)
    assert kernel.sent == each(write=1, fsync=1)
    os.close(descriptor)


@pytest.mark.parametrize(("offset", "requests"), [(0, 1), (4096, 1), (1024, 2)])
def test_large_writes(kernel: Kernel, offset: int, requests: int) -> None:
    content = b"x" * (1 << 20)
    descriptor = os.open(kernel.directory / "f", os.O_CREAT | os.O_WRONLY)
    os.pwrite(descriptor, CONTENT, offset)
    with kernel.watched():
        for number in range(8):
            os.pwrite(descriptor, content, offset + number * len(content))
    os.close(descriptor)
    assert kernel.sent == Counter(write=8 * requests)


def test_reads_after_writes_need_no_attributes(kernel: Kernel) -> None:
    path = kernel.directory / "f"
    path.write_bytes(bytes(64 << 10))
    read(path)
    descriptor = os.open(path, os.O_RDWR)
    os.pread(descriptor, 64 << 10, 0)
    with kernel.watched():
        for number in range(FILES):
            os.pwrite(descriptor, CONTENT, number % 16 * 4096)
            assert os.pread(descriptor, 4096, number % 16 * 4096)[:1024] == CONTENT
    os.close(descriptor)
    assert kernel.sent == each(write=1)


def test_large_reads(kernel: Kernel) -> None:
    path = kernel.directory / "f"
    path.write_bytes(bytes(8 << 20))
    kernel.forget()
    with kernel.watched():
        assert len(path.read_bytes()) == 8 << 20
    assert kernel.sent["read"] <= (8 + 4 if os.geteuid() == 0 else 8 * 8 + 2)


def test_sqlite_transactions(kernel: Kernel) -> None:
    with closing(sqlite3.connect(kernel.directory / "db", isolation_level=None)) as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT)")
        with kernel.watched():
            for number in range(FILES):
                database.execute("INSERT INTO item (value) VALUES (?)", (f"value {number}",))
    assert kernel.sent.total() <= 29 * FILES + 10, kernel.sent
    assert kernel.sent["fsync"] + kernel.sent["fsyncdir"] == 4 * FILES


def test_untar(kernel: Kernel, names: Names, tmp_path: Path) -> None:
    archive = tmp_path / "tree.tar"
    with tarfile.open(archive, "w") as tar:
        for number in range(FILES):
            info = tarfile.TarInfo(f"tree/{number}")
            info.size = len(CONTENT)
            with open("/dev/zero", "rb") as zeros:
                tar.addfile(info, zeros)
    with kernel.watched():
        subprocess.run(["tar", "-xf", archive, "-C", kernel.directory], check=True)
    # Times, owner and permissions are set one by one, as programs run by root do.
    assert kernel.sent.total() <= 9.2 * FILES, kernel.sent
