"""The handshake of one connection: from the greeting to the first request.

Invariants.  Every option but EXPORT_NAME gets an answer, an error if need be,
and the next option is read after it.  What an option carries is read as a whole
before anything is answered, so that no length it claims can put the two sides
out of step.  EXPORT_NAME has no way to fail but the end of the connection.

Held by ``tests/faultdisk/test_nbd_handshake.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from faultdisk.nbd.protocol import (
    CLIENT_FLAGS,
    EXPORT,
    EXPORT_ZEROES,
    GREETING,
    GREETING_MAGIC,
    INFO,
    INFO_BLOCK_SIZE,
    INFO_COUNT,
    INFO_EXPORT,
    NAME_BYTES_MAX,
    NAME_LENGTH,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    PAYLOAD_BYTES_MAX,
    HandshakeFlag,
    Info,
    Option,
    Reply,
    TransmissionFlag,
)
from faultdisk.nbd.stream import HangUpError, Stream

BLOCK_BYTES_MIN = 512
BLOCK_BYTES_PREFERRED = 4096
OPTION_BYTES_MAX = 1 << 16
"""Longer ones are read and refused."""
OPTION_BYTES_ABSURD = 1 << 24
"""Longer ones end the connection."""

_OFFERED = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


@dataclass(frozen=True)
class Export:
    """What there is to be had: one disk, the default export."""

    size_bytes: int
    description: str
    read_only: bool = False
    name: str = ""

    def flags(self, structured: bool) -> TransmissionFlag:
        """Return what the disk can do for a client that has or has not structured replies."""
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.SEND_TRIM
            | TransmissionFlag.SEND_WRITE_ZEROES
            | TransmissionFlag.SEND_FAST_ZERO
            # All connections share one device, and its cache.
            | TransmissionFlag.CAN_MULTI_CONN
        )
        if structured:
            flags |= TransmissionFlag.SEND_DF
        if self.read_only:
            flags |= TransmissionFlag.READ_ONLY
        return flags


@dataclass
class Agreement:
    """What both sides will keep to."""

    structured: bool = False
    aligned: bool = False
    """The client was told the least block size because it asked, and so must keep to it."""


class _RefusalError(Exception):
    """An option that is refused."""

    def __init__(self, reply: Reply, text: str) -> None:
        super().__init__(text)
        self.reply = reply


def negotiate(stream: Stream, export: Export) -> Agreement | None:
    """Shake hands; return the agreement, or None when the client wants nothing more.

    Raises HangUpError when the connection is over.
    """
    return _Handshake(stream, export).run()


class _Handshake:
    def __init__(self, stream: Stream, export: Export) -> None:
        self._stream = stream
        self._export = export
        self._agreement = Agreement()

    def run(self) -> Agreement | None:
        self._stream.write(GREETING.pack(GREETING_MAGIC, OPTION_MAGIC, _OFFERED))
        (flags,) = CLIENT_FLAGS.unpack(self._stream.read(CLIENT_FLAGS.size))
        if flags & ~int(_OFFERED):
            raise HangUpError(f"unknown client flags {flags:#x}")
        while True:
            option, data = self._receive()
            if option == Option.EXPORT_NAME:
                self._enter_by_name(data, bool(flags & HandshakeFlag.NO_ZEROES))
                return self._agreement
            if option == Option.ABORT:
                self._reply(option, Reply.ACK)
                return None
            try:
                if data is None:
                    raise _RefusalError(
                        Reply.ERR_TOO_BIG, f"an option has {OPTION_BYTES_MAX} bytes"
                    )
                entered = self._answer(option, data)
            except _RefusalError as refusal:
                self._reply(option, refusal.reply, str(refusal).encode())
            else:
                self._reply(option, Reply.ACK)
                if entered:
                    return self._agreement

    def _receive(self) -> tuple[int, bytes | None]:
        """Return an option and its data; None for data that is too long."""
        magic, option, length_bytes = OPTION.unpack(self._stream.read(OPTION.size))
        if magic != OPTION_MAGIC or length_bytes > OPTION_BYTES_ABSURD:
            raise HangUpError(f"no option: magic {magic:#x}, length {length_bytes}")
        if length_bytes > OPTION_BYTES_MAX:
            self._stream.skip(length_bytes)
            return option, None
        return option, self._stream.read(length_bytes)

    def _reply(self, option: int, reply: Reply, data: bytes = b"") -> None:
        header = OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data))
        self._stream.write(header, data)

    def _enter_by_name(self, name: bytes | None, without_zeroes: bool) -> None:
        if name != self._export.name.encode():
            raise HangUpError(f"no export is called {name!r}")
        flags = self._export.flags(self._agreement.structured)
        zeroes = b"" if without_zeroes else EXPORT_ZEROES
        self._stream.write(EXPORT.pack(self._export.size_bytes, flags), zeroes)

    def _answer(self, option: int, data: bytes) -> bool:
        """Answer all but the final ACK; tell whether the transmission begins after it."""
        if option in (Option.LIST, Option.STRUCTURED_REPLY) and data:
            raise _RefusalError(Reply.ERR_INVALID, "this option has no data")
        if option == Option.LIST:
            name = self._export.name.encode()
            described = self._export.description.encode()
            self._reply(option, Reply.SERVER, NAME_LENGTH.pack(len(name)) + name + described)
        elif option == Option.STRUCTURED_REPLY:
            self._agreement.structured = True
        elif option in (Option.INFO, Option.GO):
            self._inform(option, data)
            return option == Option.GO
        else:
            raise _RefusalError(Reply.ERR_UNSUPPORTED, f"option {option} is not known here")
        return False

    def _inform(self, option: int, data: bytes) -> None:
        name, wanted = _parse_info_request(data)
        export = self._export
        if name != export.name.encode():
            raise _RefusalError(Reply.ERR_UNKNOWN, "the only export has an empty name")
        flags = export.flags(self._agreement.structured)
        answers = {Info.EXPORT: INFO_EXPORT.pack(Info.EXPORT, export.size_bytes, flags)}
        if Info.NAME in wanted:
            answers[Info.NAME] = INFO.pack(Info.NAME) + export.name.encode()
        if Info.DESCRIPTION in wanted:
            text = export.description.encode()[:NAME_BYTES_MAX]
            answers[Info.DESCRIPTION] = INFO.pack(Info.DESCRIPTION) + text
        if Info.BLOCK_SIZE in wanted:
            answers[Info.BLOCK_SIZE] = INFO_BLOCK_SIZE.pack(
                Info.BLOCK_SIZE, BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, PAYLOAD_BYTES_MAX
            )
            self._agreement.aligned = option == Option.GO
        for answer in answers.values():
            self._reply(option, Reply.INFO, answer)


def _parse_info_request(data: bytes) -> tuple[bytes, list[int]]:
    """Return the name and the information that INFO or GO asks for; raises _RefusalError."""
    try:
        (name_bytes,) = NAME_LENGTH.unpack_from(data)
        name = data[NAME_LENGTH.size : NAME_LENGTH.size + name_bytes]
        at = NAME_LENGTH.size + name_bytes
        (count,) = INFO_COUNT.unpack_from(data, at)
        wanted = struct.unpack(f">{count}H", data[at + INFO_COUNT.size :])
    except struct.error as error:
        raise _RefusalError(Reply.ERR_INVALID, "lengths and data do not fit together") from error
    if name_bytes > NAME_BYTES_MAX:
        raise _RefusalError(Reply.ERR_TOO_BIG, f"a name has at most {NAME_BYTES_MAX} bytes")
    return name, list(wanted)
