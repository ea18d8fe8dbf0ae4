"""
Parser for iroh-gossip streams.  Pure.

Rules (docs/protocol/gossip.md section 4): a frame is C{len: u32 big-endian} and the
body; the first frame of a stream is its header, the 32 bytes of the topic id; all
others are gossip C{Message}s of that topic.
"""

from __future__ import annotations

from dtt.errors import DecodeError
from dtt.wire.length_prefix import LengthPrefixed

#: The largest body that we write, and that we accept (docs/protocol/gossip.md section 4).
MAX_SENT, MAX_RECEIVED = 4095, 4096

#: Bytes in the body of a header.
TOPIC_SIZE = 32

#: The first bytes of a C{Disconnect}, the last message of a topic on a stream
#: (docs/protocol/gossip.md section 3).
DISCONNECT = b"\x00\x05"


class StreamParser:
    """
    Parses one stream.

    @ivar topic_id: the topic that the header names (32 bytes); C{None} before the
        header.
    @ivar fault: why the rest of the stream is unreadable; C{None} if it is readable.
    """

    __slots__ = ("_pieces", "fault", "topic_id")

    def __init__(self) -> None:
        self.topic_id: bytes | None = None
        self.fault: str | None = None
        self._pieces = LengthPrefixed(MAX_RECEIVED)

    def feed(self, data: bytes) -> list[bytes]:
        """
        Return the encoded messages that C{data} completes.  The parser must not be used
        after it has set L{fault}.
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
        Note the end of the stream.

        @raise DecodeError: it ended within a frame.
        """
        if self._pieces.within():
            raise DecodeError("stream ended within a frame")
