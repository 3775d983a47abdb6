"""Which inodes without a name go when the kernel lets go of them.

No lookup counts are kept.  The kernel forgets an inode when it drops it, as a whole; only
an orphan has to go then, and an orphan can't be looked up again.  Two orders of arrival
need care.  A ``forget`` that was queued while the inode was looked up once more may come
after its ``unlink``: what is open is safe by the core's count of opens.  And a ``forget``
may overtake the last ``release``, which then does what had to wait.  So memory holds two
sets of orphans and nothing else.

Held by ``tests/fuse/test_operations.py``.
"""

from __future__ import annotations

from lfs.filesystem import Filesystem, Inode


class Orphans:
    """The orphans of one mounted filesystem that the kernel still knows."""

    def __init__(self, filesystem: Filesystem) -> None:
        """Start with none."""
        self._filesystem = filesystem
        self._known: set[int] = set()
        self._forgotten: set[int] = set()
        """Those that are open, and that the kernel has dropped."""

    def __contains__(self, ino: int) -> bool:
        """Tell whether ``ino`` is one."""
        return ino in self._known

    def note(self, inode: Inode | None) -> None:
        """Take note of an inode that has lost a name, if one did."""
        if inode is not None and inode.nlink == 0:
            self._known.add(inode.ino)

    def forget(self, ino: int) -> None:
        """Remove an orphan that the kernel has dropped, once nobody has it open."""
        if self._filesystem.getattr(ino).open_count:
            self._forgotten.add(ino)
            return
        self._known.discard(ino)
        self._forgotten.discard(ino)
        self._filesystem.forget(ino)

    def released(self, ino: int) -> None:
        """Do what had to wait for the last user of ``ino``."""
        if ino in self._forgotten:
            self.forget(ino)

    def clear(self) -> None:
        """Note that there are none: the filesystem is read-only, and its image clean."""
        self._known.clear()
        self._forgotten.clear()
