"""Recording real programs: ``python -m tests.crash.workloads.tracing [NAME...]``.

Mounts a new image with a filesystem that notes its calls, runs a program on it,
and writes what it asked for to ``traces/NAME.txt``.  The kernel names inodes;
a trace names paths, and by handle what is still open when its last name goes.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

from lfs.files import acl
from lfs.filesystem import Filesystem
from lfs.kernel.mountpoint import find_mount, unmount
from lfs.mount import session
from lfs.mount.options import MountOptions
from lfs.ondisk import ROOT_INO
from tests.crash.workloads.names import TRACE_DIRECTORY
from tests.crash.workloads.traces import write_trace
from tests.support.client import Data
from tests.support.mounting import command, environment, make_image, wait_until

Call = tuple[object, ...]


class TracedFilesystem(Filesystem):
    """A filesystem that notes the calls that change it, by path."""

    def __init__(self, *arguments: Any) -> None:
        """Start with nothing but the root."""
        super().__init__(*arguments)
        self.calls: list[Call] = []
        self._places: dict[int, list[tuple[int, bytes]]] = {}
        self._open_orphans: set[int] = set()
        recorded.append(self)

    def _path(self, ino: int) -> bytes:
        if ino == ROOT_INO:
            return b""
        parent, name = self._places[ino][0]
        return self._path(parent) + b"/" + name

    def _place(self, parent: int, name: bytes) -> bytes:
        return self._path(parent) + b"/" + name

    def _note(self, *call: object) -> None:
        self.calls.append(call)

    # ------------------------------------------------------------------------ names

    def create(self, parent: int, name: bytes, mode: int, *rest: Any) -> Any:
        """Note ``create``."""
        inode = super().create(parent, name, mode, *rest)
        rdev, umask = (*rest[3:], 0, 0)[:2]
        self._note("create", self._place(parent, name), mode, rdev, umask)
        self._places[inode.ino] = [(parent, name)]
        return inode

    def mkdir(self, parent: int, name: bytes, mode: int, *rest: Any) -> Any:
        """Note ``mkdir``."""
        inode = super().mkdir(parent, name, mode, *rest)
        self._note("mkdir", self._place(parent, name), mode, *rest[3:])
        self._places[inode.ino] = [(parent, name)]
        return inode

    def symlink(self, parent: int, name: bytes, target: bytes, *rest: Any) -> Any:
        """Note ``symlink``."""
        inode = super().symlink(parent, name, target, *rest)
        self._note("symlink", self._place(parent, name), target)
        self._places[inode.ino] = [(parent, name)]
        return inode

    def link(self, ino: int, parent: int, name: bytes, *rest: Any) -> Any:
        """Note ``link``."""
        inode = super().link(ino, parent, name, *rest)
        self._note("link", self._path(ino), self._place(parent, name))
        self._places[ino].append((parent, name))
        return inode

    def _keep_open(self, parent: int, name: bytes) -> None:
        """Note an ``open`` of what is about to lose its last name while it is open."""
        inode = self.lookup(parent, name)
        if inode.nlink == 1 and inode.open_count and not inode.is_directory:
            self._note("open", inode.ino, self._place(parent, name))
            self._open_orphans.add(inode.ino)

    def unlink(self, parent: int, name: bytes, now_ns: int) -> Any:
        """Note ``unlink``."""
        self._keep_open(parent, name)
        inode = super().unlink(parent, name, now_ns)
        self._note("unlink", self._place(parent, name))
        self._places[inode.ino].remove((parent, name))
        return inode

    def rmdir(self, parent: int, name: bytes, now_ns: int) -> Any:
        """Note ``rmdir``."""
        inode = super().rmdir(parent, name, now_ns)
        self._note("rmdir", self._place(parent, name))
        del self._places[inode.ino]
        return inode

    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        now_ns: int,
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Any:
        """Note ``rename``."""
        assert not flags, "no program recorded here exchanges names"
        moved = self.lookup(parent, name).ino
        replaced = [ino for ino, names in self._places.items() if (new_parent, new_name) in names]
        for _ in replaced:
            self._keep_open(new_parent, new_name)
        self._note("rename", self._place(parent, name), self._place(new_parent, new_name), 0)
        lost = super().rename(parent, name, new_parent, new_name, now_ns)
        for ino in replaced:
            self._places[ino].remove((new_parent, new_name))
        self._places[moved].remove((parent, name))
        self._places[moved].append((new_parent, new_name))
        return lost

    # --------------------------------------------------------------------- contents

    def release(self, ino: int) -> None:
        """Note ``close`` of what has no name any more."""
        super().release(ino)
        if ino in self._open_orphans and not self.getattr(ino).open_count:
            self._note("close", ino)
            self._open_orphans.discard(ino)

    def write(self, ino: int, offset: int, data: bytes, *rest: Any) -> int:
        """Note ``write`` or ``write_handle``; of the data only how long it is."""
        written = super().write(ino, offset, data, *rest)
        content = Data(len(self.calls), len(data))
        if ino in self._open_orphans:
            self._note("write_handle", ino, offset, content)
        else:
            self._note("write", self._path(ino), offset, content)
        return written

    def setattr(self, ino: int, now_ns: int, **changes: Any) -> Any:
        """Note each attribute as a request of its own."""
        inode = super().setattr(ino, now_ns, **changes)
        if ino in self._open_orphans:
            if changes.get("size") is not None:
                self._note("truncate_handle", ino, changes["size"])
            return inode
        path = self._path(ino)
        if changes.get("size") is not None:
            self._note("truncate", path, changes["size"])
        if changes.get("mode") is not None:
            self._note("chmod", path, changes["mode"])
        if changes.get("uid") is not None or changes.get("gid") is not None:
            self._note("chown", path, inode.uid, inode.gid)
        if changes.get("mtime_ns") is not None:
            self._note("utime", path, len(self.calls))
        return inode

    def setxattr(self, ino: int, name: bytes, value: bytes, *rest: Any) -> None:
        """Note ``setxattr``."""
        super().setxattr(ino, name, value, *rest)
        other = value if name in acl.NAMES else Data(len(self.calls), len(value))
        self._note("setxattr", self._path(ino), name, other, 0)

    def begin_commit(self, now_ns: int) -> int:
        """Note ``sync``."""
        ticket = super().begin_commit(now_ns)
        self._note("sync")
        return ticket


recorded: list[TracedFilesystem] = []


# ----------------------------------------------------------------------- the programs


def _git(place: Path) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]

    def run(*arguments: str) -> None:
        fixed = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
        subprocess.run(
            ["git", *identity, *arguments], cwd=place, check=True, env=os.environ | fixed
        )

    run("init", "-q", "--template=")
    (place / "part").mkdir()
    for number in range(8):
        path = place / ("part" if number % 2 else ".") / f"file{number}"
        path.write_text(f"line {number}\n" * (10 + 300 * number))
    run("add", "-A")
    run("commit", "-q", "-m", "First")
    (place / "file2").write_text("changed\n" * 500)
    (place / "part" / "file3").unlink()
    (place / "part" / "more").write_bytes(Data(1, 20_000).bytes())
    run("add", "-A")
    run("-c", "core.fsync=all", "commit", "-q", "-m", "Second")
    run("gc", "-q")


def _sqlite(mode: str) -> Callable[[Path], None]:
    def change_database(place: Path) -> None:
        with closing(sqlite3.connect(place / "database", isolation_level=None)) as database:
            database.execute(f"PRAGMA journal_mode={mode}")
            database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value BLOB)")
            for number in range(14):
                database.execute("BEGIN")
                rows = [(Data(index, 10 + index * 231 % 2000).bytes(),) for index in range(20)]
                database.executemany("INSERT INTO item (value) VALUES (?)", rows)
                database.execute("DELETE FROM item WHERE id % 7 = ?", (number % 7,))
                database.execute("ROLLBACK" if number % 5 == 4 else "COMMIT")

    return change_database


def _tar(place: Path) -> None:
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for number in range(60):
            info = tarfile.TarInfo(f"tree/part{number // 10}/file{number}")
            info.mode, info.mtime = 0o600 + number % 64, 1_600_000_000 + number
            if number % 10 == 0:
                directory = tarfile.TarInfo(f"tree/part{number // 10}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
            if number % 13 == 5:
                info.type, info.linkname = tarfile.SYMTYPE, f"file{number - 1}"
            elif number % 13 == 6:
                info.type, info.linkname = (
                    tarfile.LNKTYPE,
                    f"tree/part{number // 10}/file{number - 2}",
                )
            else:
                info.size = number * 7919 % (30_000 if number % 7 == 0 else 2000)
            content = Data(number, info.size).bytes()
            tar.addfile(info, BytesIO(content))
    subprocess.run(["tar", "-xpf", "-"], input=archive.getvalue(), cwd=place, check=True)


PROGRAMS: dict[str, Callable[[Path], None]] = {
    "git": _git,
    "sqlite-wal": _sqlite("wal"),
    "sqlite-delete": _sqlite("delete"),
    "tar": _tar,
}


# ---------------------------------------------------------------------------- mounting


def serve(image: str, place: str, trace: str) -> None:
    """Mount until unmounted, then write the trace."""
    with mock.patch.object(session, "Filesystem", TracedFilesystem):
        session.serve(session.MountRequest(image, place, MountOptions()), lambda: None)
    name = Path(trace).stem
    remark = f"{name}, recorded by python -m tests.crash.workloads.tracing {name}"
    write_trace(Path(trace), remark, recorded[0].calls)


def record_program(name: str) -> None:
    """Run a program on a new image and write its trace."""
    with tempfile.TemporaryDirectory(prefix="lfs-record-") as work:
        image, place = make_image(Path(work) / "disk.img"), Path(work) / "mounted"
        place.mkdir()
        trace = TRACE_DIRECTORY / f"{name}.txt"
        server = subprocess.Popen(
            command("tests.crash.workloads.tracing", "--serve", image, place, trace),
            env=environment(),
        )
        wait_until(lambda: find_mount(str(place)) is not None, "it is mounted")
        try:
            PROGRAMS[name](place)
        finally:
            unmount(str(place))
            server.wait()
    print(f"{trace}: {len(trace.read_text().splitlines())} lines")


def main(arguments: list[str]) -> None:
    """Record the programs named, or all."""
    if arguments[:1] == ["--serve"]:
        serve(*arguments[1:])
        return
    for name in arguments or PROGRAMS:
        record_program(name)


if __name__ == "__main__":
    main(sys.argv[1:])
