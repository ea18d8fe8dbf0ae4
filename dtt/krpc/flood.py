"""
Inbound rate limiting by source address. Pure.

Rules: a source is an IPv4 address or an IPv6 /64. It may send L{MAX_IN_WINDOW}
datagrams per window of 10 s. A source that sends more is ignored for L{PENALTY}
seconds, and for longer if it continues. The table has a fixed size and evicts the least
recently active source, so a flood from many addresses costs no memory. Replies to our
own queries do not count. They are processed even if their source is over the limit
(L{dtt.krpc.protocol}): a source can be forged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: The length of a window in seconds, and the datagrams one source may send in it.
#: libtorrent bans at 50 in 10 s (docs/protocol/dht.md section 1), which hits several
#: nodes behind one address. No honest node comes near 100 per second. Guess.
WINDOW: Final = 10.0
MAX_IN_WINDOW: Final = 1000

#: Seconds for which a source is ignored after exceeding the limit. Guess.
PENALTY: Final = 60.0

#: The most sources tracked. Guess.
MAX_SOURCES: Final = 4096


class _Window:
    """
    The state of one source.

    @ivar ends: the time at which its window or its penalty ends.
    @ivar left: the number of datagrams it may still send until then.
    """

    __slots__ = ("ends", "left")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.left = MAX_IN_WINDOW


class FloodLimiter:
    """
    Decides which inbound datagrams are processed, by counting them per source.
    """

    __slots__ = ("_source", "_windows")

    def __init__(self, source: Callable[[str], str] | None = None) -> None:
        """
        @param source: maps an IP literal to its source; C{None}: each address is a separate source.
        """
        self._source = source
        # Least recently active first.
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        """
        Return the number of sources tracked.
        """
        return len(self._windows)

    def admits(self, host: str, now: float) -> bool:
        """
        Count a datagram from C{host}.

        @param host: an IP literal.
        @param now: seconds.
        @return: whether to process the datagram.
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
        if window.left == 0 or window.left <= -MAX_IN_WINDOW:  # over the limit, or still sending
            window.left = 0
            window.ends = now + PENALTY
        return False

    def refund(self, host: str) -> None:
        """
        Uncount the datagram just admitted: it is a reply to one of our queries.
        """
        window = self._windows.get(host if self._source is None else self._source(host))
        if window is not None:
            window.left += 1
