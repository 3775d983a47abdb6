"""Many files: more than memory keeps dirty, lists of them, cold metadata, removal.

*Cold* begins with a new mount, and nothing of it in any cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.waits import Measured
from bench.workloads.metadata import file_names, make_files, make_folders, write_small
from bench.workloads.workload import BLOCK, Context, Workload

WARM_PASSES = 10


def _create_block(name: str) -> None:
    write_small(name, os.O_CREAT | os.O_EXCL, BLOCK)


def _create_many(context: Context) -> Measured:
    count = context.scale.many_files
    make_folders(context.folder, count)
    return context.each(_create_block, file_names(context.folder, count))


def _unlink_cold(context: Context) -> Measured:
    count = context.scale.files
    make_files(context.folder, count)
    return context.each(os.unlink, file_names(context.folder, count), cold=True)


def _remove_tree(context: Context) -> float:
    folder, count = context.folder / "tree", context.scale.files
    make_tree(folder, count)
    return context.rate(count, lambda: shutil.rmtree(folder))


# ------------------------------------------------------------------------------ listing

Listing = Callable[[Path], int]
"""Goes through a tree and returns how many files it found."""


def list_names(folder: Path) -> int:
    """List the directories of a folder: names alone."""
    return sum(len(os.listdir(directory)) for directory in os.scandir(folder))


def list_attributes(folder: Path) -> int:
    """List the directories of a folder with the attributes of each file, as ``ls -l`` does."""
    return sum(
        entry.stat(follow_symlinks=False).st_size > 0
        for directory in os.scandir(folder)
        for entry in os.scandir(directory)
    )


def walk(folder: Path) -> int:
    """Go down a tree and ask for the attributes of each file, as ``du`` and a backup do."""
    return sum(
        os.lstat(f"{directory}/{name}").st_size > 0
        for directory, _, names in os.walk(folder)
        for name in names
    )


def make_tree(folder: Path, count: int) -> None:
    """Make files ten to a directory, and directories ten to a directory above."""
    for number in range(count):
        directory = folder / str(number // 1000) / str(number // 100) / str(number // 10)
        if not number % 10:
            directory.mkdir(parents=True)
        write_small(f"{directory}/{number}", os.O_CREAT | os.O_EXCL)


@dataclass(frozen=True)
class _Listing:
    name: str
    meaning: str
    prepare: Callable[[Path, int], None]
    listing: Listing
    cold: bool = False
    passes: int = 1

    def run(self, context: Context) -> float:
        """Prepare a tree and go through it, which must find each file in each pass."""
        folder, count = context.folder / "tree", context.scale.files
        self.prepare(folder, count)
        if self.passes > 1:
            self.listing(folder)

        def work() -> None:
            for _ in range(self.passes):
                assert self.listing(folder) == count

        return context.rate(count * self.passes, work, self.cold)


_LISTINGS = [
    _Listing("list", "list directories: names", make_files, list_names, passes=WARM_PASSES),
    _Listing("list cold", "the same after a remount", make_files, list_names, cold=True),
    _Listing(
        "list+stat",
        "list directories with attributes",
        make_files,
        list_attributes,
        passes=WARM_PASSES,
    ),
    _Listing("list+stat cold", "the same after a remount", make_files, list_attributes, cold=True),
    _Listing(
        "walk cold", "go through a tree with attributes, after a remount", make_tree, walk, True
    ),
]

TREES: list[Workload] = [
    Workload(
        "create many",
        "trees",
        "/s",
        "create a file of 4 KiB, write, close; more than memory keeps dirty",
        _create_many,
    ),
    Workload("unlink cold", "trees", "/s", "remove a file after a remount", _unlink_cold),
    Workload("remove tree", "trees", "/s", "remove a tree, for each of its files", _remove_tree),
    *(Workload(one.name, "trees", "/s", one.meaning, one.run) for one in _LISTINGS),
]
