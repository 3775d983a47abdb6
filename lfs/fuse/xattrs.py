"""Extended attributes: those that are stored, and those that only tools ask for.

Before each write the kernel asks for ``security.capability``, which next to no
file has.  Which inodes lack one is remembered for the last
``WITHOUT_CAPABILITY_MAX`` of them, so that the answer costs no look into the
inode map.

The namespace ``system`` has virtual attributes only, by which ``lfs`` asks what
it would ask by ``ioctl`` elsewhere: ``lfs.cli.extents`` and ``lfs.cli.target``
are the other end.
"""

from __future__ import annotations

import errno

from lfs.cli.extents import extents_attribute_start, format_extents
from lfs.cli.target import TARGET_ATTRIBUTE
from lfs.errors import FilesystemError
from lfs.filesystem import Filesystem

WITHOUT_CAPABILITY_MAX = 65536
_CAPABILITY = b"security.capability"
_VIRTUAL = b"system."
_STORED = (b"user.", b"trusted.", b"security.")
_NO_CAPABILITY = "no capability"


class ExtendedAttributes:
    """The attributes of one mounted filesystem."""

    def __init__(self, filesystem: Filesystem, target: bytes) -> None:
        """Serve ``filesystem``, which lies on ``target``."""
        self._filesystem = filesystem
        self._target = target
        self._without_capability: set[int] = set()

    def get(self, ino: int, name: bytes) -> bytes:
        """Return a value; raises FilesystemError: ENODATA, EOPNOTSUPP in ``system``."""
        if name == _CAPABILITY:
            return self._capability(ino)
        if name.startswith(_VIRTUAL):
            return self._virtual(ino, name)
        _check_storable(name)
        return self._filesystem.getxattr(ino, name)

    def set(self, ino: int, name: bytes, value: bytes, now_ns: int) -> None:
        """Set an attribute; raises FilesystemError: EOPNOTSUPP in ``system``, ENOSPC."""
        _check_storable(name)
        if name == _CAPABILITY:
            self._without_capability.discard(ino)
        self._filesystem.setxattr(ino, name, value, now_ns)

    def remove(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an attribute; raises FilesystemError: ENODATA, EOPNOTSUPP in ``system``."""
        _check_storable(name)
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
            raise FilesystemError(errno.ENODATA, _NO_CAPABILITY)
        try:
            return self._filesystem.getxattr(ino, _CAPABILITY)
        except FilesystemError as error:
            if error.errno == errno.ENODATA:
                self.note_new(ino)
            raise

    def _virtual(self, ino: int, name: bytes) -> bytes:
        if name == TARGET_ATTRIBUTE:
            return self._target
        first = extents_attribute_start(name)
        if first is None:
            raise FilesystemError(errno.EOPNOTSUPP)
        return format_extents(self._filesystem.extents(ino)[first:])


def _check_storable(name: bytes) -> None:
    """Raise EOPNOTSUPP unless a namespace that is stored holds ``name``, EINVAL when it is all."""
    namespace, dot, rest = name.partition(b".")
    if namespace + dot not in _STORED:
        raise FilesystemError(errno.EOPNOTSUPP)
    if not rest:
        raise FilesystemError(errno.EINVAL)
