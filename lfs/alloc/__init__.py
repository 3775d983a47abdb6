"""Where data will go and whether it may: numbers, never bytes, and no import of the project.

*Delayed allocation.*  A write gets no address.  It reserves room
(``reservation``) and marks file blocks dirty (``dirty``); adjacent blocks grow
into extents meanwhile, and what is overwritten or deleted in time never costs
a place on disk.  The address is chosen when the extent is written out and its
length is known.

*Buddy allocation.*  Free segments are kept as chunks of 2**order units that
start at multiples of 2**order (``buddy``).  A large extent gets one chunk of its
order, so it lies in one piece without fixed large clusters and their waste; a
chunk given back merges with its buddy, the neighbour it was once split from, so
large chunks come back by themselves.
"""
