"""
What iroh-gossip writes on its streams, read.  Pure.

Rules (docs/protocol/gossip.md section 4): a frame is C{len: u32 big-endian} and
the body; the first frame of a stream is its header, the 32 bytes of the topic id;
all others are gossip C{Message}s of that topic.
"""

from __future__ import annotations

from dtt.errors import DecodeError
from dtt.wire.length_prefix import LengthPrefixed

#: The largest body that is written, and that is read (docs/protocol/gossip.md section 4).
MAX_SENT, MAX_RECEIVED = 4095, 4096

#: Bytes of a header's body.
TOPIC_SIZE = 32

#: How a C{Disconnect} begins: the last message of a topic on a stream
#: (docs/protocol/gossip.md section 3).
DISCONNECT = b"\x00\x05"


class StreamParser:
    """
    Reads one stream.

    @ivar topic_id: what its header says; L{None} before.
    @ivar fault: why nothing after the messages that were found can be read;
        L{None}: it can.
    """

    __slots__ = ("_pieces", "fault", "topic_id")

    def __init__(self) -> None:
        self.topic_id: bytes | None = None
        self.fault: str | None = None
        self._pieces = LengthPrefixed(MAX_RECEIVED)

    def feed(self, data: bytes) -> list[bytes]:
        """
        The messages that C{data} completes.  The parser must not be used again
        once it has a L{fault}.
        """
        data, pieces = self._pieces.feed(data)
        self.fault = self._pieces.fault
        if self.topic_id is None and pieces:
            start, end = pieces.pop(0)
            # Bytes after a decoded value are ignored (docs/protocol/gossip.md section 2).
            if end - start < TOPIC_SIZE:
                self.fault = "bad stream header"
                return []
            self.topic_id = data[start : start + TOPIC_SIZE]
        return [data[start:end] for start, end in pieces]

    def end(self) -> None:
        """
        The stream has ended.

        @raise DecodeError: within a body.
        """
        if self._pieces.within():
            raise DecodeError("stream ended within a frame")
