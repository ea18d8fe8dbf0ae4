"""
The subset of postcard that records, hints and gossip share. Pure.

Rules (docs/protocol/gossip.md section 2): integers are little-endian base-128 varints;
a non-minimal varint is accepted if it fits into the byte count of its type. A bool is
00 or 01. Byte strings, text and sequences start with a varint length. An option is 00,
or 01 and the value. The caller decides what to do with bytes after a complete value.
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
    Encode a non-negative C{number} in the fewest bytes.
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
    Encode a byte string: its length, then its bytes.
    """
    return encode_varint(len(data)) + data


def encode_option(data: bytes | None) -> bytes:
    """
    Encode an option whose value, if any, is already encoded.
    """
    return b"\x00" if data is None else b"\x01" + data


class Reader:
    """
    Decodes consecutive values from C{data}.

    Each method raises L{DecodeError<dtt.errors.DecodeError>} if the next bytes are not
    a value of its type.

    @ivar offset: the number of bytes consumed so far.
    """

    __slots__ = ("_data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        """
        @param data: the encoded values.
        @param offset: the number of bytes to skip.
        """
        self._data = data
        self.offset = offset

    def remaining(self) -> int:
        """
        Return the number of bytes left.
        """
        return len(self._data) - self.offset

    def raw(self, count: int) -> bytes:
        """
        Read C{count} bytes.
        """
        start = self.offset
        end = start + count
        if end > len(self._data):
            raise DecodeError("truncated")
        self.offset = end
        return self._data[start:end]

    def u8(self) -> int:
        """
        Read one byte as a number.
        """
        offset = self.offset
        if offset >= len(self._data):
            raise DecodeError("truncated")
        self.offset = offset + 1
        return self._data[offset]

    def boolean(self) -> bool:
        """
        Read a bool.
        """
        byte = self.u8()
        if byte > 1:
            raise DecodeError("bad bool")
        return byte == 1

    def varint(self, bits: int) -> int:
        """
        Read a varint of an unsigned type.

        @param bits: the size of the type: 16, 32 or 64.
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
        Read a byte string.
        """
        return self.raw(self.varint(64))

    def text(self) -> str:
        """
        Read a byte string that must be valid UTF-8.
        """
        try:
            return self.byte_string().decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("bad text") from None

    def option(self, read: Callable[[], T]) -> T | None:
        """
        Read an option.

        @param read: reads the value, if there is one.
        """
        tag = self.u8()
        if tag > 1:
            raise DecodeError("bad option")
        return read() if tag else None

    def sequence(self, read: Callable[[], T]) -> list[T]:
        """
        Read a sequence.

        A value takes at least one byte, so a count above the number of remaining bytes
        is refused before anything is allocated.

        @param read: reads one value.
        """
        count = self.varint(64)
        if count > self.remaining():
            raise DecodeError("truncated")
        return [read() for _ in range(count)]
