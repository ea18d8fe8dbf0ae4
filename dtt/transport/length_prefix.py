"""
Cuts a byte stream into pieces that tell their length first.  Pure.

Rule (specs/streams.md section 2, specs/iroh-gossip.md section 4): C{length: u32
big-endian} counts what follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from dtt.errors import DecodeError

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
    """

    __slots__ = ("_largest", "_needed", "_partial")

    def __init__(self, largest: int) -> None:
        """
        @param largest: the length that a piece may have; it has at least one byte.
        """
        self._largest = largest
        self._partial = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int, int]]:
        """
        The pieces that C{data} completes, one at a time: those before a
        malformed one are still given out.  Each as bytes, and where in them it
        begins and ends.

        @raise DecodeError: on iteration; the object must not be used again.
        """
        partial = self._partial
        if partial:
            if len(partial) + len(data) < self._needed:
                partial += data
                return
            data = b"".join((partial, data))
            partial.clear()
        offset, available = 0, len(data)
        needed = HEADER_SIZE
        while available - offset >= HEADER_SIZE:
            (length,) = _LENGTH.unpack_from(data, offset)
            if not 1 <= length <= self._largest:
                raise DecodeError("bad frame length")
            needed = HEADER_SIZE + length
            if available - offset < needed:
                break
            start = offset + HEADER_SIZE
            offset += needed
            needed = HEADER_SIZE
            yield data, start, offset
        if offset < available:
            partial += data[offset:]
            self._needed = needed

    def within(self) -> bool:
        """
        Whether a piece has begun and not ended; one whose length is not
        complete has not begun.
        """
        return len(self._partial) >= HEADER_SIZE
