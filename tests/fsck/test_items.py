"""Items of the imap that are wrong, in the checkpoint or in the log: exactly their check fires."""

from __future__ import annotations

import stat

import pytest

from fsck.check import check_device
from lfs.ondisk import (
    INODE_CUT,
    KIND_CUT,
    KIND_ENTRY,
    KIND_WINDOW,
    KIND_XATTR,
    REMOVED_ENTRY,
    REMOVED_XATTR,
    ROOT_INO,
    SYSTEM_INO,
    EntryItem,
    WindowItem,
    XattrItem,
    entry_offset,
    pack_cut,
    pack_key,
    xattr_offset,
)
from tests.fsck.builder import ImageBuilder
from tests.fsck.plans import BLOCK_BYTES, DIRECTORY_MODE, WINDOW_BLOCKS, block, name_hash
from tests.fsck.samples import Change, after, before, codes, map_raw, sample


def _rename_entry(builder: ImageBuilder, name: bytes) -> None:
    entries = builder.entries[ROOT_INO]
    offset = entry_offset(name_hash(name))
    entries[1] = (offset, entries[1][1]._replace(name=name))


def _replace_entry(
    builder: ImageBuilder, directory: int, ino: int, file_type: int | None = None
) -> None:
    entries = builder.entries[directory]
    offset, entry = entries[0]
    entries[0] = (
        offset,
        EntryItem(ino, entry.file_type if file_type is None else file_type, entry.name),
    )


def _move_entry(builder: ImageBuilder, distance: int) -> None:
    entries = builder.entries[ROOT_INO]
    entries[1] = (entries[1][0] + distance, entries[1][1])


def _duplicate_entry(builder: ImageBuilder) -> None:
    builder.link(ROOT_INO, b"inline", 4, index=1)
    builder.change(4, nlink=2)


def _mark_before_an_entry(builder: ImageBuilder) -> None:
    offset, entry = builder.entries[ROOT_INO][1]
    builder.extra[pack_key(ROOT_INO, KIND_ENTRY, offset)] = REMOVED_ENTRY
    builder.entries[ROOT_INO][1] = (offset + 1, entry)


def _mark_behind_an_entry(builder: ImageBuilder) -> None:
    offset, _ = builder.entries[ROOT_INO][1]
    builder.extra[pack_key(ROOT_INO, KIND_ENTRY, offset + 1)] = REMOVED_ENTRY


def _mark_before_an_attribute(builder: ImageBuilder) -> None:
    _move_xattr(builder, 256)
    builder.extra[_xattr_key(b"user.short", 0)] = REMOVED_XATTR


def _mark_behind_an_attribute(builder: ImageBuilder) -> None:
    builder.extra[_xattr_key(b"user.short", 256)] = REMOVED_XATTR


def _mark_of_an_attribute_with_a_chunk(builder: ImageBuilder) -> None:
    _mark_before_an_attribute(builder)
    builder.extra[_xattr_key(b"user.short", 1)] = b"x"


def _orphan_with_a_name(builder: ImageBuilder) -> None:
    builder.add_orphan(4)
    builder.change(4, nlink=0)


def _second_name_of_a_directory(builder: ImageBuilder) -> None:
    # In its own parent, so that nothing else is wrong.
    builder.link(2, b"below again", 3)
    builder.change(2, nlink=4)


def _cycle(builder: ImageBuilder) -> None:
    builder.add_directory(20, ROOT_INO, b"upper")
    builder.add_directory(21, 20, b"lower")
    entries = builder.entries[ROOT_INO]
    offset, entry = entries.pop()
    builder.entries[21] = [(offset, entry)]
    builder.change(ROOT_INO, size=len(entries), nlink=3)
    builder.change(20, parent_ino=21)
    builder.change(21, size=1, nlink=3)


def _entry_of_nothing(builder: ImageBuilder) -> None:
    _replace_entry(builder, 3, 77)
    builder.change(6, nlink=1)


def _cut(
    builder: ImageBuilder,
    ino: int,
    *ranges: tuple[int, int],
    flag: int = INODE_CUT,
    raw: bytes = b"",
) -> None:
    for number, (first, end) in enumerate(ranges):
        builder.extra[pack_key(SYSTEM_INO, KIND_CUT, number)] = pack_cut(ino, first, end)
    if raw:
        builder.extra[pack_key(SYSTEM_INO, KIND_CUT, 0)] = raw
    if ino in builder.inodes:
        builder.change(ino, flags=flag)


def _cut_blocks(builder: ImageBuilder, *ranges: tuple[int, int]) -> None:
    """Leave blocks past the size in window 1."""
    builder.write_blocks(8, WINDOW_BLOCKS + 3, [block(b"cut off")])
    builder.change(8, size=70 * BLOCK_BYTES)
    _cut(builder, 8, *ranges)


def test_what_was_cut_off_need_not_fit_the_inode() -> None:
    builder = sample()
    _cut_blocks(builder, (1, 2), (5, 1 << 40))
    builder.commit()
    builder.checkpoint()
    report = check_device(builder.build(), data=True)
    assert not report.problems


def _xattr_key(name: bytes, chunk: int) -> bytes:
    return pack_key(4, KIND_XATTR, xattr_offset(name_hash(name)) + chunk)


def _long_xattr_chunk(builder: ImageBuilder) -> None:
    builder.extra[_xattr_key(b"user.long", 1)] = bytes(1025)
    builder.extra[_xattr_key(b"user.long", 2)] = bytes(255)


def _drop_xattr_chunks(builder: ImageBuilder, *chunks: int) -> None:
    for chunk in chunks:
        del builder.extra[_xattr_key(b"user.long", chunk)]


def _move_xattr(builder: ImageBuilder, distance: int) -> None:
    value = builder.extra.pop(_xattr_key(b"user.short", 0))
    builder.extra[_xattr_key(b"user.short", distance)] = value


def _raw_window(builder: ImageBuilder, ino: int, index: int, value: bytes) -> None:
    builder.extra[pack_key(ino, KIND_WINDOW, index)] = value


def _stray_item(builder: ImageBuilder) -> None:
    builder.extra[pack_key(99, KIND_XATTR, 0)] = XattrItem(b"user.a", 0, b"").pack()


ITEM_DAMAGES: dict[str, tuple[Change, list[str]]] = {
    "impossible mode": (
        lambda b: b.change(7, mode=0o170644),
        ["inode-mode"],
    ),
    "unknown inode flags": (lambda b: b.change(4, flags=0x11), ["inode-flags"]),
    "inline content of another length": (lambda b: b.change(4, size=5), ["inode-inline"]),
    "inline content too large": (
        lambda b: b.change(4, size=1025, inline=bytes(1025)),
        ["inode-inline"],
    ),
    "content without the inline flag": (lambda b: b.change(4, flags=0), ["inode-inline"]),
    "empty symlink": (lambda b: b.change(5, size=0, inline=b""), ["inode-size"]),
    "negative size": (lambda b: b.change(6, size=1 << 63), ["inode-size"]),
    "pipe with a size": (
        lambda b: b.change(7, mode=stat.S_IFIFO | 0o600, size=1),
        ["inode-size"],
    ),
    "block count": (lambda b: b.change(6, blocks=7), ["inode-blocks"]),
    "mapped past the size": (
        lambda b: b.change(6, size=4 * BLOCK_BYTES),
        ["window-past-size"],
    ),
    "bytes past the size": (lambda b: b.change(6, size=5 * BLOCK_BYTES + 3), ["data-tail"]),
    "window that does not unpack": (
        lambda b: _raw_window(b, 4, 0, b"\x01\x00"),
        ["window-damaged"],
    ),
    "window without blocks": (
        lambda b: _raw_window(b, 7, 0, WindowItem((), ()).pack()),
        ["window-damaged"],
    ),
    "window outside the segments": (
        lambda b: map_raw(b, 7, 1 << 40, 0),
        ["extent-range"],
    ),
    "inode too short": (
        lambda b: b.extra.update({pack_key(30, 0, 0): b"short"}),
        ["inode-damaged"],
    ),
    "unknown kind of item": (
        lambda b: b.extra.update({pack_key(4, 9, 0): b""}),
        ["item-kind"],
    ),
    "unknown system item": (
        lambda b: b.extra.update({pack_key(0, 5, 1): b""}),
        ["item-kind"],
    ),
    "item without inode": (_stray_item, ["item-stray"]),
    "no root": (lambda b: b.change(ROOT_INO, parent_ino=2), ["directory-parent"]),
    "directory size": (lambda b: b.change(2, size=9), ["directory-size"]),
    "directory links": (lambda b: b.change(2, nlink=4), ["link-count"]),
    "file links": (lambda b: b.change(4, nlink=2), ["link-count"]),
    "file without links": (lambda b: b.change(4, nlink=0), ["link-count"]),
    "directory parent": (lambda b: b.change(3, parent_ino=ROOT_INO), ["directory-parent"]),
    "name with a slash": (lambda b: _rename_entry(b, b"in/line"), ["entry-name"]),
    "name with a NUL": (lambda b: _rename_entry(b, b"in\0line"), ["entry-name"]),
    "name of two dots": (lambda b: _rename_entry(b, b".."), ["entry-name"]),
    "name too long": (
        lambda b: _rename_entry(b, b"n" * 256),
        ["entry-damaged", "inode-unreachable"],
    ),
    "name under another hash": (lambda b: _move_entry(b, 256), ["entry-hash"]),
    "name with a gap before it": (lambda b: _move_entry(b, 1), ["entry-index"]),
    "mark of a removed name before another": (_mark_before_an_entry, []),
    "mark of a removed name before none": (_mark_behind_an_entry, ["entry-mark"]),
    "name twice": (_duplicate_entry, ["entry-duplicate"]),
    "entry of another type": (lambda b: _replace_entry(b, 3, 6, file_type=10), ["entry-type"]),
    "entry of a missing inode": (
        _entry_of_nothing,
        ["entry-target"],
    ),
    "inode without a name": (lambda b: b.add_inode(20, DIRECTORY_MODE, 2), ["inode-unreachable"]),
    "directory with two names": (_second_name_of_a_directory, ["directory-links"]),
    "directories in a cycle": (_cycle, ["directory-cycle"]),
    "orphan that is missing": (lambda b: b.add_orphan(50), ["orphan-missing"]),
    "orphan with links": (lambda b: b.change(7, nlink=1), ["orphan-links"]),
    "orphan with a name": (_orphan_with_a_name, ["orphan-named"]),
    "cut item that is too short": (lambda b: _cut(b, 8, raw=bytes(20)), ["cut-damaged"]),
    "cut item with the first window": (lambda b: _cut(b, 8, (0, 4)), ["cut-damaged"]),
    "cut item without windows": (lambda b: _cut(b, 8, (4, 4)), ["cut-damaged"]),
    "cut items that overlap": (lambda b: _cut(b, 8, (2, 5), (4, 9)), ["cut-overlap"]),
    "cut item of no inode": (lambda b: _cut(b, 50, (2, 5)), ["cut-target"]),
    "cut item of a directory": (lambda b: _cut(b, 2, (2, 5)), ["cut-inode"]),
    "cut item without the flag": (lambda b: _cut(b, 8, (2, 5), flag=0), ["cut-flag"]),
    "flag without a cut item": (lambda b: b.change(8, flags=INODE_CUT), ["cut-flag"]),
    "blocks past the size in another window": (
        lambda b: _cut_blocks(b, (2, 5)),
        ["window-past-size"],
    ),
    "orphan item with a value": (
        lambda b: b.extra.update({pack_key(0, 4, 7): b"x"}),
        ["orphan-value"],
    ),
    "attribute with a chunk missing": (lambda b: _drop_xattr_chunks(b, 2), ["xattr-damaged"]),
    "attribute without its first chunk": (
        lambda b: _drop_xattr_chunks(b, 0, 2),
        ["xattr-damaged"],
    ),
    "attribute with a chunk too long": (
        _long_xattr_chunk,
        ["xattr-damaged", "xattr-damaged"],
    ),
    "attribute under another hash": (lambda b: _move_xattr(b, 1 << 16), ["xattr-hash"]),
    "attribute with a gap before it": (lambda b: _move_xattr(b, 256), ["xattr-index"]),
    "mark of a removed attribute before another": (_mark_before_an_attribute, []),
    "mark of a removed attribute before none": (_mark_behind_an_attribute, ["xattr-mark"]),
    "mark of a removed attribute with a chunk": (
        _mark_of_an_attribute_with_a_chunk,
        ["xattr-damaged"],
    ),
    "attribute twice": (
        lambda b: b.set_xattr(4, b"user.short", b"other", index=1),
        ["xattr-duplicate"],
    ),
    "attribute that does not unpack": (
        lambda b: b.extra.update({pack_key(7, KIND_XATTR, 0): b"\xff"}),
        ["xattr-damaged"],
    ),
}


@pytest.mark.parametrize("name", ITEM_DAMAGES)
def test_check_wrong_item_in_the_tree_is_found(name: str) -> None:
    change, expected = ITEM_DAMAGES[name]
    builder = before(change)
    # An inode too short to read is one more for the checkpoint's count.
    count = sum(key[8] == 0 and key[:8] != bytes(8) for key in builder.items())
    builder.checkpoint_changes = {"inode_count": count, "next_ino": 1000}
    assert codes(builder.build()) == expected


@pytest.mark.parametrize("name", ITEM_DAMAGES)
def test_check_wrong_item_in_the_log_is_found(name: str) -> None:
    change, expected = ITEM_DAMAGES[name]
    assert codes(after(change).build()) == expected


def test_check_root_missing_is_found() -> None:
    builder = ImageBuilder()
    builder.checkpoint()
    del builder.inodes[ROOT_INO]
    builder.commit()
    assert codes(builder.build()) == ["root"]


def test_check_root_that_is_a_file_is_found() -> None:
    builder = ImageBuilder()
    builder.change(ROOT_INO, mode=stat.S_IFREG | 0o644)
    builder.checkpoint()
    assert codes(builder.build()) == ["root"]


def test_check_problem_names_the_path() -> None:
    builder = after(lambda b: b.change(6, blocks=9))
    problem = check_device(builder.build()).problems[0]
    assert problem.ino == 6
    assert problem.message.endswith(("(/directory/below/large)", "(/second name)"))


def test_check_entry_in_a_file_is_found() -> None:
    builder = sample()
    builder.entries[4] = [(entry_offset(name_hash(b"x")), EntryItem(5, 10, b"x"))]
    builder.commit()
    assert codes(builder.build()) == ["entry-unexpected"]


def test_check_empty_entry_is_found() -> None:
    builder = sample()
    builder.extra[pack_key(2, 3, 1 << 62)] = b"123456789"
    builder.change(2, size=4)
    builder.commit()
    assert codes(builder.build()) == ["entry-damaged"]
