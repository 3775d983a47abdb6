"""Between a daemon and the kernel: the connection, how requests are received, and the log.

Whatever is served by it: a filesystem of ``lfs.mount``, or the disk of ``faultdisk``.

``connection`` begins and ends; ``negotiation`` asks the kernel for what pyfuse3 can't ask
for; ``loop`` receives requests without a scheduler's round for each, ``latency`` keeps
processors awake meanwhile, ``memory`` keeps memory from being found anew.  ``mountpoint``
knows what is mounted where, ``daemon`` goes to the background, ``logs`` takes its lines.
"""
