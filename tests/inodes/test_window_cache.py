"""Decoded windows within a number of bytes: which go, and how long one request looks for them."""

from __future__ import annotations

import pytest

from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.inodes import window_cache
from lfs.inodes.window import Window, window_key
from lfs.inodes.window_cache import WindowCache, Windows
from lfs.ondisk import NO_BLOCK, Pointer

INO = 7
BLOCKS = 128
COUNT = 400


def _read_nothing(pointer: Pointer) -> bytes:
    raise AssertionError(pointer)


def full_cache() -> tuple[WindowCache, Windows]:
    """Return a cache that has no room for one window more, each of which has been used."""
    imap = Imap(NodeCache(_read_nothing, bytes(8), 0), NO_BLOCK, 0, 0)
    window_bytes = Window(BLOCKS, window_key(INO, 0)).memory_bytes
    cache = WindowCache(imap, COUNT * window_bytes)
    windows: Windows = {}
    for index in range(COUNT):
        keep(cache, windows, index)
    for index in range(COUNT):
        cache.keep(INO, windows, index, windows[index])
    assert len(windows) == COUNT
    return cache, windows


def keep(cache: WindowCache, windows: Windows, index: int) -> None:
    cache.keep(INO, windows, index, Window(BLOCKS, window_key(INO, index)))


def test_no_request_looks_through_all_windows() -> None:
    cache, windows = full_cache()
    keep(cache, windows, COUNT)
    unused = [index for index, window in windows.items() if not window.was_used]
    assert len(unused) <= window_cache._CHANCES_AT_ONCE + 1
    assert len(windows) == COUNT


def test_window_that_was_just_kept_stays() -> None:
    cache, windows = full_cache()
    for index in range(COUNT, 3 * COUNT):
        keep(cache, windows, index)
        assert index in windows
        assert len(windows) == COUNT


@pytest.mark.parametrize("count", [1, 2, 3])
def test_window_that_was_just_kept_stays_among_few(count: int) -> None:
    cache, windows = full_cache()
    cache._bytes_max = count * windows[0].memory_bytes
    for index in range(2 * COUNT):
        if index not in windows:
            keep(cache, windows, index)
        cache.keep(INO, windows, index, windows[index])
        assert index in windows
    assert len(windows) == count
