"""The command ``faultdisk``: the fault device under any filesystem and any program.

The device of ``lfs.device.fault`` gets two doors.  The FUSE door (``faultdisk.fuse.disk``)
makes it a file, and a loop device makes that a disk for the kernel.  The NBD
door (``nbd``) makes it an export for qemu, nbdcopy, nbd-client and whatever else
speaks that protocol.  Behind both is the same process: ``serving`` holds the
lock on the target, the fault device, the write log and the report; ``control``
listens on a socket of its own for what changes while it runs.  ``plans`` reads
plans from command lines, ``tables`` writes for people, ``offline`` has what
needs no server, and ``main`` is the command line.
"""
