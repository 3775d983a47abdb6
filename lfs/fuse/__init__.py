"""The FUSE front end: the only code that knows pyfuse3, trio, a clock or a thread.

The core answers a request at once or not at all, so a request handler is a
plain call into it between decoding and encoding; the one thing worth waiting
for is the flush of a device.  ``operations`` translates requests, by way of
``handlers``, ``replies`` and ``xattrs``; ``committer`` lets concurrent ``fsync``
calls share one flush, ``background`` gives the core its turns, ``loop`` receives
requests without a scheduler's round for each, ``latency`` keeps processors awake
meanwhile, and ``session`` puts them together for as long as a filesystem is mounted.
``mount`` and ``unmount`` are the commands around it, with ``options``,
``mountpoint`` and ``daemon`` for what they need of the system.

Everything runs in trio's thread.  What may leave it is the flush, and it does
when flushes have been measured to take longer than the way to a thread and back.
"""
