"""
Length-prefixed framing of a byte stream. Pure.

Format (docs/protocol/streams.md section 2, docs/protocol/gossip.md section 4):
C{length: u32 big-endian} is the number of bytes that follow it.
"""

from __future__ import annotations

import sys
from struct import Struct

_LENGTH = Struct(">I")

#: Bytes of the length field.
HEADER_SIZE = _LENGTH.size

#: Encode a length as 4 bytes, big-endian.
encode_length = _LENGTH.pack


def prefix(body: bytes) -> bytes:
    """
    Return C{body} preceded by its length.
    """
    return encode_length(len(body)) + body


#: Binary logarithm of the bytes of a body that count as one more unit of work.
_UNIT_SHIFT = 10


class LengthPrefixed:
    """
    Splits one byte stream into frames, however the stream is chunked.

    It buffers what it was given and has not returned, and less than one frame more.  It
    copies each byte a bounded number of times.

    @ivar fault: why the rest of the stream can't be parsed; C{None} while it can.
    @ivar pending: whether complete frames may be left that were not returned.
    @ivar unused: units that the last L{feed} did not use; negative if its last frame
        was larger.
    """

    __slots__ = ("_data", "_largest", "_needed", "_offset", "_partial", "fault", "pending", "unused")

    def __init__(self, largest: int) -> None:
        """
        @param largest: the most bytes a frame's body may have. The least is 1.
        """
        self.fault: str | None = None
        self.pending = False
        self.unused = 0
        self._largest = largest
        self._partial = bytearray()
        self._needed = 0
        self._data = b""
        self._offset = 0

    def feed(self, data: bytes, units: int = sys.maxsize) -> tuple[bytes, list[tuple[int, int]]]:
        """
        Parse the next chunk of the stream.

        @param data: the chunk; C{b""} to continue with what is L{pending}.
        @param units: how much to return: a frame counts as one unit, and one more for
            each 1024 bytes of its body.
        @return: a buffer, and the start and end offset in it of the body of each of the
            next complete frames.
        """
        pieces: list[tuple[int, int]] = []
        partial = self._partial
        offset = 0
        if self.pending:
            if data:
                data = self._data[self._offset :] + data
            else:
                data, offset = self._data, self._offset
            self.pending = False
            self._data = b""
        elif partial:
            if len(partial) + len(data) < self._needed:
                partial += data
                self.unused = units
                return b"", pieces
            data = b"".join((partial, data))
            partial.clear()
        available = len(data)
        self._needed = HEADER_SIZE
        while (start := offset + HEADER_SIZE) <= available:
            if units <= 0:
                self._data, self._offset, self.pending = data, offset, True
                self.unused = units
                return data, pieces
            (length,) = _LENGTH.unpack_from(data, offset)
            if not 1 <= length <= self._largest:
                self.fault = "frame too large" if length else "bad frame length"
                self.unused = units
                return data, pieces
            end = start + length
            if end > available:
                self._needed = HEADER_SIZE + length
                break
            pieces.append((start, end))
            units -= 1 + (length >> _UNIT_SHIFT)
            offset = end
        self.unused = units
        if offset < available:
            partial += data[offset:]
        return data, pieces

    def within(self) -> bool:
        """
        Return whether a frame has begun and not ended. A frame begins once its length
        field is complete.
        """
        return len(self._partial) >= HEADER_SIZE
