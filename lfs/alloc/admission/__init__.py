"""Which requests are accepted, and how room is made for them.

Theory.  ``admission`` holds a request against the ledger (``lfs.alloc.delayed.ledger``).
Where that has no room, it is made: what waits to be given up in steps goes (``removal``),
the cleaner runs, the map is compacted.  This comes above all of them, and below what programs
ask for.
"""
