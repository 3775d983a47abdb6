"""Every persistent structure, and nothing else.  FORMAT.md is its specification.

Each structure is declared once, by the class that has its fields (``layout``), and has a
pure ``pack`` and ``unpack``.  ``unpack`` checks magic, checksum, filesystem, own address
and every length before it returns, and raises ``DamageError``: nothing above this package
sees bytes that were not checked.  Sizes are asserted when the modules load.  There is one
module for each group of structures; importers take all names from here: what is imported
below is what the package has.

All integers are little-endian, except those in imap keys: keys are compared as
byte strings, so their integers are big-endian.
"""

from __future__ import annotations

from lfs.ondisk.access_list import (
    ACL_BYTES_MAX,
    ACL_GROUP,
    ACL_MASK,
    ACL_NAMED_GROUP,
    ACL_NO_NUMBER,
    ACL_OTHERS,
    ACL_OWNER,
    ACL_USER,
    ACL_VERSION,
    AccessEntry,
    is_access_list_length,
    pack_access_list,
    unpack_access_list,
)
from lfs.ondisk.block import (
    NO_BLOCK,
    Pointer,
    block_seal_holds,
    block_sequence,
)
from lfs.ondisk.checkpoint import (
    CHECKPOINT_CLEAN,
    CHECKPOINT_MAGIC,
    USAGE_PAGE_COUNT_MAX,
    Checkpoint,
)
from lfs.ondisk.data import (
    ESCAPE_CHECKSUM_BITS,
    RESERVED_MAGICS,
    is_reserved,
    original_data,
    stored_data,
)
from lfs.ondisk.items import (
    ADDRESS_BITS,
    EXTENT_BYTES,
    FILE_BYTES_MAX,
    GENERATION_MAX,
    INODE,
    INODE_BYTES,
    INODE_CUT,
    INODE_INLINE,
    LINK_COUNT_MAX,
    NAME_BYTES_MAX,
    REMOVED_ENTRY,
    REMOVED_XATTR,
    SYMLINK_BYTES_MAX,
    TIME_NS_MAX,
    TIME_NS_MIN,
    VERSION_MAX,
    WINDOW_HEADER_BYTES,
    XATTR_VALUE_BYTES_MAX,
    EntryItem,
    Extent,
    InodeItem,
    WindowItem,
    XattrItem,
    chunk_bytes,
    inline_bytes_max,
    inode_numbers,
    pack_cut,
    pack_entry,
    pack_inode,
    unpack_cut,
    unpack_entry,
    unpack_inode,
    window_blocks,
)
from lfs.ondisk.key import (
    ENTRY_OFFSET_FLAG,
    HASH_COLLISIONS,
    INO_MAX,
    KEY_BYTES,
    KEY_KIND,
    KIND_CUT,
    KIND_ENTRY,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    ROOT_INO,
    SEQUENCE_MAX,
    SYSTEM_INO,
    XATTR_CHUNKS,
    entry_offset,
    pack_key,
    unpack_key,
    xattr_offset,
)
from lfs.ondisk.node import (
    BRANCH_SLOT_BYTES,
    EMPTY_LEAF,
    LEAF_SLOT_BYTES,
    NODE_HEADER_BYTES,
    NODE_MAGIC,
    Branch,
    Leaf,
    Node,
    PackedLeaf,
    pack_node,
    read_node,
    unpack_node,
)
from lfs.ondisk.packing import pack_summary, summary_checksum, summary_to_blocks
from lfs.ondisk.summary import (
    BLOCK_DATA,
    BLOCK_NODE,
    BLOCK_USAGE,
    ENTRY_BYTES,
    HEAD_BULK,
    HEAD_COLD,
    HEAD_COUNT,
    HEAD_MAIN,
    HEAD_METADATA,
    RECORD_OVERHEAD_BYTES,
    SUMMARY_BLOCKS_MAX,
    SUMMARY_CHECKPOINT,
    SUMMARY_CLEANER,
    SUMMARY_COMMIT,
    SUMMARY_CONTINUATION_MAGIC,
    SUMMARY_HEADER_BYTES,
    SUMMARY_JUMP,
    SUMMARY_MAGIC,
    Change,
    Entry,
    EntryFields,
    Record,
    Summary,
    summary_blocks,
    summary_from_blocks,
    summary_room_bytes,
)
from lfs.ondisk.superblock import (
    BLOCK_BYTES_MAX,
    BLOCK_BYTES_MIN,
    CHECKPOINT_REGION_BYTES,
    CHECKPOINT_REGION_COUNT,
    COMPATIBLE_KNOWN,
    FILESYSTEM_ID_BYTES,
    FORMAT_VERSION,
    HEAD_AREA_BYTES,
    INCOMPATIBLE_KNOWN,
    READ_ONLY_COMPATIBLE_KNOWN,
    SEGMENT_BLOCKS_MIN,
    SEGMENT_COUNT_MAX,
    SUPERBLOCK_ALIGN_BYTES,
    SUPERBLOCK_BYTES,
    SUPERBLOCK_MAGIC,
    SUPERBLOCK_OFFSET_BYTES,
    Superblock,
    backup_superblock_offset_bytes,
    superblock_seal_holds,
)
from lfs.ondisk.usage import (
    SEGMENT_CLEAN,
    SEGMENT_CONTINUED,
    SEGMENT_RUN,
    USAGE_BYTES,
    USAGE_MAGIC,
    USAGE_OLD_METADATA,
    Usage,
    UsagePage,
    pack_usage_page,
    unpack_usage_page,
    usage_per_page,
)
