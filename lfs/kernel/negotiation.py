"""What the kernel is asked for beyond what pyfuse3 can ask for.

Theory.  The kernel begins a connection with FUSE_INIT, which says what it can do;
the reply says what of that it shall do (linux/fuse.h).  libfuse replies, and
pyfuse3 gives no say in it.  So the first request passes through here: it is read
before libfuse can, libfuse gets it through a socket in the place of its
descriptor, and its reply goes to the kernel with some flags changed.  Then the
descriptor is libfuse's again, and nothing stands between any more.

The flags:

``DONT_MASK``: the kernel leaves the umask to the filesystem, because it must play
no part where a directory has a default access control list.

``HANDLE_KILLPRIV_V2``: the kernel remembers which files have neither set-id bits
nor capabilities, instead of asking for ``security.capability`` before each write.
In return the filesystem takes the bits away (``lfs.fuse.operations``).

``PARALLEL_DIROPS``: several processes look names up in one directory at a time.

``AUTO_INVAL_DATA`` is taken out: nobody else changes files, so the kernel need not
ask for attributes, nor drop the pages of a file, because it has written to it.

``ASYNC_DIO`` is taken out: after an asynchronous direct write the kernel would not
drop what its cache holds of the old contents.

Writes come in requests no longer than a full disk can be made ready to take
(``Filesystem.write_bytes_max``); on all but the smallest that is libfuse's 1 MiB.

Where pyfuse3's waiting can't be replaced (``lfs.kernel.loop``), none of this happens;
the filesystem works all the same, but for default lists, with more requests, and with
larger ones than the smallest disks can take when they are full.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Self

_OPCODE_INIT = 26
_REQUEST_BYTES_MAX = 1 << 20
_REPLY_BYTES_MAX = 4096

_DONT_MASK = 1 << 6
_AUTO_INVAL_DATA = 1 << 12
_ASYNC_DIO = 1 << 15
_PARALLEL_DIROPS = 1 << 18
_HANDLE_KILLPRIV_V2 = 1 << 28
_WANTED = _DONT_MASK | _PARALLEL_DIROPS | _HANDLE_KILLPRIV_V2
_UNWANTED = _AUTO_INVAL_DATA | _ASYNC_DIO

_REQUEST_OPCODE = struct.Struct("<4xI")
# A header of 40 bytes; then major, minor and max_readahead come before the flags.
_REQUEST_FLAGS = struct.Struct("<52xI")
_REPLY_ERROR = struct.Struct("<4xi")
# A header of 16 bytes, and the same three.
_REPLY_FLAGS_AT = 28
_FLAGS = struct.Struct("<I")
# After the flags come two numbers of 16 bits.
_REPLY_WRITE_BYTES_AT = 36
_WRITE_BYTES = struct.Struct("<I")


class Negotiation:
    """The exchange of FUSE_INIT on a descriptor of /dev/fuse that libfuse owns."""

    def __init__(
        self,
        descriptor: int,
        kernel: int,
        ours: socket.socket,
        offered: int,
        write_bytes_max: int,
    ) -> None:
        """Use ``begun``."""
        self._descriptor = descriptor
        self._kernel = kernel
        self._ours = ours
        self._offered = offered
        self._write_bytes_max = write_bytes_max

    @classmethod
    def begun(cls, descriptor: int, write_bytes_max: int) -> Self | None:
        """Put the first request where libfuse will read it.

        A request shall write ``write_bytes_max`` bytes at most.

        Returns None, with everything as before, when the connection has ended already.
        """
        kernel = os.dup(descriptor)
        try:
            request = os.read(kernel, _REQUEST_BYTES_MAX)
        except OSError:
            os.close(kernel)
            return None
        assert _REQUEST_OPCODE.unpack_from(request)[0] == _OPCODE_INIT
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            ours.send(request)
            os.dup2(theirs.fileno(), descriptor, inheritable=False)
        return cls(
            descriptor, kernel, ours, _REQUEST_FLAGS.unpack_from(request)[0], write_bytes_max
        )

    def conclude(self) -> None:
        """Pass libfuse's reply on and give it back its descriptor; it has replied by now."""
        reply = bytearray(self._ours.recv(_REPLY_BYTES_MAX))
        if _REPLY_ERROR.unpack_from(reply)[0] == 0:
            flags = _FLAGS.unpack_from(reply, _REPLY_FLAGS_AT)[0]
            flags = (flags | _WANTED & self._offered) & ~_UNWANTED
            _FLAGS.pack_into(reply, _REPLY_FLAGS_AT, flags)
            write_bytes = _WRITE_BYTES.unpack_from(reply, _REPLY_WRITE_BYTES_AT)[0]
            write_bytes = min(write_bytes, self._write_bytes_max)
            _WRITE_BYTES.pack_into(reply, _REPLY_WRITE_BYTES_AT, write_bytes)
        # Unmounted meanwhile: libfuse will find out by itself.
        with suppress(OSError):
            os.write(self._kernel, reply)
        os.dup2(self._kernel, self._descriptor, inheritable=False)
        os.close(self._kernel)
        self._ours.close()
