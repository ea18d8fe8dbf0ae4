"""
The upload limits and bans of libtorrent.  Pure.

Rules (docs/protocol/dht.md section 1): answers beyond 8 kB/s are dropped silently, with a burst of three
seconds.  An IP address that sends 50 packets within 10 s is banned for five minutes.
"""

from __future__ import annotations

from typing import Final

from attrs import define

#: Bytes a second (C{dht_upload_rate_limit}), and the seconds by which a node may run ahead.
UPLOAD_RATE: Final = 8000.0
UPLOAD_BURST: Final = 3.0

#: Packets within so many seconds, and how long they are answered with silence
#: (dos_blocker.cpp, C{dht_block_ratelimit} and C{dht_block_timeout}).
BAN_PACKETS: Final = 50
BAN_WITHIN: Final = 10.0
BAN_SECONDS: Final = 300.0

#: The number of senders remembered by a node (dos_blocker.hpp: 20).
_REMEMBERED: Final = 20


@define(slots=True)
class _Sender:
    count: int
    until: float
    banned: bool = False


class Limits:
    """
    The limits of one node.

    @ivar bans: how many addresses it has banned.
    @ivar dropped: how many answers it has dropped.
    """

    __slots__ = ("_quota", "_refilled", "_senders", "bans", "dropped")

    def __init__(self) -> None:
        self._quota = UPLOAD_RATE * UPLOAD_BURST
        self._refilled = 0.0
        self._senders: dict[str, _Sender] = {}
        self.bans = self.dropped = 0

    def accepts(self, host: str, now: float) -> bool:
        """
        Count a packet from C{host}; return whether it is handled.

        @param now: seconds.
        """
        sender = self._senders.get(host)
        if sender is None or now >= sender.until:
            self._senders.pop(host, None)
            if len(self._senders) >= _REMEMBERED:
                del self._senders[next(iter(self._senders))]
            self._senders[host] = _Sender(1, now + BAN_WITHIN)
            return True
        if sender.banned:
            return False
        sender.count += 1
        if sender.count >= BAN_PACKETS:
            sender.banned, sender.until = True, now + BAN_SECONDS
            self.bans += 1
            return False
        return True

    def sends(self, size: int, now: float) -> bool:
        """
        Count an answer; return whether it is sent.

        @param size: its bytes.
        @param now: seconds.
        """
        limit = UPLOAD_RATE * UPLOAD_BURST
        self._quota = min(limit, self._quota + (now - self._refilled) * UPLOAD_RATE)
        self._refilled = now
        if self._quota < size:
            self.dropped += 1
            return False
        self._quota -= size
        return True
