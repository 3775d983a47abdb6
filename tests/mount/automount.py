"""Plays the part of systemd for one automount point; run in a mount namespace of its own.

Arguments: the mount point, and after it the command that mounts there.  Somebody
in another session lists the mount point, which waits until the command is done;
what it lists is printed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import sys

_READY = 0x9360
_FAIL = 0x9361
# Version, type, token; the rest tells who asked.
_PACKET = struct.Struct("iiI")
_PACKET_BYTES_MAX = 512


def main(mount_point: str, command: list[str]) -> int:
    """Serve one request; return the exit code of ``command``."""
    requests, kernel_end = os.pipe()
    options = f"fd={kernel_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(mount_point)
    if libc.mount(b"systemd-1", place, b"autofs", 0, options.encode()) != 0:
        print(f"no autofs: {os.strerror(ctypes.get_errno())}")
        return 77
    point = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY)
    visitor = subprocess.Popen(["ls", f"{mount_point}/."], start_new_session=True)
    _, _, token = _PACKET.unpack(os.read(requests, _PACKET_BYTES_MAX)[: _PACKET.size])
    try:
        code = subprocess.run(command, timeout=30, check=False).returncode
    except subprocess.TimeoutExpired:
        code = 1
    fcntl.ioctl(point, _FAIL if code else _READY, token)
    visitor.wait(30)
    os.close(point)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
