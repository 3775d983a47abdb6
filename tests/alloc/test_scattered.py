"""The few files that are known to be scattered."""

from __future__ import annotations

from lfs.alloc.delayed.scattered import ScatteredFiles


def test_scattered_files_add_up_and_come_worst_first() -> None:
    files = ScatteredFiles()
    files.note(3, 10, 0)
    files.note(2, 15, 0)
    files.note(3, 10, 0)
    files.note(1, 15, 0)
    assert files.worst_first() == [3, 1, 2]
    assert files.blocks(3) == 20
    assert files.blocks(4) == 0


def test_scattered_files_are_forgotten_on_demand() -> None:
    files = ScatteredFiles()
    files.note(3, 10, 0)
    assert files.forget(3) == 10
    assert files.forget(3) == 0
    assert files.worst_first() == []


def test_scattered_files_are_few_and_the_least_goes_first() -> None:
    files = ScatteredFiles(3)
    for ino, blocks in ((1, 5), (2, 9), (3, 7), (4, 6), (5, 100)):
        files.note(ino, blocks, 0)
    assert files.worst_first() == [5, 2, 3]
