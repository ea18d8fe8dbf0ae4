"""
Cuts a byte stream into pieces that tell their length first.  Pure.

Rule (docs/protocol/streams.md section 2, docs/protocol/gossip.md section 4): C{length: u32
big-endian} counts what follows it.
"""

from __future__ import annotations

from struct import Struct

_LENGTH = Struct(">I")

#: Bytes of a length.
HEADER_SIZE = _LENGTH.size

#: The length of what follows, as bytes.
encode_length = _LENGTH.pack


def prefix(body: bytes) -> bytes:
    """
    C{body} with its length before it.
    """
    return encode_length(len(body)) + body


class LengthPrefixed:
    """
    The pieces of one byte stream, however it is cut.  It holds less than one
    piece, and touches each byte a fixed number of times.

    @ivar fault: why nothing after the pieces that were found can be read;
        L{None}: it can.
    """

    __slots__ = ("_largest", "_needed", "_partial", "fault")

    def __init__(self, largest: int) -> None:
        """
        @param largest: the length that a piece may have; it has at least one byte.
        """
        self.fault: str | None = None
        self._largest = largest
        self._partial = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
        """
        The pieces that C{data} completes: bytes, and where in them each begins
        and ends.
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
        Whether a piece has begun and not ended; one whose length is not
        complete has not begun.
        """
        return len(self._partial) >= HEADER_SIZE
