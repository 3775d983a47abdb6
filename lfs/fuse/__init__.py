"""Requests: from the kernel's words to calls of the core, and back.

The core answers a request at once or not at all, so a request handler is a
plain call into it between decoding and encoding; the one thing worth waiting
for is the flush of a device.  ``operations`` translates requests, by way of
``handlers``, ``replies`` and ``xattrs``; ``group_commit`` lets concurrent ``fsync``
calls share one flush, and ``background`` gives the core its turns.  How requests are
received is in ``lfs.kernel``; ``lfs.mount`` puts all of it together.

Everything runs in trio's thread.  What may leave it is the flush, and it does
when flushes have been measured to take longer than the way to a thread and back.
"""
