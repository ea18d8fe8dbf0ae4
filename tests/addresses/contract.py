"""
The contract of L{IPacketStore<dtt.addresses.interfaces.IPacketStore>}, for all stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.pkarr import Packet, write_dns
from dtt.errors import PublishFailed
from dtt.identity import PeerKey
from dtt.wire.addresses import IROH, PeerAddress

ALICE, BOB = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)


def packet(seq: int, port: int = 1, key: PeerKey = ALICE) -> Packet:
    """
    A packet with one address.
    """
    return Packet(key.peer_id, seq, write_dns(key.peer_id, [PeerAddress(IROH, "192.0.2.1", port)]))


class ContractMixin:
    """
    The contract tests; C{store} and C{other} are two members' views of the same storage.
    """

    store: IPacketStore
    other: IPacketStore
    counters: Counter[str]
    wait: Callable[[Deferred[Any]], Any]
    assertEqual: Callable[..., Any]
    assertRaises: Callable[..., Any]

    def find(self, store: IPacketStore, key: PeerKey = ALICE) -> list[Packet]:
        """
        The packets found.
        """
        found: list[Packet] = []
        self.wait(store.find(key.peer_id, found.append))
        return found

    def test_interface(self) -> None:
        """
        The store provides L{IPacketStore} and becomes ready.
        """
        verifyObject(IPacketStore, self.store)
        self.wait(self.store.when_ready())

    def test_nothing(self) -> None:
        """
        For a peer that has published nothing, nothing is found and no fault is counted.
        """
        self.assertEqual(self.find(self.store), [])
        self.assertEqual(self.counters, {})

    def test_roundtrip(self) -> None:
        """
        A published packet is found once by another member; for other peers nothing is
        found.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.find(self.other), [packet(5)])
        self.assertEqual(self.find(self.other, BOB), [])
        self.assertEqual(self.counters, {})

    def test_replaced(self) -> None:
        """
        A newer packet replaces the previous one.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.wait(self.store.publish(ALICE, packet(6, port=2)))
        self.assertEqual(self.find(self.other), [packet(6, port=2)])

    def test_peek(self) -> None:
        """
        A store may look for packets at little cost, and reports none that C{find} does not.
        """
        peeked: list[Packet] = []
        self.wait(self.store.publish(ALICE, packet(5)))
        for _ in range(3):
            self.wait(self.other.peek(ALICE.peer_id, peeked.append))
        self.wait(self.other.peek(BOB.peer_id, peeked.append))
        self.assertEqual(peeked, [packet(5)] * len(peeked))
        self.assertEqual(self.counters, {})

    def test_again(self) -> None:
        """
        The same packet may be published again.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.find(self.other), [packet(5)])

    def test_newer_there(self) -> None:
        """
        An older packet is refused, and the failure carries the newer packet.
        """
        self.wait(self.store.publish(ALICE, packet(9)))
        error: PublishFailed = self.assertRaises(
            PublishFailed, lambda: self.wait(self.other.publish(ALICE, packet(5)))
        )
        self.assertEqual((str(error), error.newer_seq), ("newer packet", 9))
        self.assertEqual(self.find(self.store), [packet(9)])
