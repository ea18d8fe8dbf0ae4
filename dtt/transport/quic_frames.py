"""
What iroh-gossip writes on its streams, read.  Pure.

Rules (specs/iroh-gossip.md section 4): a frame is C{len: u32 big-endian} and
the body; the first frame of a stream is its header, the 32 bytes of the topic id;
all others are gossip C{Message}s of that topic.
"""

from __future__ import annotations

from collections.abc import Iterator

from dtt.errors import DecodeError
from dtt.transport.length_prefix import LengthPrefixed

#: The largest body that is written, and that is read (specs/iroh-gossip.md section 4).
MAX_SENT, MAX_RECEIVED = 4095, 4096

#: Bytes of a header's body.
TOPIC_SIZE = 32

#: How a C{Disconnect} begins: the last message of a topic on a stream
#: (specs/iroh-gossip.md section 3).
DISCONNECT = b"\x00\x05"


class StreamParser:
    """
    Reads one stream.

    @ivar topic_id: what its header says; L{None} before.
    """

    __slots__ = ("_pieces", "topic_id")

    def __init__(self) -> None:
        self.topic_id: bytes | None = None
        self._pieces = LengthPrefixed(MAX_RECEIVED)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        The messages that C{data} completes; those before a malformed frame are
        still given out.

        @raise DecodeError: on iteration; the parser must not be used again.
        """
        for piece, start, end in self._pieces.feed(data):
            if self.topic_id is not None:
                yield piece[start:end]
            # Bytes after a decoded value are ignored (specs/iroh-gossip.md section 2).
            elif end - start < TOPIC_SIZE:
                raise DecodeError("bad stream header")
            else:
                self.topic_id = piece[start : start + TOPIC_SIZE]

    def end(self) -> None:
        """
        The stream has ended.

        @raise DecodeError: within a body.
        """
        if self._pieces.within():
            raise DecodeError("stream ended within a frame")
