"""
Encoding and decoding of frames.  Pure.

Rules (docs/protocol/streams.md section 2): C{length: u32 big-endian} counts what
follows it, 1..8192 bytes: one byte of kind, then the body.  A body shorter or longer
than its kind requires and a message above 4096 bytes, encrypted or not, are
L{DecodeError}s: the connection is then unusable.  A frame of unknown kind is skipped,
whatever its body, so that new kinds need no new ALPN.  Reserved: 05 for rendezvous, 07
to 0b for application streams.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeAlias

from attrs import field

from dtt.errors import DecodeError
from dtt.wire.length_prefix import LengthPrefixed, prefix
from dtt.wire.postcard import Reader, encode_varint
from dtt.wire.values import frozen

#: The largest C{length} (docs/protocol/streams.md section 2).
MAX_FRAME = 8192

#: The largest gossip C{Message} (docs/protocol/gossip.md section 1, max_message_size).
MAX_MESSAGE = 4096

#: Bytes of an admission tag (HMAC-SHA256).
TAG_SIZE = 32

#: Payload bytes of a PING.
PING_SIZE = 8

#: Bytes that encryption adds to an EARLY: the tag of Poly1305 (RFC 8439 section 2.8).
SEAL_SIZE = 16

_OPEN, _DATA, _CLOSE, _PING, _PONG = range(5)
_EARLY = 6

#: Length, kind and channel of a L{Data} whose channel number takes one byte.
_DATA_HEADER = Struct(">IBB")


def _size(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@frozen(slots=True)
class Open:
    """
    The sender takes part in a topic.

    @ivar channel: the number that its later L{Data} for the topic carry, 0..65535.
    @ivar tag: names the topic to holders of its secret (32 bytes).
    """

    channel: int
    tag: bytes = field(repr=_size)


@frozen(slots=True)
class Data:
    """
    One encoded gossip message.

    @ivar channel: the number of the sender's L{Open} for the topic, 0..65535.
    @ivar message: at most L{MAX_MESSAGE} bytes.
    """

    channel: int
    message: bytes = field(repr=_size)


@frozen(slots=True)
class Close:
    """
    The sender has left a topic.

    @ivar channel: the number of its L{Open}, which is free again.
    """

    channel: int


@frozen(slots=True)
class Ping:
    """
    Asks for a L{Pong} with the same payload.

    @ivar payload: 8 bytes.
    """

    payload: bytes


@frozen(slots=True)
class Pong:
    """
    The answer to a L{Ping}.

    @ivar payload: the 8 bytes of the L{Ping}.
    """

    payload: bytes


@frozen(slots=True)
class Early:
    """
    The sender's C{Join}, directly after its L{Open} of the channel: see
    L{dtt.transport.streams.early}.

    @ivar channel: the number of the L{Open}, 0..65535.
    @ivar sealed: L{SEAL_SIZE} to L{MAX_MESSAGE} + L{SEAL_SIZE} bytes.
    """

    channel: int
    sealed: bytes = field(repr=_size)


@frozen(slots=True)
class Unknown:
    """
    A frame of unknown kind; its body is discarded.

    @ivar kind: 0..255.
    """

    kind: int


#: Frames that we send.
Frame: TypeAlias = Open | Data | Close | Ping | Pong | Early

#: Frames that a peer may send.
ReceivedFrame: TypeAlias = Frame | Unknown


def encode_frame(frame: Frame) -> bytes:
    """
    Return the bytes of C{frame}, including its length.
    """
    match frame:
        case Data(channel, message):
            if channel < 0x80:
                return _DATA_HEADER.pack(2 + len(message), _DATA, channel) + message
            body = b"\x01" + encode_varint(channel) + message
        case Open(channel, tag):
            body = b"\x00" + encode_varint(channel) + tag
        case Close(channel):
            body = b"\x02" + encode_varint(channel)
        case Ping(payload):
            body = b"\x03" + payload
        case Pong(payload):
            body = b"\x04" + payload
        case Early(channel, sealed):
            body = b"\x06" + encode_varint(channel) + sealed
    return prefix(body)


def _decode(kind: int, data: bytes, start: int, end: int) -> ReceivedFrame:
    """
    Decode the frame of C{kind} whose body is C{data[start:end]}.
    """
    if kind == _DATA:
        # The hot path: a channel below 128 is one byte.
        if start < end and (channel := data[start]) < 0x80:
            start += 1
        else:
            reader = Reader(data[start:end])
            channel = reader.varint(16)
            start += reader.offset
        if end - start > MAX_MESSAGE:
            raise DecodeError("message too large")
        return Data(channel, data[start:end])
    if kind in (_PING, _PONG):
        if end - start != PING_SIZE:
            raise DecodeError("bad ping")
        payload = data[start:end]
        return Ping(payload) if kind == _PING else Pong(payload)
    if kind not in (_OPEN, _CLOSE, _EARLY):
        return Unknown(kind)
    reader = Reader(data[start:end])
    channel = reader.varint(16)
    if kind == _EARLY:
        size = reader.remaining()
        if size > MAX_MESSAGE + SEAL_SIZE:
            raise DecodeError("message too large")
        if size < SEAL_SIZE:
            raise DecodeError("truncated")
        return Early(channel, reader.raw(size))
    frame = Open(channel, reader.raw(TAG_SIZE)) if kind == _OPEN else Close(channel)
    if reader.remaining():
        raise DecodeError("bytes after the frame")
    return frame


class FrameParser:
    """
    Splits a byte stream, received in arbitrary pieces, into frames.  It buffers less
    than one frame, and touches each byte a bounded number of times.

    @ivar fault: why the rest of the stream is unreadable; C{None} if it is readable.
    """

    __slots__ = ("_pieces", "fault")

    def __init__(self) -> None:
        self.fault: str | None = None
        self._pieces = LengthPrefixed(MAX_FRAME)

    def feed(self, data: bytes) -> list[ReceivedFrame]:
        """
        Return the frames that C{data} completes.  The parser must not be used after it
        has set L{fault}.
        """
        data, pieces = self._pieces.feed(data)
        self.fault = self._pieces.fault
        frames: list[ReceivedFrame] = []
        try:
            for start, end in pieces:
                frames.append(_decode(data[start], data, start + 1, end))
        except DecodeError as error:
            self.fault = str(error)
        return frames
