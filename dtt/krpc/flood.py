"""
Whose datagrams are not even looked at.  Pure.

Rules: a source, that is, an IPv4 address or a /64 of IPv6, may send so many datagrams in a window
of 10 s; one that sends more is ignored for as long as it goes on, and a while
longer.  The table is of fixed size; the source that was silent for longest is
forgotten first, so that a flood from many addresses costs no memory.  Replies
to our own queries are free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: Seconds of a window, and datagrams that one source may send in it.  libtorrent
#: bans at 50 in 10 s (docs/protocol/dht.md section 1), which hits several nodes behind
#: one address; 100 a second are what no honest node comes near.  Guess.
WINDOW: Final = 10.0
MAX_IN_WINDOW: Final = 1000

#: Seconds that a source is ignored after a window in which it sent too much.
#: Guess.
PENALTY: Final = 60.0

#: Sources that are remembered.  Guess.
MAX_SOURCES: Final = 4096


class _Window:
    """
    What one source sent.

    @ivar ends: when its window ends, or its penalty.
    @ivar left: how many more datagrams it may send until then.
    """

    __slots__ = ("ends", "left")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.left = MAX_IN_WINDOW


class FloodGate:
    """
    Counts datagrams by source.
    """

    __slots__ = ("_source", "_windows")

    def __init__(self, source: Callable[[str], str] | None = None) -> None:
        """
        @param source: what counts as one source, from an IP literal; L{None}:
            each address.
        """
        self._source = source
        # The source that sent something last comes last.
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        """
        How many sources are remembered.
        """
        return len(self._windows)

    def admits(self, host: str, now: float) -> bool:
        """
        Is a datagram that C{host} has sent to be looked at?
        """
        if self._source is not None:
            host = self._source(host)
        windows = self._windows
        window = windows.get(host)
        if window is None and len(windows) >= MAX_SOURCES:
            windows.popitem(last=False)
        if window is None or now >= window.ends:
            windows[host] = _Window(now + WINDOW)
            windows.move_to_end(host)
            return True
        windows.move_to_end(host)
        window.left -= 1
        if window.left > 0:
            return True
        if window.left == 0 or window.left <= -MAX_IN_WINDOW:  # too much, or it goes on
            window.left = 0
            window.ends = now + PENALTY
        return False

    def refund(self, host: str) -> None:
        """
        The datagram that was just admitted is one that we asked for.
        """
        window = self._windows.get(host if self._source is None else self._source(host))
        if window is not None:
            window.left += 1
