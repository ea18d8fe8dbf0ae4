"""
The contract of L{IPacketStore}, for the DHT and for a relay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from dtt.addresses.dht_store import DHTStore
from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.pkarr import Packet, write_dns
from dtt.addresses.relays import Relay
from dtt.errors import LocalError, PublishFailed
from dtt.identity import PeerKey
from dtt.interfaces import Contact, PutResult
from dtt.krpc.items import mutable_target
from dtt.krpc.messages import Query, encode_error
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.pkarr_relay import PkarrRelay
from dtt.wire.addresses import IROH, PeerAddress

ALICE, BOB = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)
NOW = 1_800_000_000.0


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


class DHTStoreTests(ContractMixin, SynchronousTestCase):
    """
    L{DHTStore}.
    """

    def setUp(self) -> None:
        self.dht = FakeDHT(Clock(), rng=Random(1))
        self.counters = Counter()
        self.store = self.other = DHTStore(self.dht, self.counters)
        self.wait = self.successResultOf_

    def successResultOf_(self, deferred: Deferred[Any]) -> Any:
        """
        The result, or the exception.
        """
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        if failures:
            failures[0].raiseException()
        return results[0]

    def put(self, item: Packet) -> None:
        """
        Put any value where Alice's packets are stored.
        """
        read = self.successResultOf(self.dht.get_mutable(ALICE.peer_id))
        self.successResultOf(self.dht.put_latest(ALICE.seed, item.dns, item.seq, read=read, copies=20))

    def test_where(self) -> None:
        """
        A packet is stored without a salt under the peer's key, on the 20 nearest nodes.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.dht.stored(ALICE.peer_id), {packet(5).dns: 20})

    def test_different(self) -> None:
        """
        Nodes that have missed the newest packet return older ones; each distinct packet
        is reported once.
        """
        self.put(packet(5))
        self.dht.dead = set(self.dht.contacts[::2])
        self.put(packet(6, port=2))
        self.dht.dead = set()
        self.assertEqual(sorted(p.seq for p in self.find(self.store)), [5, 6])

    def test_no_packet(self) -> None:
        """
        An item that is not a packet is counted.
        """
        for value, reason in ((b"", "truncated"), (bytes(12), "no_answer"), (b"\xff" * 996, "no_answer")):
            self.put(Packet(ALICE.peer_id, 5 + len(value), value))
            self.counters.clear()
            self.assertEqual(self.find(self.store), [])
            self.assertEqual(self.counters, {f"dht: dns_{reason}": 1})

    def test_goes_above_what_is_no_packet(self) -> None:
        """
        An invalid item with a higher number under the same key is overwritten with a
        still higher number.
        """
        self.put(Packet(ALICE.peer_id, 77, b"junk"))
        error = self.assertRaises(PublishFailed, self.wait, self.store.publish(ALICE, packet(76)))
        self.assertEqual(error.newer_seq, 77)

    def test_newer_meanwhile(self) -> None:
        """
        After a refusal with 302 the node is queried for the reason; the code alone proves
        nothing.
        """
        real = self.dht.put_latest

        def put_latest(*args: Any, **kw: Any) -> Any:
            self.successResultOf(real(ALICE.seed, packet(9).dns, 9, copies=20))
            return real(*args, **kw)

        self.patch(self.dht, "put_latest", put_latest)
        error = self.assertRaises(PublishFailed, self.wait, self.store.publish(ALICE, packet(5)))
        self.assertEqual((str(error), error.newer_seq), ("newer packet", 9))

    def test_liars(self) -> None:
        """
        Nodes that refuse with 301 or 302 without a reason do not prevent storage on the
        others.
        """
        for contact in self.dht.nearest(mutable_target(ALICE.peer_id))[:19]:
            responder = self.dht.responders[contact]
            self.patch(responder, "answer", partial(self.refuse, contact, responder.answer))
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.dht.stored(ALICE.peer_id), {packet(5).dns: 1})

    def refuse(
        self, contact: Contact, answer: Callable[..., bytes | None], query: Query, host: str, port: int
    ) -> bytes | None:
        """
        Refuse a put.
        """
        if query.method == b"put":
            return encode_error(query.transaction, 301 + contact.node_id[0] % 2, "so there", None)
        return answer(query, host, port)

    def test_nobody_stores(self) -> None:
        """
        If no node stores the packet, publication fails.
        """
        for contact, responder in self.dht.responders.items():
            self.patch(responder, "answer", partial(self.refuse, contact, responder.answer))
        error = self.assertRaises(PublishFailed, self.wait, self.store.publish(ALICE, packet(5)))
        self.assertEqual((str(error), error.newer_seq), ("no node stored it", None))

    def test_nobody_answers(self) -> None:
        """
        If no node answers, publication and search fail, with a reason that does not
        depend on the number of nodes.
        """
        self.dht.dead = set(self.dht.contacts)
        error = self.assertRaises(PublishFailed, self.wait, self.store.publish(ALICE, packet(5)))
        self.assertEqual((str(error), error.newer_seq), ("no node answered", None))
        self.assertEqual(self.find(self.store), [])
        self.assertEqual(self.counters, {"dht: no_node_answered": 1})

    def test_nobody_answers_any_longer(self) -> None:
        """
        The same if the nodes stop answering between the read and the put.
        """
        put_latest = self.dht.put_latest

        def put(*args: Any, **kwargs: Any) -> Deferred[PutResult]:
            self.dht.dead = set(self.dht.contacts)
            return put_latest(*args, **kwargs)

        self.patch(self.dht, "put_latest", put)
        error = self.assertRaises(PublishFailed, self.wait, self.store.publish(ALICE, packet(5)))
        self.assertIn(str(error), ("no node answered", "no node stored it"))

    def test_stopped(self) -> None:
        """
        A search fails if the DHT has stopped.
        """
        error = LocalError("the DHT node has been stopped")
        self.patch(self.dht, "get_mutable", lambda *args: fail(error))
        self.assertEqual(self.find(self.store), [])
        self.assertEqual(self.counters, {"dht: the_dht_node_has_been_stopped": 1})

    def test_cancel(self) -> None:
        """
        All Deferreds can be cancelled.
        """
        store = DHTStore(FakeDHT(Clock(), ready=False), self.counters)
        for waiting in (
            store.when_ready(),
            store.find(ALICE.peer_id, lambda packet: None),
            store.publish(ALICE, packet(5)),
        ):
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)

    def test_early(self) -> None:
        """
        A packet is reported when it arrives, not at the end of the search.
        """
        self.put(packet(5))
        hand_out: list[Any] = []
        over: Deferred[Any] = Deferred()

        def get_mutable(key: bytes, salt: bytes, on_answer: Any) -> Deferred[Any]:
            hand_out.append(on_answer)
            return over

        read = self.successResultOf(self.dht.get_mutable(ALICE.peer_id))
        self.patch(self.dht, "get_mutable", get_mutable)
        found: list[Packet] = []
        finding = self.store.find(ALICE.peer_id, found.append)
        for answer in read.answers:
            hand_out[0](answer)
        self.assertEqual(found, [packet(5)])
        self.assertNoResult(finding)
        over.callback(read)
        self.successResultOf(finding)


class RelayTests(ContractMixin, SynchronousTestCase):
    """
    L{Relay}, with treq's client over in-memory TCP.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.net = MemoryTCPNetwork(self.clock)
        self.counters = Counter()
        self.relay = PkarrRelay(self.clock)
        self.port = self.net.reactor("192.0.2.9").listenTCP(80, Site(self.relay, reactor=Clock()))
        self.store = Relay(self.net.reactor("10.0.0.1"), "http://192.0.2.9/pkarr/", self.counters)
        self.other = Relay(self.net.reactor("10.0.0.2"), "http://192.0.2.9/pkarr", self.counters)

    def wait(self, deferred: Deferred[Any]) -> Any:
        """
        Advance the clock until the Deferred fires; nothing is left afterwards.
        """
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        self.net.advance(1.0)
        self.assertEqual(self.net.transports(), [])
        if failures:
            failures[0].raiseException()
        return results[0]

    def test_requests(self) -> None:
        """
        The URL is the base plus the key in z-base-32.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.find(self.other)
        path = "/pkarr/7wkr4kf4yp8yurqrk9zruqpbh9nkmkguw1bpq1kngzcwh6kfbfpy"
        self.assertEqual(
            [(method, len(p) == len(path), status) for method, p, status in self.relay.log],
            [("PUT", True, 204), ("GET", True, 200)],
        )
        self.assertEqual(self.relay.packet(ALICE.peer_id), packet(5))

    def test_not_modified(self) -> None:
        """
        A packet that is already cached is not transferred again.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.find(self.other), [packet(5)])
        self.assertEqual(self.find(self.other), [packet(5)])
        self.assertEqual([status for _, _, status in self.relay.log], [204, 200, 304])
        self.clock.advance(1)
        self.wait(self.store.publish(ALICE, packet(6, port=2)))
        self.assertEqual(self.find(self.other), [packet(6, port=2)])

    def test_busy(self) -> None:
        """
        A 429 fails with the time to wait, within limits.
        """
        for seconds, expected in ((7, 7.0), (0, 1.0), (10**6, 3600.0)):
            self.relay.busy = seconds
            error = self.assertRaises(PublishFailed, lambda: self.wait(self.store.publish(ALICE, packet(5))))
            self.assertEqual((str(error), error.retry_after), ("status 429", expected))
        self.assertEqual(self.find(self.store), [])
        self.assertEqual(self.counters, {"http://192.0.2.9/pkarr: rate_limited": 1})
        self.counters.clear()

    def test_cancel(self) -> None:
        """
        Requests can be cancelled, which closes the connection.
        """
        for ask in (
            lambda: self.store.find(ALICE.peer_id, lambda packet: None),
            lambda: self.store.publish(ALICE, packet(5)),
        ):
            for seconds in (0.0, 0.015, 0.025, 0.035):
                waiting = ask()
                self.net.advance(seconds)
                waiting.cancel()
                self.failureResultOf(waiting, CancelledError)
                self.net.advance(0.1)
                self.assertEqual(self.net.transports(), [])
        self.assertEqual(self.counters, {})
