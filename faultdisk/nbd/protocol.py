"""Numbers and layouts of the NBD protocol.  Everything is big-endian.

Handshake.  The server greets, the client answers with its flags, then sends
options until one of them begins the transmission or ends the connection.

| message | fields | layout |
|---|---|---|
| greeting | magic, magic of options, handshake flags | ``GREETING`` |
| client flags | flags | ``CLIENT_FLAGS`` |
| option | magic of options, option, length; then that many bytes | ``OPTION`` |
| option reply | magic, option, type, length; then that many bytes | ``OPTION_REPLY`` |
| export (after EXPORT_NAME) | size, transmission flags; then 124 zeros or nothing | ``EXPORT`` |

Data of options and their replies.

| of | fields |
|---|---|
| EXPORT_NAME | name |
| INFO, GO | length of name (4), name, count of requests (2), requests (2 each) |
| reply SERVER | length of name (4), name, description |
| reply INFO, export | 0 (2), size (8), transmission flags (2): ``INFO_EXPORT`` |
| reply INFO, name and description | 1 or 2 (2), text |
| reply INFO, block size | 3 (2), least, preferred, largest payload (4 each): ``INFO_BLOCK_SIZE`` |
| reply with an error | text for people |

Transmission.  Each request has a cookie, which comes back in its reply; replies
come in any order.

| message | fields | layout |
|---|---|---|
| request | magic, flags, command, cookie, offset, length; then the data of a write | ``REQUEST`` |
| simple reply | magic, error, cookie; then the data of a read | ``SIMPLE_REPLY`` |
| chunk of a reply | magic, flags, type, cookie, length; then that many bytes | ``CHUNK`` |
| chunk OFFSET_DATA | offset (8), data | ``OFFSET`` |
| chunk ERROR | error (4), length of text (2), text | ``ERROR`` |
| chunk ERROR_OFFSET | as ERROR, then offset (8) | ``ERROR``, ``OFFSET`` |

Held by ``tests/faultdisk/test_nbd.py``.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum, IntFlag

GREETING_MAGIC = 0x4E42444D41474943  # NBDMAGIC
OPTION_MAGIC = 0x49484156454F5054  # IHAVEOPT
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

GREETING = struct.Struct(">QQH")
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")
EXPORT = struct.Struct(">QH")
EXPORT_ZEROES = bytes(124)
INFO = struct.Struct(">H")
INFO_EXPORT = struct.Struct(">HQH")
INFO_BLOCK_SIZE = struct.Struct(">HIII")
NAME_LENGTH = struct.Struct(">I")
INFO_COUNT = struct.Struct(">H")
REQUEST = struct.Struct(">IHHQQI")
SIMPLE_REPLY = struct.Struct(">IIQ")
CHUNK = struct.Struct(">IHHQI")
OFFSET = struct.Struct(">Q")
ERROR = struct.Struct(">IH")

NAME_BYTES_MAX = 4096
"""Of any text in the protocol."""
PAYLOAD_BYTES_MAX = 32 << 20
"""Of a read or write, as announced and as every client may count on."""


class HandshakeFlag(IntFlag):
    """What a server can do in the handshake; a client answers with what it will do."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(IntEnum):
    """What a client asks for in the handshake."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8


class Reply(IntEnum):
    """Types of answers to options; errors have the highest bit."""

    ACK = 1
    SERVER = 2
    INFO = 3
    ERR_UNSUPPORTED = (1 << 31) + 1
    ERR_INVALID = (1 << 31) + 3
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_TOO_BIG = (1 << 31) + 9


class Info(IntEnum):
    """What INFO and GO tell."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_FAST_ZERO = 1 << 11


class Command(IntEnum):
    """Types of requests."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6


class CommandFlag(IntFlag):
    """What a request asks for besides."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    FAST_ZERO = 1 << 4


FLAGS_OF_COMMAND: dict[Command, CommandFlag] = {
    # FUA is allowed everywhere and means something where anything is written.
    Command.READ: CommandFlag.FUA | CommandFlag.DF,
    Command.WRITE: CommandFlag.FUA,
    Command.FLUSH: CommandFlag.FUA,
    Command.TRIM: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
}


class ChunkFlag(IntFlag):
    """The last chunk of a reply says so."""

    DONE = 1 << 0


class Chunk(IntEnum):
    """Types of chunks; errors have bit 15."""

    NONE = 0
    OFFSET_DATA = 1
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


class Error(IntEnum):
    """The errors that the protocol knows."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


_ERRORS = {
    errno.EPERM: Error.EPERM,
    errno.EACCES: Error.EPERM,
    errno.EROFS: Error.EPERM,
    errno.ENOMEM: Error.ENOMEM,
    errno.EINVAL: Error.EINVAL,
    errno.ENOSPC: Error.ENOSPC,
    errno.EDQUOT: Error.ENOSPC,
    errno.EFBIG: Error.ENOSPC,
    errno.EOVERFLOW: Error.EOVERFLOW,
    errno.EOPNOTSUPP: Error.ENOTSUP,
    errno.ESHUTDOWN: Error.ESHUTDOWN,
}


def error_of(code: int | None) -> Error:
    """Return the protocol's error for an errno; EIO for what it has no number for."""
    return _ERRORS.get(code or errno.EIO, Error.EIO)
