"""
Reports how a NAT, if there is one, maps the DHT node's sockets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime

from dtt.dht.mapped_address import MappingKind, MappingVotes
from dtt.events import EventSink, NatDetected
from dtt.wire.addresses import QUIC, PeerAddress

#: Seconds between two reports for one address family: DHT nodes may lie (guess).
REPORT_INTERVAL: Final = 10.0


def describe_nat(votes: MappingVotes, own: Collection[str]) -> NatDetected | None:
    """
    Return the kind of NAT according to the votes; C{None} if they do not determine it.

    @param votes: those of one address family.
    @param own: the IP literals of this machine.
    """
    if votes.elected is None:
        if votes.kind is MappingKind.SYMMETRIC:
            return NatDetected("symmetric", None, votes.voters)
        return None
    ip, port = votes.elected
    host = str(ipaddress.ip_address(ip))
    kind = "none" if host in own else "endpoint-independent"
    return NatDetected(kind, str(PeerAddress(QUIC, host, port)), votes.voters)


class NATReporter:
    """
    Emits L{NatDetected<dtt.events.NatDetected>} when the NAT is known, and when it has
    changed.
    """

    def __init__(self, clock: IReactorTime, emit: EventSink) -> None:
        """
        @param clock: limits the rate.
        @param emit: called with the events.
        """
        self._clock = clock
        self._emit = emit
        # By family: the last report and its time.
        self._reported: dict[int, tuple[tuple[str, str | None], float]] = {}

    def report(self, votes: Sequence[MappingVotes], own: Collection[str]) -> None:
        """
        Report changes.  Call this repeatedly: the votes may not yet suffice.

        @param votes: those of each address family, always in the same order.
        @param own: the IP literals of this machine.
        """
        now = self._clock.seconds()
        for family, each in enumerate(votes):
            event = describe_nat(each, own)
            said, at = self._reported.get(family, (None, now - REPORT_INTERVAL))
            if event is None or said == (event.kind, event.mapped) or now < at + REPORT_INTERVAL:
                continue
            self._reported[family] = ((event.kind, event.mapped), now)
            self._emit(event)
