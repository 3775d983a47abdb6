"""Keys of the imap and how names become offsets in them (FORMAT.md, "Keys").

Keys are compared as byte strings, so their integers are big-endian.

Held by ``tests/ondisk/test_structures.py``.
"""

from collections.abc import Callable

from lfs.ondisk.layout import U8, U64, Layout


class Key:
    """A key of the imap."""

    ino: U64
    kind: U8
    offset: U64


KEY_BYTES = 17
KEY = Layout(Key, KEY_BYTES, order=">")
KEY_KIND = KEY.offset("kind")
"""Which byte of a key is its kind; the inode number is before it."""

KIND_INODE = 0
KIND_XATTR = 1
KIND_WINDOW = 2
KIND_ENTRY = 3
KIND_ORPHAN = 4
KIND_CUT = 9
SYSTEM_INO = 0

ROOT_INO = 1
INO_MAX = (1 << 62) - 1
"""The largest inode number: twice as much, and one more, is a file handle."""
SEQUENCE_MAX = (1 << 62) - 1
"""The largest sequence number and checkpoint number that is believed: neither ends in practice."""


pack_key: Callable[[int, int, int], bytes] = KEY.struct.pack
"""Return the imap key of item ``kind`` at ``offset`` of inode ``ino``, given in this order."""


def unpack_key(key: bytes) -> tuple[int, int, int]:
    """Return ``(ino, kind, offset)`` of an imap key."""
    ino, kind, offset = KEY.struct.unpack(key)
    return ino, kind, offset


# Hashes leave the low 8 bits of a key's offset to colliding names.  Offsets of
# entries stay positive as signed 63-bit values, because readdir returns them.
HASH_COLLISIONS = 256
ENTRY_OFFSET_FLAG = 1 << 62


def entry_offset(name_hash: int) -> int:
    """Return the key offset of the first directory entry whose name has this 64-bit hash."""
    return ENTRY_OFFSET_FLAG | (name_hash >> 2 & ~0xFF & (ENTRY_OFFSET_FLAG - 1))


def xattr_offset(name_hash: int) -> int:
    """Return the key offset of the first chunk of the first attribute with this hash."""
    return name_hash & ~0xFFFF


XATTR_CHUNKS = 256
