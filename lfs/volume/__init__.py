"""What all parts of a mounted filesystem share.

Theory.  A ``volume`` is a device with a log and a map on it: verified reads, writes that
find another place when one fails, and whether writing is over.  It knows blocks and
items, not files.  ``options`` are what the mount chose, ``checkpoint_state`` the numbers
that go from checkpoint to checkpoint, ``arguments`` what the library's calls refuse.
"""
