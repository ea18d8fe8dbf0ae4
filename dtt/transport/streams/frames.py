"""
Encoding and decoding of frames.  Pure.

Rules (docs/protocol/streams.md section 2): C{length: u32 big-endian} counts what
follows it, 1..8192 bytes: one byte of kind, then the body.  A body shorter or longer
than its kind requires and a message above 4096 bytes, encrypted or not, are
L{DecodeError}s: the connection is then unusable.  With another C{max_message_size}, that
is the limit of messages, and 4096 more that of frames.  A frame of unknown kind is
skipped, whatever its body, so that new kinds need no new ALPN.  The kinds 07 to 0b, of
application streams, are those of L{dtt.transport.appstreams.frames}.
"""

from __future__ import annotations

import sys
from struct import Struct
from typing import TypeAlias

from attrs import field

from dtt.errors import DecodeError
from dtt.identity import KEY_BYTES
from dtt.transport.appstreams.frames import OPEN as _FIRST_STREAM_KIND
from dtt.transport.appstreams.frames import RESET as _LAST_STREAM_KIND
from dtt.transport.appstreams.frames import StreamFrame, decode_stream_frame
from dtt.wire.addresses import encode_sockets, read_sockets
from dtt.wire.length_prefix import LengthPrefixed, prefix
from dtt.wire.postcard import Reader, encode_varint
from dtt.wire.values import frozen

#: The largest gossip C{Message} by default (docs/protocol/gossip.md section 1, max_message_size),
#: and the largest Join that is sent early.
MAX_MESSAGE = 4096

#: By how much the largest C{length} exceeds the largest message, and its default
#: (docs/protocol/streams.md section 2).
FRAME_MARGIN = 4096
MAX_FRAME = MAX_MESSAGE + FRAME_MARGIN

#: Bytes of an admission tag (HMAC-SHA256).
TAG_SIZE = 32

#: Payload bytes of a PING.
PING_SIZE = 8

#: Bytes that encryption adds to an EARLY: the tag of Poly1305 (RFC 8439 section 2.8).
SEAL_SIZE = 16

_OPEN, _DATA, _CLOSE, _PING, _PONG = range(5)
_RENDEZVOUS, _EARLY = 5, 6
_CLOCK = 12

#: Bytes of the time in a L{ClockTime}.
CLOCK_SIZE = 8

#: The most addresses in a L{Rendezvous}.
MAX_RENDEZVOUS = 4

#: The kinds of frames that show only that the sender is alive, and the bytes before the kind.
IDLE_KINDS = (_PING, _PONG)
LENGTH_SIZE = 4

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
class Rendezvous:
    """
    Asks for an introduction to a peer, or is one: see
    L{dtt.transport.streams.introductions}.

    @ivar channel: the number of the sender's L{Open} for the topic, 0..65535.
    @ivar is_forwarded: whether it has come from the asker through another member.
    @ivar asker: the peer that wants to connect (32 bytes).
    @ivar target: the peer to which it wants to connect (32 bytes).
    @ivar addresses: IP literals and UDP ports of the asker, at most L{MAX_RENDEZVOUS}.
    """

    channel: int
    is_forwarded: bool
    asker: bytes
    target: bytes
    addresses: tuple[tuple[str, int], ...]


@frozen(slots=True)
class ClockTime:
    """
    The time of the sender's clock: see docs/protocol/clock.md.

    @ivar milliseconds: unix milliseconds, 0..2^64-1.
    """

    milliseconds: int


@frozen(slots=True)
class Unknown:
    """
    A frame of unknown kind; its body is discarded.

    @ivar kind: 0..255.
    """

    kind: int


#: Frames that we send.
Frame: TypeAlias = Open | Data | Close | Ping | Pong | Early | Rendezvous | ClockTime

#: Frames that a peer may send.
ReceivedFrame: TypeAlias = Frame | StreamFrame | Unknown


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
        case ClockTime(milliseconds):
            body = bytes((_CLOCK,)) + milliseconds.to_bytes(CLOCK_SIZE)
        case Early(channel, sealed):
            body = b"\x06" + encode_varint(channel) + sealed
        case Rendezvous(channel, is_forwarded, asker, target, addresses):
            hop = b"\x01" if is_forwarded else b"\x00"
            body = b"\x05" + encode_varint(channel) + hop + asker + target + encode_sockets(addresses)
    return prefix(body)


def _decode(kind: int, data: bytes, start: int, end: int, max_message: int) -> ReceivedFrame:
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
        if end - start > max_message:
            raise DecodeError("message too large")
        return Data(channel, data[start:end])
    if _FIRST_STREAM_KIND <= kind <= _LAST_STREAM_KIND:
        return decode_stream_frame(kind, data[start:end])
    if kind in (_PING, _PONG):
        if end - start != PING_SIZE:
            raise DecodeError("bad ping")
        payload = data[start:end]
        return Ping(payload) if kind == _PING else Pong(payload)
    if kind == _CLOCK:
        if end - start != CLOCK_SIZE:
            raise DecodeError("bad clock")
        return ClockTime(int.from_bytes(data[start:end]))
    if kind not in (_OPEN, _CLOSE, _RENDEZVOUS, _EARLY):
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
    frame: Frame
    if kind == _RENDEZVOUS:
        frame = _read_rendezvous(channel, reader)
    else:
        frame = Open(channel, reader.raw(TAG_SIZE)) if kind == _OPEN else Close(channel)
    if reader.remaining():
        raise DecodeError("bytes after the frame")
    return frame


def _read_rendezvous(channel: int, reader: Reader) -> Rendezvous:
    hop = reader.u8()
    asker, target = reader.raw(KEY_BYTES), reader.raw(KEY_BYTES)
    addresses = read_sockets(reader)
    if hop > 1 or len(addresses) > MAX_RENDEZVOUS:
        raise DecodeError("bad rendezvous")
    return Rendezvous(channel, hop == 1, asker, target, tuple(addresses))


class FrameParser:
    """
    Splits a byte stream, received in arbitrary pieces, into frames.  It buffers what it
    was given and has not returned, and less than one frame more.  It touches each byte
    a bounded number of times.

    @ivar fault: why the rest of the stream is unreadable; C{None} if it is readable.
    """

    __slots__ = ("_max_message", "_pieces", "fault")

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        """
        @param max_message: the size in bytes of the largest gossip message.
        """
        self.fault: str | None = None
        self._max_message = max_message
        self._pieces = LengthPrefixed(max_message + FRAME_MARGIN)

    @property
    def pending(self) -> bool:
        """
        Whether complete frames may be left that L{feed} has not returned.
        """
        return self._pieces.pending

    @property
    def unused(self) -> int:
        """
        The units that the last L{feed} did not use; may be negative.
        """
        return self._pieces.unused

    def feed(self, data: bytes, units: int = sys.maxsize) -> list[ReceivedFrame]:
        """
        Return the frames that C{data} completes, or the first ones.  The parser must
        not be used after it has set L{fault}.

        @param data: what was received; C{b""} to get more of what is L{pending}.
        @param units: how much work the caller may do
            (L{dtt.wire.length_prefix.LengthPrefixed.feed}).
        """
        data, pieces = self._pieces.feed(data, units)
        self.fault = self._pieces.fault
        frames: list[ReceivedFrame] = []
        largest = self._max_message
        try:
            for start, end in pieces:
                frames.append(_decode(data[start], data, start + 1, end, largest))
        except DecodeError as error:
            self.fault = str(error)
        return frames
