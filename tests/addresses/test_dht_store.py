"""
Tests for L{dtt.addresses.dht_store}.
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

from dtt.addresses.dht_store import COPIES, MAX_PEEKED, PEEKED, PEEKS, DHTStore
from dtt.addresses.pkarr import Packet
from dtt.errors import LocalError, PublishFailed
from dtt.identity import PeerKey
from dtt.interfaces import Contact, PutResult
from dtt.krpc.items import mutable_target
from dtt.krpc.messages import Query, encode_error
from dtt.testing.fake_dht import FakeDHT
from tests.addresses.contract import ALICE, ContractMixin, packet


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

    def peek(self, key: PeerKey = ALICE) -> tuple[list[int], int]:
        """
        The numbers of the packets that L{DHTStore.peek} reports, and how many nodes it asks.
        """
        found: list[Packet] = []
        asked = 0

        def answer(real: Callable[..., bytes | None], *arguments: Any) -> bytes | None:
            nonlocal asked
            asked += 1
            return real(*arguments)

        patches = [
            self.patch(responder, "answer", partial(answer, responder.answer))
            for responder in self.dht.responders.values()
        ]
        self.wait(self.store.peek(key.peer_id, found.append))
        for patch in patches:
            patch.restore()
        return [each.seq for each in found], asked

    def test_peek_is_cheap(self) -> None:
        """
        L{DHTStore.peek} asks two of the nodes that store the packet, others each time, and looks them up
        again now and then.
        """
        self.assertGreater(self.peek()[1], COPIES)
        self.put(packet(5))
        self.dht.dead = set(self.dht.nearest(mutable_target(ALICE.peer_id))[2:])
        self.put(packet(6, port=2))
        self.dht.dead = set()
        found = [self.peek() for _ in range(PEEKS)]
        self.assertEqual({asked for _, asked in found}, {PEEKED})
        self.assertEqual([seqs for seqs, _ in found].count([6]), PEEKS * PEEKED // COPIES)
        self.assertGreater(self.peek()[1], COPIES)
        self.assertEqual(self.peek()[1], PEEKED)

    def test_peek_is_bounded(self) -> None:
        """
        The nodes of few peers are remembered, the latest.
        """
        keys = [PeerKey.from_seed(bytes([number]) * 32) for number in range(1, MAX_PEEKED + 2)]
        self.assertTrue(all(self.peek(key)[1] > COPIES for key in keys))
        self.assertEqual(self.peek(keys[1])[1], PEEKED)
        self.assertGreater(self.peek(keys[0])[1], COPIES)

    def test_peek_fails(self) -> None:
        """
        Failures are counted as those of L{DHTStore.find}.
        """
        self.dht.dead = set(self.dht.contacts)
        self.assertEqual(self.peek(), ([], 0))
        self.assertEqual(self.counters, {"dht: no_node_answered": 1})

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
