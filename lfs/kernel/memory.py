"""How the process that serves handles memory: what Python and the C library do by themselves.

Both are set for programs that run for a short time or need little memory.  A
filesystem's daemon runs for months and gets and gives back buffers of a MiB
thousands of times a second.
"""

from __future__ import annotations

import ctypes
import gc

# From <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_HEAP_BUFFER_BYTES_MAX = 4 << 20
"""Buffers up to this size come from the heap; the largest of a request has 1 MiB."""

_FREE_BYTES_MAX = 32 << 20
"""As much free memory at the end of the heap is kept: what a file has dirty, and then some."""


def keep_freed_memory() -> None:
    """Let the C library use the memory of large buffers again instead of giving it back.

    By default glibc maps a buffer of a MiB anew each time.  Each of its pages then
    costs a page fault and is cleared before it is overwritten, which took longer than
    all that is done with the data.  Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _HEAP_BUFFER_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES_MAX)


def postpone_garbage_collection() -> None:
    """Keep Python from searching all of memory for garbage in the middle of requests.

    With tens of thousands of inodes in memory that takes tens of milliseconds.
    Hardly anything here makes cycles, so idle turns are often enough; young
    objects are searched as ever.
    """
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1 << 30)
