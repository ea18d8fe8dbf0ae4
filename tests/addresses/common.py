"""
What the tests of addresses share.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dtt.addresses.interfaces import IPacketStore, PacketSink
from dtt.addresses.pkarr import Packet, write_dns
from dtt.identity import PeerKey
from dtt.interfaces import PeerId
from dtt.wire.addresses import IROH, Address, PeerAddress

A = PeerAddress(IROH, "192.0.2.1", 1)
B = PeerAddress(IROH, "192.0.2.2", 1)
C = PeerAddress(IROH, "192.0.2.3", 1)


def packet_of(key: PeerKey, seq: int, *addresses: Address) -> Packet:
    """
    A packet of C{key}.
    """
    return Packet(key.peer_id, seq, write_dns(key.peer_id, addresses))


@implementer(IPacketStore)
class ManualStore:
    """
    A store whose answers the test gives.

    @ivar ready: what L{when_ready} returns.
    @ivar finding: the searches: whose, and how to answer and to end each.
    @ivar publishing: the packets, and the ends of their publishing.
    @ivar cancelled: how many of all these were cancelled.
    """

    def __init__(self, name: str = "store") -> None:
        self.name = name
        self.ready: Deferred[None] = succeed(None)
        self.finding: list[tuple[PeerId, PacketSink, Deferred[None]]] = []
        self.publishing: list[tuple[Packet, Deferred[None]]] = []
        self.cancelled = 0

    def when_ready(self) -> Deferred[None]:
        """
        See L{IPacketStore.when_ready}.
        """
        return self.ready

    def find(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        See L{IPacketStore.find}.
        """
        over = self._open()
        self.finding.append((peer_id, on_packet, over))
        return over

    def publish(self, key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        See L{IPacketStore.publish}.
        """
        over = self._open()
        self.publishing.append((packet, over))
        return over

    def _open(self) -> Deferred[None]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)
