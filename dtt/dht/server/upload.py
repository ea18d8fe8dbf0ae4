"""
How much we send in answers.  Pure.

Rules (docs/protocol/dht.md section 3): all answers together have an upload limit.  An
address is proven by a completed round trip, that is, by a reply to a query of
ours or by a valid token; answers to all others, whose addresses may be forged,
are limited for each packed_network (/24, or /64 of IPv6), so that nobody can use us
to flood a third party.  A proven address may have half of the upload.  When
that is short, answers to proven addresses go first.  Bytes are charged after
an answer was made, so the first answers always fit, whatever their size.  Our
own queries are not limited by this.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dtt.net.bounded import make_room
from dtt.net.networks import packed_network

#: Bytes a second to one packed_network of unproven addresses, and in all
#: (docs/protocol/dht.md section 3; libtorrent's upload limit is 8 kB/s, too).
NETWORK_RATE: Final = 2000.0
UPLOAD_RATE: Final = 8000.0

#: What one proven address may have of all.  Guess.
PROVEN_SHARE: Final = 0.5

#: A limit may run ahead by this many seconds' worth of bytes: that of one
#: address or packed_network (guess); that of the upload, as libtorrent's (its
#: C{dht_tracker::has_quota}), or few neighbours who all look something up in the
#: same second leave nothing for one who comes then; and the latter, for proven
#: addresses, by so many more (guess).
BURST_SECONDS: Final = 1.0
UPLOAD_BURST_SECONDS: Final = 3.0
RESERVE_SECONDS: Final = 1.0

#: Seconds that an address stays proven: the lifetime of a token.
PROVEN_SECONDS: Final = 600.0

#: Proven addresses, and those and networks that are charged, that are
#: remembered.  Guesses.
MAX_PROVEN: Final = 8192
MAX_CHARGED: Final = 4096


class AnswerLimits:
    """
    Who may be answered now.

    @ivar closed: everybody may: a packed_network of our own machines, or a test.
    """

    __slots__ = ("_charged", "_network_rate", "_proven", "_proven_rate", "_upload", "_upload_rate", "closed")

    def __init__(
        self, network_rate: float = NETWORK_RATE, upload_rate: float = UPLOAD_RATE, closed: bool = False
    ) -> None:
        """
        @param network_rate: bytes a second to the unproven addresses of one
            packed_network.
        @param upload_rate: bytes a second in all.
        """
        self.closed = closed
        self._network_rate = network_rate
        self._upload_rate = upload_rate
        self._proven_rate = max(network_rate, upload_rate * PROVEN_SHARE)
        # When all that was sent will have been earned: in all, and by each
        # packed_network and proven address, the least recently charged first.
        self._upload = 0.0
        self._charged: OrderedDict[bytes, float] = OrderedDict()
        self._proven: OrderedDict[bytes, float] = OrderedDict()

    def prove(self, ip: bytes, now: float) -> None:
        """
        The node at this address has completed a round trip.

        @param ip: 4 or 16 bytes.
        """
        if self.closed:
            return
        self._proven.pop(ip, None)
        make_room(self._proven, now - PROVEN_SECONDS, MAX_PROVEN)
        self._proven[ip] = now

    def is_proven(self, ip: bytes, now: float) -> bool:
        """
        Has this address completed a round trip lately?
        """
        since = self._proven.get(ip)
        return since is not None and now - since < PROVEN_SECONDS

    def allows(self, ip: bytes, now: float) -> bool:
        """
        May this address be answered now?
        """
        if self.closed:
            return True
        upload = now + UPLOAD_BURST_SECONDS
        if self.is_proven(ip, now):
            upload += RESERVE_SECONDS
            key = ip
        else:
            key = packed_network(ip)
        return self._upload < upload and self._charged.get(key, 0.0) < now + BURST_SECONDS

    def charge(self, ip: bytes, size: int, now: float) -> None:
        """
        An answer of C{size} bytes goes to this address.
        """
        if self.closed:
            return
        self._upload = max(self._upload, now) + size / self._upload_rate
        key, rate = (
            (ip, self._proven_rate) if self.is_proven(ip, now) else (packed_network(ip), self._network_rate)
        )
        busy = max(self._charged.pop(key, now), now) + size / rate
        make_room(self._charged, now, MAX_CHARGED)
        self._charged[key] = busy
