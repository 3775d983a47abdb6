"""FORMAT.md against what ``lfs.ondisk`` declares: the same fields, at the same places."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lfs import ondisk
from lfs.ondisk import (
    access_list,
    block,
    checkpoint,
    items,
    key,
    node,
    summary,
    superblock,
    usage,
)
from lfs.ondisk.layout import Layout

FORMAT = (Path(__file__).parents[2] / "FORMAT.md").read_text()


class Field(NamedTuple):
    """A row of a table."""

    offset: int
    size: int
    is_signed: bool
    name: str


class Table(NamedTuple):
    """A table of offsets: its rows, and what it says they begin with."""

    rows: list[Field]
    magic: list[str]


def _tables() -> dict[str, list[Table]]:
    """Return the tables of offsets in FORMAT.md, by the heading they are under."""
    found: dict[str, list[Table]] = {}
    heading = ""
    for line in FORMAT.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| offset | size | field |"):
            found.setdefault(heading, []).append(Table([], []))
        elif row := re.match(r"\| (\d+) \| (\d+)(i?) \| (\w+) \| ?(.*?) ?\|$", line):
            offset, size, sign, name, meaning = row.groups()
            table = found[heading][-1]
            table.rows.append(Field(int(offset), int(size), bool(sign), name))
            if name == "magic":
                table.magic.append(meaning.strip("`"))
    return found


TABLES = _tables()

LAYOUTS: dict[str, list[tuple[Layout[Any], ...]]] = {
    "Superblock": [(superblock.SUPERBLOCK,)],
    "Checkpoint region": [(checkpoint.CHECKPOINT,), (checkpoint.USAGE_POINTER,)],
    "Usage page": [(block.BLOCK_HEADER, usage.USAGE_HEADER), (usage.USAGE,)],
    "Log write": [(summary.SUMMARY,), (summary.ENTRY,), (summary.RECORD,), (summary.CONTINUATION,)],
    "Imap": [(block.BLOCK_HEADER, node.NODE_HEADER), (node.LEAF_SLOT,), (node.BRANCH_SLOT,)],
    "Keys": [(key.KEY,)],
    "Inode": [(items.INODE,)],
    "Window": [(items.WINDOW,), (items.EXTENT,)],
    "Directory entry": [(items.ENTRY_ITEM,)],
    "Extended attribute": [(items.XATTR,), (access_list.ACCESS_LIST,), (access_list.ACCESS_ENTRY,)],
    "Cut": [(items.CUT,)],
}
"""What follows one another in each table, by the heading it is under."""


def test_format_has_a_table_for_every_layout_and_no_other() -> None:
    assert {heading: len(tables) for heading, tables in TABLES.items()} == {
        heading: len(layouts) for heading, layouts in LAYOUTS.items()
    }
    listed = {id(each) for some in LAYOUTS.values() for layouts in some for each in layouts}
    modules = [
        importlib.import_module(f"lfs.ondisk.{module.name}")
        for module in pkgutil.iter_modules(ondisk.__path__)
    ]
    declared = {
        f"{module.__name__}.{name}": id(value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Layout)
    }
    assert not [name for name, value in declared.items() if value not in listed]


@pytest.mark.parametrize(
    ("heading", "index"),
    [(heading, index) for heading, some in LAYOUTS.items() for index in range(len(some))],
)
def test_format_table_has_the_fields_of_the_layout(heading: str, index: int) -> None:
    declared: list[Field] = []
    for layout in LAYOUTS[heading][index]:
        start = declared[-1].offset + declared[-1].size if declared else 0
        declared += [
            Field(start + row.offset, row.size, row.code in "bhiq", row.name) for row in layout.rows
        ]
    assert TABLES[heading][index].rows == declared


def test_format_only_keys_are_big_endian() -> None:
    layouts = {layout for some in LAYOUTS.values() for each in some for layout in each}
    big = [layout for layout in layouts if layout.struct.format[0] != "<"]
    assert big == [key.KEY]
    assert key.KEY.struct.format[0] == ">"


def test_format_magics_equal_constants() -> None:
    written = [magic for tables in TABLES.values() for table in tables for magic in table.magic]
    assert written == [
        magic.decode()
        for magic in (
            ondisk.SUPERBLOCK_MAGIC,
            ondisk.CHECKPOINT_MAGIC,
            ondisk.USAGE_MAGIC,
            ondisk.SUMMARY_MAGIC,
            ondisk.SUMMARY_CONTINUATION_MAGIC,
            ondisk.NODE_MAGIC,
        )
    ]


def test_format_item_kinds_equal_constants() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (inode|extended attribute|window|directory entry|orphan|cut)\b",
        FORMAT,
        re.MULTILINE,
    )
    assert {name: int(kind) for kind, name in rows} == {
        "inode": ondisk.KIND_INODE,
        "extended attribute": ondisk.KIND_XATTR,
        "window": ondisk.KIND_WINDOW,
        "directory entry": ondisk.KIND_ENTRY,
        "orphan": ondisk.KIND_ORPHAN,
        "cut": ondisk.KIND_CUT,
    }
