"""The filesystems that are compared: how each is made, mounted, remounted and removed.

Every system keeps its image (or, for bindfs, its directory) in the same folder,
so that all use the same backing storage.  An image may be *filled*: all of it is
allocated and written before anything is measured, and nothing gives space back.
On a sparse image every first write to a block makes the filesystem of the host
allocate it, and a flush then waits for the host's journal, which on a disk does
not happen; what writes to new places all the time would pay for it each time.

Filesystems of the kernel need a loop device over the image; every other system that
has an image can be given one too, and then the kernel counts the requests of all
alike (``bench.counters``).  ``stop`` leaves nothing mounted, whatever happened before.
"""
