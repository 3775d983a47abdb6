"""An inode in memory and its item: the same fields."""

from __future__ import annotations

from hypothesis import given

from lfs.inodes.inode import Inode
from lfs.ondisk import INODE, INODE_CUT, INODE_INLINE, InodeItem, unpack_inode
from tests.ondisk.samples import inode_items


@given(inode_items)
def test_inode_takes_and_tells_the_fields_of_its_item(item: InodeItem) -> None:
    inode = Inode(7, *unpack_inode(item.pack()))
    for name in INODE.attributes:
        assert getattr(inode, name) == getattr(item, name), name
    is_inline = bool(item.flags & INODE_INLINE)
    assert inode.inline == (item.inline if is_inline else None)
    assert inode.is_cut == bool(item.flags & INODE_CUT)
    stored = InodeItem.unpack(inode.pack())
    kept = {"flags": item.flags & (INODE_INLINE | INODE_CUT)}
    assert stored == item.replaced(**kept, inline=item.inline if is_inline else b"")


def test_blocks_that_were_cut_off_are_stored_as_mapped() -> None:
    item = InodeItem(mode=0o100644, uid=0, gid=0, nlink=1, blocks=9, flags=INODE_CUT)
    inode = Inode(7, *unpack_inode(item.pack()))
    inode.hide_cut_blocks(5)
    assert inode.blocks == 5
    assert InodeItem.unpack(inode.pack()) == item
