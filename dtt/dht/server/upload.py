"""
Upload limits for answers. Pure.

Rules (docs/protocol/dht.md section 3): all answers together have an upload limit. An
address is proven by a completed round trip: a response to one of our queries or a valid
token. Answers to other addresses, which may be forged, are limited per line (/24, or /48
of IPv6), so that our node is useless for flooding a third party. A proven address (of
IPv6: a line) may use half of the upload. When the upload is short, answers to proven addresses have
priority. Bytes are charged after an answer was created, so the first answers always
fit, whatever their size. Our own queries are not limited here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dtt.net.bounded import make_room
from dtt.net.networks import packed_line

#: Bytes per second to the unproven addresses of one network, and in total
#: (docs/protocol/dht.md section 3; libtorrent's upload limit is 8 kB/s too).
NETWORK_RATE: Final = 2000.0
UPLOAD_RATE: Final = 8000.0

#: The fraction of the total for one proven address. Guess.
PROVEN_SHARE: Final = 0.5

#: The burst of each limit, in seconds' worth of bytes: of one address or network
#: (guess); of the total, as in libtorrent (its C{dht_tracker::has_quota}), since
#: otherwise a few neighbours that all look something up in the same second leave
#: nothing for a newcomer; and the addition to the latter for proven addresses (guess).
BURST_SECONDS: Final = 1.0
UPLOAD_BURST_SECONDS: Final = 3.0
RESERVE_SECONDS: Final = 1.0

#: Seconds that an address stays proven: the lifetime of a token.
PROVEN_SECONDS: Final = 600.0

#: The most proven addresses, and the most charged addresses and networks, remembered.
#: Guesses.
MAX_PROVEN: Final = 8192
MAX_CHARGED: Final = 4096


def _proven_key(ip: bytes) -> bytes:
    return ip if len(ip) == 4 else packed_line(ip)


class AnswerLimits:
    """
    Decides which queriers may be answered now.

    @ivar closed: whether there are no limits, because this is a private network or a test.
    """

    __slots__ = ("_charged", "_network_rate", "_proven", "_proven_rate", "_upload", "_upload_rate", "closed")

    def __init__(
        self, network_rate: float = NETWORK_RATE, upload_rate: float = UPLOAD_RATE, closed: bool = False
    ) -> None:
        """
        @param network_rate: bytes per second to the unproven addresses of one network.
        @param upload_rate: bytes per second in total.
        @param closed: apply no limits.
        """
        self.closed = closed
        self._network_rate = network_rate
        self._upload_rate = upload_rate
        self._proven_rate = max(network_rate, upload_rate * PROVEN_SHARE)
        # The time at which everything sent will be paid off: in total, and per network
        # and proven address, least recently charged first.
        self._upload = 0.0
        self._charged: OrderedDict[bytes, float] = OrderedDict()
        self._proven: OrderedDict[bytes, float] = OrderedDict()

    def prove(self, ip: bytes, now: float) -> None:
        """
        Record a completed round trip with an address.

        @param ip: 4 or 16 bytes.
        """
        if self.closed:
            return
        key = _proven_key(ip)
        self._proven.pop(key, None)
        make_room(self._proven, now - PROVEN_SECONDS, MAX_PROVEN)
        self._proven[key] = now

    def is_proven(self, ip: bytes, now: float) -> bool:
        """
        Return whether an address has completed a round trip in the last
        L{PROVEN_SECONDS} seconds.
        """
        since = self._proven.get(_proven_key(ip))
        return since is not None and now - since < PROVEN_SECONDS

    def allows(self, ip: bytes, now: float) -> bool:
        """
        Return whether an address may be answered now.
        """
        if self.closed:
            return True
        upload = now + UPLOAD_BURST_SECONDS
        if self.is_proven(ip, now):
            upload += RESERVE_SECONDS
            key = _proven_key(ip)
        else:
            key = packed_line(ip)
        return self._upload < upload and self._charged.get(key, 0.0) < now + BURST_SECONDS

    def charge(self, ip: bytes, size: int, now: float) -> None:
        """
        Charge an answer of C{size} bytes to an address.
        """
        if self.closed:
            return
        self._upload = max(self._upload, now) + size / self._upload_rate
        key, rate = (
            (_proven_key(ip), self._proven_rate)
            if self.is_proven(ip, now)
            else (packed_line(ip), self._network_rate)
        )
        busy = max(self._charged.pop(key, now), now) + size / rate
        make_room(self._charged, now, MAX_CHARGED)
        self._charged[key] = busy
