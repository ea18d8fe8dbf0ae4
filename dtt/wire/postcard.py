"""
The subset of postcard that records, hints and gossip share.  Pure.

Rules (docs/protocol/gossip.md section 2): integers are little-endian base-128
varints, non-minimal ones are accepted within the type's byte count; a bool is
00 or 01; byte strings, text and sequences carry a varint length; an option is
00 or 01 and the value; bytes after a complete value are the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dtt.errors import DecodeError

T = TypeVar("T")

_MAX_BYTES = {16: 3, 32: 5, 64: 10}

#: The numbers that take one byte.
_BYTES = tuple(bytes((number,)) for number in range(0x80))


def encode_varint(number: int) -> bytes:
    """
    C{number} (not negative) in the fewest bytes.
    """
    if number < 0x80:
        return _BYTES[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_bytes(data: bytes) -> bytes:
    """
    A byte string with its length before it.
    """
    return encode_varint(len(data)) + data


def encode_option(data: bytes | None) -> bytes:
    """
    An optional value that is encoded already.
    """
    return b"\x00" if data is None else b"\x01" + data


class Reader:
    """
    Takes values off the front of C{data}.

    Each method raises L{DecodeError} when the bytes are not such a value.

    @ivar offset: bytes consumed so far.
    """

    __slots__ = ("_data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self.offset = offset

    def remaining(self) -> int:
        """
        How many bytes are left.
        """
        return len(self._data) - self.offset

    def raw(self, count: int) -> bytes:
        """
        The next C{count} bytes.
        """
        start = self.offset
        end = start + count
        if end > len(self._data):
            raise DecodeError("truncated")
        self.offset = end
        return self._data[start:end]

    def u8(self) -> int:
        """
        One raw byte.
        """
        offset = self.offset
        if offset >= len(self._data):
            raise DecodeError("truncated")
        self.offset = offset + 1
        return self._data[offset]

    def boolean(self) -> bool:
        """
        00 or 01.
        """
        byte = self.u8()
        if byte > 1:
            raise DecodeError("bad bool")
        return byte == 1

    def varint(self, bits: int) -> int:
        """
        A varint of an unsigned type of 16, 32 or 64 C{bits}.
        """
        byte = self.u8()
        if byte < 0x80:
            return byte
        number = byte & 0x7F
        for shift in range(7, 7 * _MAX_BYTES[bits], 7):
            byte = self.u8()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >> bits:
                    raise DecodeError("varint overflow")
                return number
        raise DecodeError("varint too long")

    def byte_string(self) -> bytes:
        """
        A length and that many bytes.
        """
        return self.raw(self.varint(64))

    def text(self) -> str:
        """
        A byte string that must be UTF-8.
        """
        try:
            return self.byte_string().decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("bad text") from None

    def option(self, read: Callable[[], T]) -> T | None:
        """
        Nothing, or the value that C{read} takes.
        """
        tag = self.u8()
        if tag > 1:
            raise DecodeError("bad option")
        return read() if tag else None

    def sequence(self, read: Callable[[], T]) -> list[T]:
        """
        A count and that many values.  A value takes at least one byte, so a
        count beyond the remaining bytes is refused before anything is built.
        """
        count = self.varint(64)
        if count > self.remaining():
            raise DecodeError("truncated")
        return [read() for _ in range(count)]
