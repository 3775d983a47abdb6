"""Extended attributes, and the access lists that are set by way of them.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

from lfs.files import acl
from lfs.requests.core import Core
from lfs.volume.arguments import check_bytes, check_number


class AttributeRequests:
    """Extended attributes and access lists."""

    core: Core

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Return an extended attribute; raises ENODATA."""
        if type(name) is not bytes:
            check_bytes("name", name)
        inode = self.core.inodes.begin(ino)
        if name in acl.NAMES:
            return self.core.access.get(inode, name)
        return self.core.attributes.get(inode, name)

    def setxattr(
        self,
        ino: int,
        name: bytes,
        value: bytes,
        now_ns: int,
        flags: int = 0,
        clear_setgid: bool = False,
        privileged: bool = False,
    ) -> None:
        """Set an extended attribute; ``flags`` 1 creates only, 2 replaces only.

        An access list (``acl.ACCESS``) also sets the permissions of the mode and,
        with ``clear_setgid``, takes the set-group-ID bit.  One that says no more
        than a mode is not kept; an empty list removes.
        """
        check_bytes("name", name)
        check_bytes("value", value)
        check_number("flags", flags, 0, 3)
        self.core.begin(now_ns)
        inode = self.core.inodes.get(ino)
        if name in acl.NAMES:
            self.core.access.set(inode, name, value, now_ns, flags, clear_setgid, privileged)
        else:
            self.core.attributes.set(inode, name, value, now_ns, flags, privileged)
        self.core.end()

    def removexattr(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an extended attribute; raises ENODATA."""
        check_bytes("name", name)
        self.core.begin(now_ns)
        inode = self.core.inodes.get(ino)
        if name in acl.NAMES:
            self.core.access.remove(inode, name, now_ns)
        else:
            self.core.attributes.remove(inode, name, now_ns)
        self.core.end()

    def listxattr(self, ino: int) -> list[bytes]:
        """Return the names of the extended attributes."""
        return self.core.attributes.names(self.core.inodes.begin(ino))
