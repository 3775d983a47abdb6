"""What inodes say of themselves, and who uses them.

An inode without a name stays as long as somebody uses it; ``forget`` is where the last
user's going is noted.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.common.errors import FilesystemError
from lfs.inodes.inode import Inode
from lfs.ondisk import TIME_NS_MAX, TIME_NS_MIN
from lfs.requests.core import Core
from lfs.volume.arguments import check_changes


class InodeRequests:
    """Inodes: what they say of themselves, and who uses them."""

    core: Core

    def getattr(self, ino: int) -> Inode:
        """Return inode ``ino``; raises ESTALE."""
        return self.core.inodes.begin(ino)

    def setattr(
        self,
        ino: int,
        now_ns: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        privileged: bool = False,
    ) -> Inode:
        """Change attributes; None leaves one alone.

        ``mode`` changes the permissions only, and with them the access list.  A time
        that the format can't hold becomes the nearest that it can.
        """
        core = self.core
        core.begin(now_ns)
        check_changes(mode, uid, gid, size, atime_ns, mtime_ns)
        inode = core.inodes.get(ino)
        change = None if mode is None else core.access.mode_change(inode, mode)
        if size is not None:
            if not inode.is_regular:
                raise FilesystemError(errno.EISDIR if inode.is_directory else errno.EINVAL)
            core.data.truncate(inode, size, now_ns, privileged)
        if change is not None:
            core.access.change_mode(inode, change)
        if uid is not None:
            inode.uid = uid
        if gid is not None:
            inode.gid = gid
        if atime_ns is not None:
            inode.atime_ns = _storable(atime_ns)
        if mtime_ns is not None:
            inode.mtime_ns = _storable(mtime_ns)
        inode.ctime_ns = now_ns
        core.inodes.mark_dirty(inode)
        core.end()
        return inode

    def open(self, ino: int) -> Inode:
        """Count one more user of ``ino``: it stays when its last name goes."""
        inode = self.core.inodes.begin(ino)
        inode.open_count += 1
        return inode

    def release(self, ino: int) -> None:
        """Count one user of ``ino`` less; raises EBADF when it has none."""
        inode = self.core.inodes.get(ino)
        if inode.open_count == 0:
            raise FilesystemError(errno.EBADF, f"inode {ino} is not open")
        inode.open_count -= 1

    def forget(self, ino: int) -> None:
        """Remove ``ino`` if it has neither a name nor a user; otherwise do nothing.

        Nobody finds it any more; what is left of a large one goes in later steps.
        """
        core = self.core
        inodes, volume = core.inodes, core.volume
        if ino not in inodes.orphans or ino in inodes.leaving or volume.read_only or volume.failed:
            return
        inode = inodes.get(ino)
        if not inode.open_count:
            core.give_up(inode)


def _storable(time_ns: int) -> int:
    """Return the time nearest to ``time_ns`` that an inode can hold."""
    return min(max(time_ns, TIME_NS_MIN), TIME_NS_MAX)
