"""The transmission phase of one connection: requests in, replies out, in any order.

Theory.  One thread reads requests; each is served by a thread of a pool and
answered when it is done, so that a slow one holds up nobody.  What is being
served at a time is bounded in number and in bytes: beyond that the next request
stays in the socket.  A request that makes no sense is answered with an error
after its data has been read; only a wrong magic ends the connection, since
nothing says where the next request would begin.

One request is one request of the device where it can be: a write of zeros is a
write, in pieces of ``PIECE_BYTES``.

Held by ``tests/faultdisk/test_nbd.py``.
"""

from __future__ import annotations

import functools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from faultdisk.nbd.handshake import BLOCK_BYTES_MIN, Agreement
from faultdisk.nbd.protocol import (
    CHUNK,
    CHUNK_MAGIC,
    ERROR,
    FLAGS_OF_COMMAND,
    NAME_BYTES_MAX,
    OFFSET,
    PAYLOAD_BYTES_MAX,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    Chunk,
    ChunkFlag,
    Command,
    CommandFlag,
    Error,
    error_of,
)
from faultdisk.nbd.stream import HangUpError, Stream
from lfs.common.errors import DeviceError
from lfs.device.fault.device import FaultDevice
from lfs.device.unaligned import ByteAccess

THREADS_MAX = 64
IN_FLIGHT_BYTES_MAX = 4 * PAYLOAD_BYTES_MAX
PIECE_BYTES = 1 << 20
_ZEROS = bytes(PIECE_BYTES)
_CHANGES = (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """A request as it came."""

    flags: int
    command: int
    cookie: int
    offset_bytes: int
    length_bytes: int


class RefusalError(Exception):
    """A request that is not served."""

    def __init__(self, error: Error, text: str) -> None:
        """Take the protocol's error and a line for people."""
        super().__init__(text)
        self.error = error


class InFlight:
    """Counts what is being served, and lets its caller wait for room."""

    def __init__(self, count_max: int, size_bytes_max: int) -> None:
        """Allow so many requests of so many bytes together, and always one."""
        self._condition = threading.Condition()
        self._count_max, self._size_bytes_max = count_max, size_bytes_max
        self._count = self._size_bytes = 0

    def enter(self, size_bytes: int) -> None:
        """Wait until there is room for one more, and take it."""
        with self._condition:
            while self._count and (
                self._count >= self._count_max
                or self._size_bytes + size_bytes > self._size_bytes_max
            ):
                self._condition.wait()
            self._count += 1
            self._size_bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """Give the room back."""
        with self._condition:
            self._count -= 1
            self._size_bytes -= size_bytes
            self._condition.notify_all()


class Transmission:
    """Serves one client that has agreed on how."""

    def __init__(
        self, stream: Stream, device: FaultDevice, data: ByteAccess, agreement: Agreement
    ) -> None:
        """Serve ``device``, by ``data`` where no whole sectors are asked for."""
        self._stream = stream
        self._device = device
        self._bytes = data
        self._agreement = agreement
        self._in_flight = InFlight(THREADS_MAX, IN_FLIGHT_BYTES_MAX)

    def run(self) -> None:
        """Serve until the client disconnects; raises HangUpError when it does not say so.

        Every request that was read has been served when this returns or raises.
        """
        with ThreadPoolExecutor(THREADS_MAX, "nbd-request") as pool:
            while (request := self._receive()).command != Command.DISC:
                has_payload = request.command == Command.WRITE
                payload = b""
                if has_payload and request.length_bytes > PAYLOAD_BYTES_MAX:
                    self._stream.skip(request.length_bytes)
                elif has_payload:
                    payload = self._stream.read(request.length_bytes)
                held_bytes = min(request.length_bytes, PAYLOAD_BYTES_MAX)
                self._in_flight.enter(held_bytes)
                pool.submit(self._serve, request, payload, held_bytes)

    def _receive(self) -> Request:
        magic, *fields = REQUEST.unpack(self._stream.read(REQUEST.size))
        if magic != REQUEST_MAGIC:
            raise HangUpError(f"no request: magic {magic:#x}")
        return Request(*fields)

    def _serve(self, request: Request, payload: bytes, held_bytes: int) -> None:
        try:
            self._answer(request, payload)
        except HangUpError:
            # The thread that reads learns of it, too, and ends the connection.
            pass
        finally:
            self._in_flight.leave(held_bytes)

    def _answer(self, request: Request, payload: bytes) -> None:
        try:
            data = self._perform(request, payload)
        except RefusalError as refusal:
            self._reply_error(request, refusal.error, str(refusal))
        except DeviceError as error:
            place = error.offset_bytes if request.length_bytes else None
            self._reply_error(request, error_of(error.errno), str(error.strerror), place)
        except Exception:
            log.exception("request failed unexpectedly")
            self._reply_error(request, Error.EIO, "unexpected error")
        else:
            self._reply(request, data)

    # ---------------------------------------------------------------------- serving

    def _perform(self, request: Request, payload: bytes) -> bytes:
        """Do what is asked for; return what is read.  Raises RefusalError and DeviceError."""
        self._check(request)
        _, command, _, offset_bytes, length_bytes = request
        force_unit_access = bool(request.flags & CommandFlag.FUA)
        if command == Command.READ:
            return self._bytes.read(offset_bytes, length_bytes)
        write = functools.partial(self._device.write, force_unit_access=force_unit_access)
        if command == Command.WRITE:
            self._bytes.write(offset_bytes, payload, write)
        elif command == Command.WRITE_ZEROES:
            for start in range(offset_bytes, offset_bytes + length_bytes, PIECE_BYTES):
                piece = _ZEROS[: offset_bytes + length_bytes - start]
                self._bytes.write(start, piece, write)
        elif command == Command.TRIM:
            self._discard(offset_bytes, length_bytes)
            if force_unit_access:
                self._device.flush()
        else:
            self._device.flush()
        return b""

    def _discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Discard the whole sectors of a range: the protocol lets the server round."""
        unit = self._device.align_bytes
        start = -(-offset_bytes // unit) * unit
        end = (offset_bytes + length_bytes) // unit * unit
        if start < end:
            self._device.discard(start, end - start)

    def _check(self, request: Request) -> None:
        """Raise RefusalError for a request that is against the rules."""
        flags, number, _, offset_bytes, length_bytes = request
        if number not in FLAGS_OF_COMMAND:
            raise RefusalError(Error.EINVAL, f"command {number} is not known here")
        command = Command(number)
        if flags & ~int(FLAGS_OF_COMMAND[command]):
            raise RefusalError(Error.EINVAL, f"flags {flags:#x} are not for {command.name}")
        if flags & CommandFlag.DF and not self._agreement.structured:
            raise RefusalError(Error.EINVAL, "DF is for structured replies")
        if command == Command.FLUSH:
            if offset_bytes or length_bytes:
                raise RefusalError(Error.EINVAL, "a flush has no place")
            return
        if command in _CHANGES and self._device.read_only:
            raise RefusalError(Error.EPERM, "the export is read-only")
        if length_bytes == 0:
            raise RefusalError(Error.EINVAL, "a request of no bytes")
        if command in (Command.READ, Command.WRITE) and length_bytes > PAYLOAD_BYTES_MAX:
            error = Error.EOVERFLOW if command == Command.READ else Error.EINVAL
            raise RefusalError(error, f"more than {PAYLOAD_BYTES_MAX} bytes")
        if offset_bytes + length_bytes > self._device.size_bytes:
            grows = command in (Command.WRITE, Command.WRITE_ZEROES)
            raise RefusalError(Error.ENOSPC if grows else Error.EINVAL, "beyond the end")
        if self._agreement.aligned and (offset_bytes | length_bytes) % BLOCK_BYTES_MIN:
            raise RefusalError(
                Error.EINVAL, f"not aligned to {BLOCK_BYTES_MIN} bytes, as was agreed"
            )
        if flags & CommandFlag.FAST_ZERO:
            raise RefusalError(Error.ENOTSUP, "zeros are written as slowly as anything")

    # --------------------------------------------------------------------- replying

    def _reply(self, request: Request, data: bytes) -> None:
        if self._agreement.structured and request.command == Command.READ:
            place = OFFSET.pack(request.offset_bytes)
            self._chunk(request, Chunk.OFFSET_DATA, place, data)
        else:
            self._stream.write(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie), data)

    def _reply_error(
        self, request: Request, error: Error, text: str, place: int | None = None
    ) -> None:
        if not self._agreement.structured:
            self._stream.write(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, request.cookie))
            return
        message = text.encode()[:NAME_BYTES_MAX]
        body = ERROR.pack(error, len(message)) + message
        end_bytes = request.offset_bytes + request.length_bytes
        if place is not None and request.offset_bytes <= place < end_bytes:
            self._chunk(request, Chunk.ERROR_OFFSET, body, OFFSET.pack(place))
        else:
            self._chunk(request, Chunk.ERROR, body)

    def _chunk(self, request: Request, kind: Chunk, *parts: bytes) -> None:
        """Send the only chunk of a reply."""
        length_bytes = sum(map(len, parts))
        header = CHUNK.pack(CHUNK_MAGIC, ChunkFlag.DONE, kind, request.cookie, length_bytes)
        self._stream.write(header, *parts)
