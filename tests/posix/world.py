"""What the conditions find on the disk: one mounted tree for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mounted.test_attributes import as_user


@dataclass(frozen=True)
class World:
    """A directory of a test's own, and mounts that all tests share."""

    path: str
    read_only: str
    """The root of a read-only mount with ``file`` and ``directory`` in it."""
    full: str
    """The root of a full filesystem with ``file`` in it."""
    other: str
    """A directory on another filesystem."""

    @staticmethod
    def made(path: Path, read_only: Path, full: Path, other: Path) -> World:
        """Fill ``path`` with what its properties name."""
        world = World(str(path), str(read_only), str(full), str(other))
        path.chmod(0o755)
        Path(world.file).write_bytes(b"content")
        for directory in (world.directory, world.guarded, world.sticky, world.shut):
            os.mkdir(directory)
        Path(world.directory, "inside").write_bytes(b"")
        Path(world.sticky, "name").write_bytes(b"")
        os.mkdir(f"{world.sticky}/directory")
        os.chmod(world.sticky, 0o1777)
        Path(world.private).write_bytes(b"")
        os.chmod(world.private, 0o600)
        Path(world.closed).write_bytes(b"")
        os.chmod(world.shut, 0o600)
        os.symlink("loop", world.loop)
        os.symlink("file", world.link)
        os.mkfifo(world.fifo)
        return world

    def as_user(self, work: Callable[[], object]) -> None:
        """Run ``work`` as an ordinary user; raise the error that it ends with."""
        code = as_user(Path("/"), work)
        if code:
            raise OSError(code, os.strerror(code))

    @property
    def file(self) -> str:
        """Return a file with a few bytes, root's."""
        return f"{self.path}/file"

    @property
    def directory(self) -> str:
        """Return a directory that is not empty."""
        return f"{self.path}/directory"

    @property
    def guarded(self) -> str:
        """Return a directory that an ordinary user may not write to."""
        return f"{self.path}/guarded"

    @property
    def sticky(self) -> str:
        """Return a directory of all, with ``name`` and ``directory`` of root in it."""
        return f"{self.path}/sticky"

    @property
    def private(self) -> str:
        """Return a file that an ordinary user may not read."""
        return f"{self.path}/private"

    @property
    def shut(self) -> str:
        """Return a directory that an ordinary user may not search."""
        return f"{self.path}/shut"

    @property
    def closed(self) -> str:
        """Return a name behind ``shut``."""
        return f"{self.shut}/name"

    @property
    def loop(self) -> str:
        """Return a symlink to itself."""
        return f"{self.path}/loop"

    @property
    def link(self) -> str:
        """Return a symlink to ``file``."""
        return f"{self.path}/link"

    @property
    def fifo(self) -> str:
        """Return a fifo that nobody has open."""
        return f"{self.path}/fifo"
