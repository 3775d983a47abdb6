"""Extended attributes: those that are stored.

Before each write the kernel asks for ``security.capability``, which next to no
file has.  Which inodes lack one is remembered for the last
``WITHOUT_CAPABILITY_MAX`` of them, so that the answer costs no look into the
inode map.

The namespace ``system`` has the two access control lists, of which the core
remembers who has none.  With ``enable_acl`` the kernel reads them as attributes, keeps
them, and checks by them; that new inodes inherit them, and that list and mode agree, is
the core's doing.  What is asked at the door (``lfs.fuse.door``) does not come here.

Held by ``tests/fuse/test_operations.py``.
"""

from __future__ import annotations

import errno
import stat

from pyfuse3 import FUSEError, RequestContext

from lfs.common.errors import FilesystemError
from lfs.files import acl
from lfs.filesystem import Filesystem
from lfs.fuse.callers import may_keep_setgid

WITHOUT_CAPABILITY_MAX = 65536
_CAPABILITY = b"security.capability"
_STORED = (b"user.", b"trusted.", b"security.")


class ExtendedAttributes:
    """The attributes of one mounted filesystem."""

    def __init__(self, filesystem: Filesystem) -> None:
        """Serve ``filesystem``."""
        self._filesystem = filesystem
        self._without_capability: set[int] = set()

    def get(self, ino: int, name: bytes) -> bytes:
        """Return a value; raises ENODATA, and EOPNOTSUPP in ``system``."""
        if name == _CAPABILITY:
            return self._capability(ino)
        _check_storable(name)
        return self._filesystem.getxattr(ino, name)

    def set(self, ino: int, name: bytes, value: bytes, now_ns: int, ctx: RequestContext) -> None:
        """Set an attribute; raises FilesystemError: EOPNOTSUPP in ``system``, ENOSPC."""
        _check_storable(name)
        if name == _CAPABILITY:
            self._without_capability.discard(ino)
        clear_setgid = name == acl.ACCESS and not self._may_keep_setgid(ino, ctx)
        self._filesystem.setxattr(ino, name, value, now_ns, 0, clear_setgid, ctx.uid == 0)

    def remove(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an attribute; raises FilesystemError: ENODATA, EOPNOTSUPP in ``system``.

        An access control list need not exist, as on other filesystems.
        """
        _check_storable(name)
        if name in acl.NAMES:
            self._filesystem.setxattr(ino, name, b"", now_ns)
        else:
            self._filesystem.removexattr(ino, name, now_ns)

    def names(self, ino: int) -> list[bytes]:
        """Return the names of the stored attributes."""
        return self._filesystem.listxattr(ino)

    def note_new(self, ino: int) -> None:
        """Take note of an inode that was just made and has no attributes."""
        if len(self._without_capability) >= WITHOUT_CAPABILITY_MAX:
            self._without_capability.clear()
        self._without_capability.add(ino)

    def _capability(self, ino: int) -> bytes:
        if ino in self._without_capability:
            # Asked for each new file: what the kernel is told at once, without a second error.
            raise FUSEError(errno.ENODATA)
        try:
            return self._filesystem.getxattr(ino, _CAPABILITY)
        except FilesystemError as error:
            if error.errno == errno.ENODATA:
                self.note_new(ino)
            raise

    def _may_keep_setgid(self, ino: int, ctx: RequestContext) -> bool:
        inode = self._filesystem.getattr(ino)
        return not inode.mode & stat.S_ISGID or may_keep_setgid(ctx, inode.gid)


def _check_storable(name: bytes) -> None:
    """Raise EOPNOTSUPP unless a namespace that is stored holds ``name``, EINVAL when it is all."""
    namespace, dot, rest = name.partition(b".")
    if namespace + dot not in _STORED and name not in acl.NAMES:
        raise FilesystemError(errno.EOPNOTSUPP)
    if not rest:
        raise FilesystemError(errno.EINVAL)
