"""
Encoding and decoding of the frames of application streams.  Pure.

Rules (docs/protocol/streams.md section 7): kinds 07 to 0b.  Each body begins with the
number of the stream, a varint u32: even if the side that dialled has opened the stream,
odd if the other side has.  A body shorter or longer than its kind demands is a
L{DecodeError}.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field

from dtt.errors import DecodeError
from dtt.wire.length_prefix import prefix
from dtt.wire.postcard import Reader, encode_varint
from dtt.wire.values import frozen

#: The kinds of frames.
OPEN, DATA, CREDIT, END, RESET = range(7, 12)

#: The most bytes of a L{StreamData}, and of a name (docs/protocol/streams.md section 7).
MAX_DATA, MAX_NAME = 4096, 255

#: The largest number of a stream.
MAX_NUMBER = 2**32 - 1

#: Reasons of a L{StreamReset} (docs/protocol/streams.md section 7).
ABORTED, UNKNOWN_NAME, NO_COMMON_TOPIC, TOO_MANY, REFUSED = range(5)


def _size(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@frozen(slots=True)
class StreamOpen:
    """
    The sender opens a stream.

    @ivar stream: its number, higher than those of all streams that this side has opened
        on the connection before.
    @ivar name: what the other side is to serve, 1..255 bytes.
    """

    stream: int
    name: bytes


@frozen(slots=True)
class StreamData:
    """
    The next bytes of a stream.

    @ivar data: 1..4096 bytes.
    """

    stream: int
    data: bytes = field(repr=_size)


@frozen(slots=True)
class StreamCredit:
    """
    The receiver may send more bytes.  The first one accepts a L{StreamOpen}.

    @ivar size: the number of additional bytes, at least 1.
    """

    stream: int
    size: int


@frozen(slots=True)
class StreamEnd:
    """
    The sender sends no more bytes.
    """

    stream: int


@frozen(slots=True)
class StreamReset:
    """
    The sender neither sends nor reads more bytes.

    @ivar reason: one of the reasons above; others are treated like L{ABORTED}.
    """

    stream: int
    reason: int


StreamFrame: TypeAlias = StreamOpen | StreamData | StreamCredit | StreamEnd | StreamReset


def encode_stream_frame(frame: StreamFrame) -> bytes:
    """
    Return the bytes of C{frame}, including its length.
    """
    number = encode_varint(frame.stream)
    match frame:
        case StreamData(_, data):
            return prefix(b"\x08" + number + data)
        case StreamCredit(_, size):
            return prefix(b"\x09" + number + encode_varint(size))
        case StreamOpen(_, name):
            return prefix(b"\x07" + number + name)
        case StreamEnd():
            return prefix(b"\x0a" + number)
        case StreamReset(_, reason):
            return prefix(b"\x0b" + number + bytes((reason,)))


def decode_stream_frame(kind: int, body: bytes) -> StreamFrame:
    """
    Decode a frame.

    @param kind: L{OPEN} to L{RESET}.
    @param body: what follows the kind.
    @raise DecodeError: the body is not as the kind demands.
    """
    reader = Reader(body)
    number = reader.varint(32)
    rest = reader.remaining()
    frame: StreamFrame
    if kind == DATA:
        if not 1 <= rest <= MAX_DATA:
            raise DecodeError("bad stream data")
        return StreamData(number, reader.raw(rest))
    if kind == OPEN:
        if not 1 <= rest <= MAX_NAME:
            raise DecodeError("bad stream name")
        return StreamOpen(number, reader.raw(rest))
    if kind == CREDIT:
        frame = StreamCredit(number, reader.varint(32))
    elif kind == END:
        frame = StreamEnd(number)
    else:
        frame = StreamReset(number, reader.u8())
    if reader.remaining():
        raise DecodeError("bytes after the frame")
    return frame
