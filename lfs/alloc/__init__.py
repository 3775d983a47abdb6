"""Where data will go and whether it may.

*Delayed allocation.*  A write gets no address.  Its blocks are dirty (``dirty``), and room
is promised to them; adjacent ones grow into extents meanwhile, and what is overwritten or
deleted in time never costs a place on disk.  The address is chosen when the extent is
written out and its length is known.

Here are the parts that know nothing of a disk.  Above the log and the inodes lies
``delayed``: the ledger of space, and writing out.  Above the cleaner lies ``admission``:
which requests are accepted, and how room is made for them.

*Buddy allocation.*  Free segments are kept as chunks of 2**order units that
start at multiples of 2**order (``buddy``).  A large extent gets one chunk of its
order, so it stays one extent without fixed large clusters and their waste; a
chunk given back merges with its buddy, the neighbour it was once split from, so
large chunks come back by themselves.
"""
