"""Between a daemon and the kernel: the connection, how requests are received, and the log.

Whatever is served by it: a filesystem of ``lfs.mount``, or the disk of ``faultdisk``.
"""
