"""Names with the same hash: where each may be, and what is left where one was.

Theory.  Items of names with the same hash lie one after the other from the place that
the hash gives (FORMAT.md, "Keys"); a search ends at the first place without an item, so
that a name whose hash nobody has is known to be missing after one look.  An item
never moves, because a listing that goes on from a place must neither miss nor repeat
what was there all the time.  So where an item goes while others follow it, a mark is
left, smaller than any item; the next new name of the hash takes its place, and marks that
nothing follows go with the last item.

Held by ``tests/files/test_directory.py``.
"""

from __future__ import annotations

from lfs.imap.map import Imap
from lfs.ondisk import HASH_COLLISIONS, Change, pack_key, unpack_key


def removal(imap: Imap, key: bytes, stride: int, mark: bytes, new_key: bytes = b"") -> list[Change]:
    """Return how to remove the item at ``key``; raises DamageError, and nothing has changed.

    Items of one hash are ``stride`` apart.  ``new_key`` will have an item when the changes
    are made, as if it had one already.
    """
    ino, kind, offset = unpack_key(key)
    start = offset & -stride * HASH_COLLISIONS
    following = offset + stride
    if following < start + stride * HASH_COLLISIONS:
        following_key = pack_key(ino, kind, following)
        if following_key == new_key or imap.get(following_key) is not None:
            return [(key, mark)]
    changes: list[Change] = [(key, None)]
    while offset > start:
        offset -= stride
        before = pack_key(ino, kind, offset)
        if before == new_key or imap.get(before) != mark:
            break
        changes.append((before, None))
    return changes


def apply(imap: Imap, changes: list[Change]) -> None:
    """Make changes that ``removal`` returned; needs no space and can't fail."""
    for key, value in changes:
        if value is None:
            imap.delete(key)
        else:
            imap.put(key, value)
