"""
Flow control of one application stream.  Pure.

Rules (docs/protocol/streams.md section 7): a side may send as many bytes as the other
side has allowed it to.  It never allows more than L{WINDOW} bytes beyond what its
application has taken, so that is the most it has to keep.  It allows more when the
application has taken a quarter of the window.
"""

from __future__ import annotations

from dtt.errors import DecodeError
from dtt.transport.appstreams.frames import MAX_DATA

#: Bytes that may be on the way or kept at the receiver (docs/protocol/streams.md section 7).
WINDOW = 256 * 1024

#: Bytes taken by the application until more are allowed (guess: fewer frames than one for each
#: L{MAX_DATA}, and the sender need not wait as long as the path carries the rest in a round trip).
_STEP = WINDOW // 4


class Backlog:
    """
    The unsent data of several streams.

    @ivar size: its size in bytes.
    """

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class Outgoing:
    """
    The unsent data of a stream.

    @ivar allowed: bytes that the other side allows us to send now.
    """

    __slots__ = ("_backlog", "_queue", "allowed")

    def __init__(self, backlog: Backlog) -> None:
        """
        @param backlog: that of all streams, which is kept up to date.
        """
        self._backlog = backlog
        self._queue = bytearray()
        self.allowed = 0

    def __len__(self) -> int:
        return len(self._queue)

    def write(self, data: bytes) -> None:
        """
        Append C{data}.
        """
        self._queue += data
        self._backlog.size += len(data)

    def clear(self) -> None:
        """
        Forget what is still to be sent.
        """
        self._backlog.size -= len(self._queue)
        self._queue.clear()

    def credited(self, size: int) -> None:
        """
        Note that the other side allows more bytes.

        @raise DecodeError: it allows none, or more than a window.
        """
        if not 1 <= size <= WINDOW - self.allowed:
            raise DecodeError("bad stream credit")
        self.allowed += size

    @property
    def ready(self) -> bool:
        """
        Whether data may be sent now.
        """
        return self.allowed > 0 and len(self._queue) > 0

    def take(self) -> bytes:
        """
        Remove and return the bytes of the next frame, at most L{MAX_DATA}.
        """
        size = min(MAX_DATA, self.allowed)
        with memoryview(self._queue) as view, view[:size] as part:
            data = bytes(part)
        del self._queue[:size]
        self._backlog.size -= len(data)
        self.allowed -= len(data)
        return data


class Incoming:
    """
    The receive window: how much the other side may send.
    """

    __slots__ = ("_allowed", "_taken")

    def __init__(self) -> None:
        self._allowed = WINDOW
        self._taken = 0

    def received(self, size: int) -> None:
        """
        Note that bytes have arrived.

        @raise DecodeError: these are more than we have allowed.
        """
        if size > self._allowed:
            raise DecodeError("more stream data than allowed")
        self._allowed -= size

    def taken(self, size: int) -> int:
        """
        Note that the application has taken bytes.

        @return: the number of additional bytes to allow the other side now; 0: none.
        """
        self._taken += size
        if self._taken < _STEP:
            return 0
        more, self._taken = self._taken, 0
        self._allowed += more
        return more
