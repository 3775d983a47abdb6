"""A filesystem that does nothing, with nothing in its way: the least that any in Python can take.

Beside ``bench.ceilings.ceiling``, which keeps a node and attributes for each file, this one

- makes its attributes once, one object for each kind of file: only number and size
  change from reply to reply, and pyfuse3 has copied them before the next one;
- looks nothing up but names, of which a directory is one dictionary: the number of a file says
  what it is, and its handle is its number;
- keeps what is written at the start of a file as the buffer that came.

So modes, owners and times are the same everywhere and are not kept.  It is asked what
lfs is asked, which a test holds.

``python -m bench.ceilings.lean DIRECTORY [OPTIONS]`` serves until it is unmounted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

import pyfuse3

from bench.ceilings.ceiling import Content, main
from bench.ceilings.kept import KeptInMemory
from lfs.fuse.replies import VALID_SECONDS, missing_entry

# The kind of a file is its number modulo four, which makes the root a directory.
_DIRECTORY, _FILE, _LINK = 1, 2, 3
_STEP = 4
_MODES = {
    _DIRECTORY: stat.S_IFDIR | 0o755,
    _FILE: stat.S_IFREG | 0o644,
    _LINK: stat.S_IFLNK | 0o777,
}
# So many that tar and cp take no file for a sparse one.
_SECTORS = 1 << 22


def _attributes_of(kind: int) -> pyfuse3.EntryAttributes:
    attributes = pyfuse3.EntryAttributes()
    attributes.st_mode = pyfuse3.ModeT(_MODES[kind])
    attributes.st_nlink = 1
    attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
    attributes.st_blksize = 4096
    attributes.st_blocks = _SECTORS
    attributes.entry_timeout = attributes.attr_timeout = VALID_SECONDS
    return attributes


class LeanCeiling(KeptInMemory):
    """Every request is answered at once, most of them without a look at anything."""

    def __init__(self) -> None:
        """Start with an empty root."""
        super().__init__()
        self._names: dict[int, dict[bytes, int]] = {int(pyfuse3.ROOT_INODE): {}}
        self._contents: dict[int, bytes | Content] = {}
        self._made = 0
        self._attributes = [_attributes_of(kind or _FILE) for kind in range(_STEP)]
        self._absent = missing_entry()
        self._info = pyfuse3.FileInfo(keep_cache=True)

    def _reply(self, ino: int) -> pyfuse3.EntryAttributes:
        attributes = self._attributes[ino % _STEP]
        attributes.st_ino = pyfuse3.InodeT(ino)
        attributes.st_size = len(self._contents.get(ino, b""))
        return attributes

    def _new(self, parent: int, name: bytes, kind: int) -> pyfuse3.EntryAttributes:
        """Make a file; the kernel has looked for its name and found none."""
        self._made += _STEP
        ino = self._names[parent][name] = self._made + kind
        attributes = self._attributes[kind]
        attributes.st_ino = pyfuse3.InodeT(ino)
        attributes.st_size = 0
        return attributes

    def _opened(self, ino: int) -> pyfuse3.FileInfo:
        self._info.fh = pyfuse3.FileHandleT(ino)
        return self._info

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a name; ``.`` comes from ``open_by_handle_at``."""
        ino = parent_inode if name == b"." else self._names[parent_inode].get(name)
        return self._absent if ino is None else self._reply(ino)

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Return number, kind and size."""
        return self._reply(inode)

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change the size."""
        if fields.update_size:
            self._content(inode).resize(attr.st_size)
        return self._reply(inode)

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make and open a file."""
        attributes = self._new(parent_inode, name, _FILE)
        return self._opened(attributes.st_ino), attributes

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a directory."""
        attributes = self._new(parent_inode, name, _DIRECTORY)
        self._names[attributes.st_ino] = {}
        return attributes

    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        target: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a symlink."""
        ino = self._new(parent_inode, name, _LINK).st_ino
        self._contents[ino] = target
        return self._reply(ino)

    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symlink's target."""
        target = self._contents[inode]
        assert isinstance(target, bytes)
        return target

    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Remove a name, and the contents even of a file that is open."""
        self._contents.pop(self._names[parent_inode].pop(name), None)

    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Remove an empty directory."""
        names = self._names[parent_inode]
        if self._names[names[name]]:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        del self._names[names.pop(name)]

    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: bytes,
        parent_inode_new: pyfuse3.InodeT,
        name_new: bytes,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Move a name."""
        ino = self._names[parent_inode_old].pop(name_old)
        self._names[parent_inode_new][name_new] = ino

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Have nothing that waits to be forgotten."""

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """Open a file, whose handle is its number; the kernel leaves ``O_TRUNC`` to this."""
        if flags & os.O_TRUNC:
            self._contents.pop(inode, None)
        return self._opened(inode)

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List a directory."""
        entries = list(self._names[fh].items())
        for position, (name, ino) in enumerate(entries[start_id:], start_id + 1):
            reply = self._reply(ino)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), reply, position):
                break

    def _content(self, ino: int) -> Content:
        """Return contents that can be changed in any place."""
        kept = self._contents.get(ino, b"")
        if isinstance(kept, bytes):
            content = self._contents[ino] = Content()
            content.write(0, kept)
            return content
        return kept

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Read."""
        kept = self._contents.get(fh, b"")
        return kept[off : off + size] if isinstance(kept, bytes) else kept.read(off, size)

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        """Write."""
        if off or fh in self._contents:
            self._content(fh).write(off, buf)
        else:
            self._contents[fh] = buf
        return len(buf)


if __name__ == "__main__":
    main(LeanCeiling())
