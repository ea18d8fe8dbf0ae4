"""
Parser for iroh-gossip streams.  Pure.

Rules (docs/protocol/gossip.md section 4): a frame is C{len: u32 big-endian} and the
body; the first frame of a stream is its header, the 32 bytes of the topic id; all
others are gossip C{Message}s of that topic.
"""

from __future__ import annotations

import sys

from dtt.errors import DecodeError
from dtt.wire.length_prefix import LengthPrefixed

#: The largest body that we accept by default (docs/protocol/gossip.md section 4); what we write is
#: smaller.
MAX_RECEIVED = 4096

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

    def __init__(self, largest: int = MAX_RECEIVED) -> None:
        """
        @param largest: the size in bytes of the largest body.
        """
        self.topic_id: bytes | None = None
        self.fault: str | None = None
        self._pieces = LengthPrefixed(largest)

    @property
    def pending(self) -> bool:
        """
        Whether complete messages may be left that L{feed} has not returned.
        """
        return self._pieces.pending

    @property
    def unused(self) -> int:
        """
        The units that the last L{feed} did not use; may be negative.
        """
        return self._pieces.unused

    def feed(self, data: bytes, units: int = sys.maxsize) -> list[bytes]:
        """
        Return the encoded messages that C{data} completes, or the first ones.  The
        parser must not be used after it has set L{fault}.

        @param data: what was received; C{b""} to get more of what is L{pending}.
        @param units: how much work the caller may do
            (L{dtt.wire.length_prefix.LengthPrefixed.feed}).
        """
        if self.topic_id is None:
            data, pieces = self._pieces.feed(data, 1)
            self.fault = self._pieces.fault
            if not pieces:
                return []
            ((start, end),) = pieces
            # Bytes after a decoded value are ignored (docs/protocol/gossip.md section 2).
            if end - start < TOPIC_SIZE:
                self.fault = "bad stream header"
                return []
            self.topic_id = data[start : start + TOPIC_SIZE]
            data = b""
        data, pieces = self._pieces.feed(data, units)
        self.fault = self._pieces.fault
        return [data[start:end] for start, end in pieces]

    def end(self) -> None:
        """
        Note the end of the stream.

        @raise DecodeError: it ended within a frame.
        """
        if self._pieces.within():
            raise DecodeError("stream ended within a frame")
