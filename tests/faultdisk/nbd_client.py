"""A small NBD client that also says what no good client would."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from faultdisk.nbd import protocol
from faultdisk.nbd.protocol import Chunk, Command, Info, Option, Reply

BOTH_FLAGS = 3


class Answer(NamedTuple):
    """A reply to a request."""

    cookie: int
    error: int
    data: bytes = b""
    kind: int | None = None
    """The type of the chunk, None for a simple reply."""
    text: str = ""
    place: int | None = None


class NbdClient:
    """One connection."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.structured = False
        self.lengths: dict[int, int] = {}

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # ------------------------------------------------------------------------- bytes

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise EOFError(f"{len(data)} of {length} bytes came")
            data += part
        return bytes(data)

    def ended(self) -> bool:
        """Tell whether the server has ended the connection, after all it sent."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # --------------------------------------------------------------------- handshake

    def greet(self, flags: int = BOTH_FLAGS) -> int:
        """Exchange greetings; return the server's flags."""
        magic, options, offered = protocol.GREETING.unpack(self.read(protocol.GREETING.size))
        assert struct.pack(">QQ", magic, options) == b"NBDMAGICIHAVEOPT"
        self.send(protocol.CLIENT_FLAGS.pack(flags))
        return int(offered)

    def option(
        self, option: int, data: bytes = b"", length: int | None = None
    ) -> list[tuple[int, bytes]]:
        """Send an option; return the types and data of all replies to it."""
        claimed = len(data) if length is None else length
        self.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, option, claimed), data)
        replies: list[tuple[int, bytes]] = []
        while not replies or replies[-1][0] in (Reply.SERVER, Reply.INFO):
            header = self.read(protocol.OPTION_REPLY.size)
            magic, answered, kind, length_bytes = protocol.OPTION_REPLY.unpack(header)
            assert (magic, answered) == (protocol.OPTION_REPLY_MAGIC, option)
            replies.append((kind, self.read(length_bytes)))
        return replies

    def go(
        self, *wanted: Info, structured: bool = True, option: int = Option.GO
    ) -> dict[int, bytes]:
        """Enter the transmission; return the information that came."""
        self.greet()
        if structured:
            assert self.option(Option.STRUCTURED_REPLY) == [(Reply.ACK, b"")]
            self.structured = True
        *infos, last = self.option(option, info_request(b"", *wanted))
        assert last == (Reply.ACK, b"")
        return {struct.unpack(">H", data[:2])[0]: data[2:] for _, data in infos}

    # ------------------------------------------------------------------ transmission

    def request(
        self,
        command: int,
        offset: int = 0,
        length: int = 0,
        data: bytes = b"",
        flags: int = 0,
        cookie: int = 1,
    ) -> None:
        """Send a request."""
        length = len(data) or length
        self.lengths[cookie] = length if command == Command.READ else 0
        fields = (protocol.REQUEST_MAGIC, flags, command, cookie, offset, length)
        self.send(protocol.REQUEST.pack(*fields), data)

    def receive(self) -> Answer:
        """Return the next reply."""
        (magic,) = struct.unpack(">I", head := self.read(4))
        if magic == protocol.SIMPLE_REPLY_MAGIC:
            head += self.read(protocol.SIMPLE_REPLY.size - 4)
            _, error, cookie = protocol.SIMPLE_REPLY.unpack(head)
            length = self.lengths[cookie]
            assert not (self.structured and length), "a read is answered by chunks"
            return Answer(cookie, error, b"" if error else self.read(length))
        assert magic == protocol.CHUNK_MAGIC
        assert self.structured
        head += self.read(protocol.CHUNK.size - 4)
        _, flags, kind, cookie, length = protocol.CHUNK.unpack(head)
        assert flags == 1, "one chunk is the whole reply"
        return _chunk(cookie, kind, self.read(length))

    def ask(
        self,
        command: int,
        offset: int = 0,
        length: int = 0,
        data: bytes = b"",
        flags: int = 0,
        cookie: int = 1,
    ) -> Answer:
        """Send a request and return the reply to it."""
        self.request(command, offset, length, data, flags, cookie)
        return self.receive()


def _chunk(cookie: int, kind: int, payload: bytes) -> Answer:
    if kind == Chunk.OFFSET_DATA:
        (place,) = struct.unpack(">Q", payload[:8])
        return Answer(cookie, 0, payload[8:], kind, place=place)
    error, text_bytes = struct.unpack(">IH", payload[:6])
    text, rest = payload[6 : 6 + text_bytes].decode(), payload[6 + text_bytes :]
    assert len(rest) == (8 if kind == Chunk.ERROR_OFFSET else 0)
    place = struct.unpack(">Q", rest)[0] if rest else None
    return Answer(cookie, error, kind=kind, text=text, place=place)


def info_request(name: bytes, *wanted: int) -> bytes:
    """Return the data of INFO and GO."""
    counted = struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)
    return struct.pack(">I", len(name)) + name + counted
