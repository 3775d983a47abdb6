"""Block devices: the array of bytes with a volatile cache that everything else stands on.

The filesystem asks four things of a device: read, write, flush, discard
(``base.BlockDevice``).  What it may rely on is little, and the tests take it at
its word: between two flushes writes reach the medium in any order, in part, or
not at all.  ``file`` is an image file or a disk, ``memory`` the same without
either, ``recording`` remembers every request so that a test can cut the power
after any of them.  ``lock`` keeps two users from one image, by whatever paths they come to
it; ``identity`` tells what its bytes are, and ``holders`` who has it.

One conformance suite, ``tests/device/test_conformance.py``, holds all of them
to the same contract.
"""
