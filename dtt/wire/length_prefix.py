"""
Length-prefixed framing of a byte stream. Pure.

Format (docs/protocol/streams.md section 2, docs/protocol/gossip.md section 4):
C{length: u32 big-endian} is the number of bytes that follow it.
"""

from __future__ import annotations

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


class LengthPrefixed:
    """
    Splits one byte stream into frames, however the stream is chunked.

    It buffers less than one frame and copies each byte a bounded number of times.

    @ivar fault: why the rest of the stream can't be parsed; C{None} while it can.
    """

    __slots__ = ("_largest", "_needed", "_partial", "fault")

    def __init__(self, largest: int) -> None:
        """
        @param largest: the most bytes a frame's body may have. The least is 1.
        """
        self.fault: str | None = None
        self._largest = largest
        self._partial = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
        """
        Parse the next chunk of the stream.

        @return: a buffer, and the start and end offset in it of the body of each frame
            that C{data} completes.
        """
        pieces: list[tuple[int, int]] = []
        partial = self._partial
        if partial:
            if len(partial) + len(data) < self._needed:
                partial += data
                return b"", pieces
            data = b"".join((partial, data))
            partial.clear()
        offset, available = 0, len(data)
        self._needed = HEADER_SIZE
        while (start := offset + HEADER_SIZE) <= available:
            (length,) = _LENGTH.unpack_from(data, offset)
            if not 1 <= length <= self._largest:
                self.fault = "bad frame length"
                return data, pieces
            end = start + length
            if end > available:
                self._needed = HEADER_SIZE + length
                break
            pieces.append((start, end))
            offset = end
        if offset < available:
            partial += data[offset:]
        return data, pieces

    def within(self) -> bool:
        """
        Return whether a frame has begun and not ended. A frame begins once its length
        field is complete.
        """
        return len(self._partial) >= HEADER_SIZE
