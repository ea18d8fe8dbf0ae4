"""
Shared by the tests of addresses.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.addresses.book import AddressBook
from dtt.addresses.interfaces import IPacketStore, PacketSink
from dtt.addresses.pkarr import Packet, write_dns
from dtt.addresses.resolver import Resolver
from dtt.identity import PeerKey
from dtt.interfaces import PeerId
from dtt.wire.addresses import IROH, Address, PeerAddress

OWN, ALICE = PeerKey.from_seed(b"o" * 32), PeerKey.from_seed(b"a" * 32)

A = PeerAddress(IROH, "192.0.2.1", 1)
B = PeerAddress(IROH, "192.0.2.2", 1)
C = PeerAddress(IROH, "192.0.2.3", 1)


def texts(size: int) -> st.SearchStrategy[str]:
    """
    Any text of at most C{size} characters.  C{st.text} takes a second to begin with.
    """
    data, codecs = st.binary(max_size=2 * size), st.sampled_from(("utf-8", "utf-16-le"))
    return st.builds(lambda data, codec: str(data.decode(codec, "ignore")[:size]), data, codecs)


def packet_of(key: PeerKey, seq: int, *addresses: Address) -> Packet:
    """
    A signed packet of C{key}.
    """
    return Packet(key.peer_id, seq, write_dns(key.peer_id, addresses))


@implementer(IPacketStore)
class ManualStore:
    """
    A store whose results are set by the test.

    @ivar ready: the result of L{when_ready}.
    @ivar finding: the searches: the peer, and how to answer and to end each.
    @ivar peeking: the same for L{peek}.
    @ivar publishing: the packets, and the Deferreds of their publication.
    @ivar cancelled: the number of cancelled calls.
    """

    def __init__(self, name: str = "store") -> None:
        self.name = name
        self.ready: Deferred[None] = succeed(None)
        self.finding: list[tuple[PeerId, PacketSink, Deferred[None]]] = []
        self.peeking: list[tuple[PeerId, PacketSink, Deferred[None]]] = []
        self.publishing: list[tuple[Packet, Deferred[None]]] = []
        self.cancelled = 0

    def when_ready(self) -> Deferred[None]:
        """
        Return C{ready}.
        """
        return self.ready

    def find(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Start a search that the test completes.
        """
        over = self._open()
        self.finding.append((peer_id, on_packet, over))
        return over

    def peek(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Start a look that the test completes.
        """
        over = self._open()
        self.peeking.append((peer_id, on_packet, over))
        return over

    def publish(self, key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        Start a publication that the test completes.
        """
        over = self._open()
        self.publishing.append((packet, over))
        return over

    def _open(self) -> Deferred[None]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)


class ResolverTestCase(SynchronousTestCase):
    """
    A L{Resolver} with two stores.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.counters: Counter[str] = Counter()
        self.book = AddressBook(self.clock, Random(1), tuple, OWN.peer_id)
        self.dht, self.relay = ManualStore("dht"), ManualStore("relay")
        self.resolver = Resolver(self.clock, self.book, OWN.peer_id, (self.dht, self.relay), self.counters)

    def resolve(self, key: PeerKey = ALICE) -> Deferred[tuple[Address, ...]]:
        """
        Look up a peer.
        """
        return self.resolver.resolve(key.peer_id)

    def found(self, store: ManualStore, packet: Packet) -> None:
        """
        Let a store answer its last search.
        """
        store.finding[-1][1](packet)

    def over(self, *stores: ManualStore) -> None:
        """
        End the last search of each store.
        """
        for store in stores or (self.dht, self.relay):
            store.finding[-1][2].callback(None)

    def count(self) -> int:
        """
        The number of searches in each store.
        """
        self.assertEqual(len(self.dht.finding), len(self.relay.finding))
        return len(self.dht.finding)
