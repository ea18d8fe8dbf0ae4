"""
Tests for L{dtt.dht.client.puts}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.placement import Placement
from dtt.dht.client.puts import CROWDED, MAX_OVERWRITES, Holder, Put, store_on
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import Contact, MutableRead, NodeAnswer, PutResult
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.items import MutableItem, sign_item
from dtt.krpc.messages import Response
from tests.dht.network import PUBLIC_KEY, SALT, SEED, classify, outcome, record

ITEM = sign_item(SEED, SALT, 2**63 - 1, record(1))

#: The values returned by a node that holds it.
SHOWN: dict[bytes, Any] = {
    b"k": PUBLIC_KEY,
    b"seq": 2**63 - 1,
    b"sig": ITEM.signature,
    b"v": record(1),
}


def contact(rank: int) -> Contact:
    """
    The node with this rank.
    """
    return Contact(rank.to_bytes(20), f"10.0.0.{rank}", 1)


def values_of(item: MutableItem) -> dict[bytes, Any]:
    """
    The values in the response of a node that holds C{item}.
    """
    return {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature, b"v": record(1), b"token": b"t"}


def response(values: dict[bytes, Any] | None = None) -> Response:
    """
    A response with default values.
    """
    return Response(b"tttt", b"n" * 20, values or {}, b"RS\x00\x01", None)


class Wire:
    """
    Open queries, answered by the test.
    """

    def __init__(self) -> None:
        self.queries: dict[
            tuple[bytes, Contact], tuple[dict[bytes, Any], Callable[[], None] | None, Deferred[Response]]
        ] = {}
        self.log: list[tuple[bytes, Contact]] = []

    def ask(
        self,
        contact: Contact,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        def cancel(_: object) -> None:
            del self.queries[method, contact]

        query: Deferred[Response] = Deferred(cancel)
        self.queries[method, contact] = (arguments, on_slow, query)
        self.log.append((method, contact))
        return query

    def open(self, method: bytes = b"put") -> list[Contact]:
        return [contact for asked, contact in self.queries if asked == method]

    def answer(
        self, contact: Contact, method: bytes = b"put", values: dict[bytes, Any] | None = None
    ) -> None:
        self.queries.pop((method, contact))[2].callback(response(values))

    def refuse(self, contact: Contact, code: int = 301, method: bytes = b"put") -> None:
        self.queries.pop((method, contact))[2].errback(QueryRefused(code, "no"))

    def time_out(self, contact: Contact, method: bytes = b"put") -> None:
        self.queries.pop((method, contact))[2].errback(QueryTimeout("no reply"))

    def slow(self, contact: Contact, method: bytes = b"put") -> None:
        on_slow = self.queries[method, contact][1]
        assert on_slow is not None
        on_slow()

    def arguments(self, contact: Contact, method: bytes = b"put") -> dict[bytes, Any]:
        return self.queries[method, contact][0]


class PutTestCase(SynchronousTestCase):
    """
    Puts to nodes simulated by the test.

    @cvar read_back: whether copies are read back.
    """

    read_back = False

    def setUp(self) -> None:
        self.wire = Wire()
        self.placement = Placement(record(1)[:32], classify)

    def read(self, count: int = 32, version: bytes = b"", **held: bytes) -> MutableRead:
        answers = tuple(
            NodeAnswer(
                contact(rank),
                b"token%d" % rank,
                held.get(f"r{rank}"),
                2**63 - 1 if f"r{rank}" in held else None,
                version,
            )
            for rank in range(1, count + 1)
        )
        return MutableRead(PUBLIC_KEY, SALT, answers)

    def put(self, read: MutableRead) -> list[Any]:
        return outcome(Put(self.wire.ask, read, ITEM, record(1), self.placement, self.read_back).run())

    def first(self) -> Contact:
        """
        Return the node of the first copy, which is the only one queried at first.
        """
        (first,) = self.wire.open()
        return first


class PutTests(PutTestCase):
    """
    Sequences, slow nodes, overwriting; without reading back.
    """

    def test_arguments(self) -> None:
        """
        A put has the node's token, C{cas=0}, the target and a signed item.
        """
        self.put(self.read())
        first = self.wire.open()[0]
        rank = int.from_bytes(first.node_id)
        self.assertEqual(
            self.wire.arguments(first),
            {
                b"k": PUBLIC_KEY,
                b"salt": SALT,
                b"seq": 2**63 - 1,
                b"sig": ITEM.signature,
                b"v": Encoded(encode(record(1))),
                b"target": ITEM.target,
                b"token": b"token%d" % rank,
                b"cas": 0,
            },
        )

    def test_acceptance_counts(self) -> None:
        """
        Without reading back, an acceptance counts as a copy, and nodes are not queried
        again.
        """
        results = self.put(self.read())
        for _ in range(2):
            self.wire.answer(self.first())
        self.assertEqual((len(results[0].stored), results[0].acknowledged), (2, ()))
        self.assertEqual({method for method, _ in self.wire.log}, {b"put"})

    def test_second_copy_follows(self) -> None:
        """
        The copies are placed one after another, each on one node.
        """
        results = self.put(self.read())
        first = self.first()
        self.wire.answer(first)
        self.assertEqual(results, [])
        second = self.first()
        self.wire.answer(second)
        self.assertEqual(results, [PutResult(stored=(first, second))])
        self.assertLessEqual(int.from_bytes(first.node_id), 12)
        self.assertGreaterEqual(int.from_bytes(second.node_id), 21)

    def test_further_copies_concurrently(self) -> None:
        """
        When topping up, all copies after the first missing one are placed concurrently.
        """
        results = self.put(self.read(r2=record(1), r25=record(1)))
        first = self.first()
        self.wire.answer(first)
        others = self.wire.open()
        self.assertEqual(len(others), 3)
        for other in others:
            self.wire.answer(other)
        self.assertEqual(set(results[0].stored), {first, *others, contact(2), contact(25)})

    def test_crowded(self) -> None:
        """
        The first copy is tried on all nodes; a writer that found two of them taken
        places no further copies.
        """
        for refusals, copies in ((1, 2), (CROWDED, 1), (31, 1)):
            self.wire = Wire()
            results = self.put(self.read())
            for _ in range(refusals):
                self.wire.refuse(self.first())
            for _ in range(copies):
                self.wire.answer(self.first())
            self.assertEqual(len(results[0].stored), copies)

    def test_crowded_later(self) -> None:
        """
        The same applies if the writer finds out while placing the second copy; other
        refusals do not count.
        """
        results = self.put(self.read())
        self.wire.refuse(self.first(), 203)
        self.wire.refuse(self.first(), 203)
        self.wire.answer(self.first())
        for _ in range(CROWDED):
            self.assertEqual(results, [])
            self.wire.refuse(self.first())
        self.assertEqual(len(results[0].stored), 1)

    def test_next_node(self) -> None:
        """
        After a node that refuses or does not answer, the next node of the sequence is
        tried; no node is tried twice.
        """
        results = self.put(self.read(6))
        for _ in range(2):
            self.wire.refuse(self.first(), 203)
            self.wire.time_out(self.first())
        one = self.first()
        self.wire.answer(one)
        two = self.first()
        self.wire.answer(two)
        self.assertEqual(len(set(self.wire.log)), 6)
        self.assertEqual(results[0].stored, (one, two))
        self.assertEqual([code for _, code in results[0].refused], [203, 203])
        self.assertEqual(len(results[0].unanswered), 2)

    def test_slow_node(self) -> None:
        """
        After a slow node the next one is tried; the slow one still counts if it answers
        while the put runs.
        """
        results = self.put(self.read())
        slow = self.first()
        self.wire.slow(slow)
        _, second = self.wire.open()
        self.wire.answer(second)
        self.wire.answer(slow)
        self.assertEqual(results, [])
        third = self.first()
        self.wire.answer(third)
        self.assertEqual(set(results[0].stored), {slow, second, third})

    def test_slow_until_the_end(self) -> None:
        """
        The put does not wait for a slow node if others have stored.
        """
        results = self.put(self.read())
        slow = self.first()
        self.wire.slow(slow)
        self.wire.answer(self.wire.open()[-1])
        self.wire.answer(self.wire.open()[-1])
        self.assertEqual(results[0].unanswered, (slow,))
        self.wire.answer(slow)

    def test_all_slow(self) -> None:
        """
        If all nodes are slow, the put waits for their replies.
        """
        results = self.put(self.read(2))
        one = self.first()
        self.wire.slow(one)
        _, two = self.wire.open()
        self.wire.slow(two)
        self.assertEqual(results, [])
        self.wire.answer(one)
        self.wire.time_out(two)
        self.assertEqual(results, [PutResult(stored=(one,), unanswered=(two,))])

    def test_present_copies_count(self) -> None:
        """
        Nodes that already hold the value are among the stored ones.
        """
        results = self.put(self.read(3, r2=record(1)))
        placed = self.first()
        self.wire.answer(placed)
        self.assertEqual(set(results[0].stored), {placed, contact(2)})

    def test_overwrite_and_read_back(self) -> None:
        """
        If all nodes are taken, junk is overwritten without C{cas}; a node counts as
        stored only once a read shows our value.
        """
        held = {f"r{rank}": record(rank + 1) for rank in range(1, 9)} | {"r3": b"junk", "r5": b"junk"}
        results = self.put(self.read(8, b"RS\x00\x01", **held))
        one, two = self.wire.open()
        self.assertEqual({one, two}, {contact(3), contact(5)})
        self.assertNotIn(b"cas", self.wire.arguments(one))
        self.wire.answer(one)
        self.wire.answer(two)
        self.assertEqual(self.wire.open(b"get"), [one, two])
        self.wire.answer(one, b"get", values_of(ITEM))
        self.wire.answer(two, b"get", {b"token": b"t"})
        self.assertEqual(results, [PutResult(stored=(one,), acknowledged=(two,))])

    def test_one_of_a_flood(self) -> None:
        """
        Where one publisher holds more nodes than a member would, one of its records is
        overwritten after a copy has been placed on a free node; a node that keeps it is
        followed by another one.
        """
        held = {f"r{rank}": record(9) for rank in range(1, 21)} | {"r7": record(1), "r8": record(1)}
        results = self.put(self.read(32, b"RS\x00\x01", **held))
        free = 0
        while b"cas" in self.wire.arguments(placed := self.wire.open()[0]):
            self.wire.answer(placed)
            free += 1
        self.assertEqual(free, 3)
        (kept,) = self.wire.open()
        self.wire.refuse(kept, 302)
        (replaced,) = self.wire.open()
        self.assertNotIn(b"cas", self.wire.arguments(replaced))
        self.wire.answer(replaced)
        self.wire.answer(replaced, b"get", values_of(ITEM))
        self.assertEqual(self.wire.open(), [])
        self.assertIn(replaced, results[0].stored)
        self.assertEqual(len(results[0].stored), 2 + free + 1)

    def test_no_overwrite_after_a_race(self) -> None:
        """
        A node that was free in the read but refused is not overwritten: its present
        value is unknown.
        """
        results = self.put(self.read(2))
        for _ in range(2):
            self.wire.refuse(self.first())
        self.assertEqual(self.wire.open(), [])
        self.assertEqual(len(results[0].refused), 2)

    def test_overwrites_are_bounded(self) -> None:
        """
        One put tries to overwrite a bounded number of nodes.
        """
        results = self.put(self.read(32, **{f"r{rank}": b"junk" for rank in range(1, 33)}))
        while self.wire.open():
            self.wire.refuse(self.wire.open()[0], 302)
        self.assertEqual(len(results[0].refused), MAX_OVERWRITES)

    def test_cancel(self) -> None:
        """
        Cancelling a put cancels its queries, including slow ones.
        """
        done = Put(self.wire.ask, self.read(), ITEM, record(1), self.placement).run()
        self.wire.slow(self.wire.open()[0])
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.wire.open(), [])


class ReadBackTests(PutTestCase):
    """
    A copy counts once it has been read back.
    """

    read_back = True

    def setUp(self) -> None:
        """
        Every node returns what it was given, except the liars.
        """
        super().setUp()
        self.liars: set[Contact] = set()
        self.silent: set[Contact] = set()
        ask = self.wire.ask

        def asked(
            contact: Contact,
            method: bytes,
            arguments: dict[bytes, Any],
            on_slow: Callable[[], None] | None = None,
        ) -> Deferred[Response]:
            query = ask(contact, method, arguments, on_slow)
            if method == b"get" and contact not in self.silent:
                held = {} if contact in self.liars else SHOWN
                self.wire.answer(contact, b"get", held)
            return query

        self.wire.ask = asked  # type: ignore[method-assign]

    def test_liar(self) -> None:
        """
        A node that accepts but does not hold the value has only acknowledged it, and
        the next node of the sequence is tried.
        """
        results = self.put(self.read())
        liar = self.first()
        self.liars.add(liar)
        self.wire.answer(liar)
        honest = self.first()
        self.assertNotEqual(honest, liar)
        self.wire.answer(honest)
        second = self.first()
        self.wire.answer(second)
        self.assertEqual(results, [PutResult(stored=(honest, second), acknowledged=(liar,))])

    def test_slow_to_show(self) -> None:
        """
        The put does not wait for a node that is slow to show the value; its copy counts
        if it shows it while the put runs.
        """
        results = self.put(self.read())
        late = self.first()
        self.silent.add(late)
        self.wire.answer(late)
        self.assertEqual(self.wire.open(b"get"), [late])
        self.wire.slow(late, b"get")
        other = self.first()
        self.wire.answer(late, b"get", SHOWN)
        self.wire.answer(other)
        for contact in self.wire.open():
            self.wire.answer(contact)
        self.assertIn(late, results[0].stored)
        self.assertEqual(results[0].acknowledged, ())

    def test_one_more_query(self) -> None:
        """
        Each copy costs one more query, to the same node, right after its reply; the
        next copy begins once the value was shown.
        """
        results = self.put(self.read())
        one = self.first()
        self.silent = {one}
        self.wire.answer(one)
        self.assertEqual((self.wire.open(), self.wire.open(b"get")), ([], [one]))
        self.assertEqual(self.wire.arguments(one, b"get"), {b"target": ITEM.target, b"seq": 0})
        self.wire.answer(one, b"get", SHOWN)
        two = self.first()
        self.wire.answer(two)
        self.assertEqual(results, [PutResult(stored=(one, two))])
        self.assertEqual(self.wire.log, [(b"put", one), (b"get", one), (b"put", two), (b"get", two)])

    def test_default(self) -> None:
        """
        Copies are read back by default.
        """
        outcome(Put(self.wire.ask, self.read(), ITEM, record(1), self.placement).run())
        first = self.first()
        self.wire.answer(first)
        self.assertIn((b"get", first), self.wire.log)

    def test_another_value(self) -> None:
        """
        A node that returns another genuine value of the slot does not hold ours.
        """
        theirs = sign_item(SEED, SALT, 2**63 - 1, record(2))
        results = self.put(self.read(1))
        (node,) = self.wire.open()
        self.silent = {node}
        self.wire.answer(node)
        self.wire.answer(node, b"get", SHOWN | {b"sig": theirs.signature, b"v": record(2)})
        self.assertEqual(results, [PutResult(acknowledged=(node,))])

    def test_slow_put_is_read_back(self) -> None:
        """
        If all nodes are slow, the put waits for their replies, and then for the reads
        that show the value.
        """
        results = self.put(self.read(2))
        one = self.first()
        self.wire.slow(one)
        _, two = self.wire.open()
        self.wire.slow(two)
        self.silent = {one, two}
        self.wire.answer(one)
        self.wire.answer(two)
        self.assertEqual((results, self.wire.open(b"get")), ([], [one, two]))
        self.wire.answer(one, b"get", SHOWN)
        self.wire.time_out(two, b"get")
        self.assertEqual(results, [PutResult(stored=(one,), acknowledged=(two,))])

    def test_proof_after_the_end(self) -> None:
        """
        Replies after the end of the put cause no queries and do not change the result.
        """
        results = self.put(self.read())
        slow = self.first()
        self.wire.slow(slow)
        for _ in range(2):
            self.wire.answer(self.wire.open()[-1])
        (result,) = results
        self.assertEqual((len(result.stored), result.unanswered), (2, (slow,)))
        asked = len(self.wire.log)
        self.wire.answer(slow)
        self.assertEqual((len(self.wire.log), self.wire.queries), (asked, {}))
        self.assertEqual(result.acknowledged, ())

    def test_cancel_slow_proofs(self) -> None:
        """
        Cancelling a put also cancels slow reads.
        """
        put = Put(self.wire.ask, self.read(), ITEM, record(1), self.placement).run()
        mute = self.first()
        self.silent = {mute}
        self.wire.answer(mute)
        self.wire.slow(mute, b"get")
        self.assertEqual(len(self.wire.open()), 1)
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.assertEqual(self.wire.queries, {})

    def test_never_shown(self) -> None:
        """
        A failed read proves nothing.
        """
        for fails in (self.wire.time_out, self.wire.refuse):
            results = self.put(self.read())
            mute = self.first()
            self.silent = {mute}
            self.wire.answer(mute)
            fails(mute, method=b"get")
            while self.wire.open():
                self.wire.answer(self.wire.open()[0])
            self.assertEqual((len(results[0].stored), results[0].acknowledged), (2, (mute,)))

    def test_cancel_the_proof(self) -> None:
        """
        Cancelling a put cancels a running read.
        """
        put = Put(self.wire.ask, self.read(), ITEM, record(1), self.placement).run()
        mute = self.first()
        self.silent = {mute}
        self.wire.answer(mute)
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.assertEqual(self.wire.queries, {})


class StoreOnTests(SynchronousTestCase):
    """
    The same write to several nodes.
    """

    def setUp(self) -> None:
        self.wire = Wire()
        holders = [Holder(contact(rank), b"t" if rank < 4 else None) for rank in range(1, 5)]
        self.done = store_on(self.wire.ask, holders, b"put", {b"v": Encoded(b"1:x")})
        self.results = outcome(self.done)

    def test_all_answer(self) -> None:
        """
        Every node with a token is queried; results are sorted by kind.
        """
        one, two, three = self.wire.open()
        self.wire.answer(one)
        self.wire.refuse(two, 203)
        self.wire.time_out(three)
        self.assertEqual(self.results, [PutResult((one,), (), ((two, 203),), (three,))])

    def test_slow(self) -> None:
        """
        The write ends when all remaining nodes are slow, but not before one has stored.
        """
        one, two, three = self.wire.open()
        self.wire.slow(one)
        self.wire.slow(two)
        self.wire.refuse(three, 205)
        self.assertEqual(self.results, [])
        self.wire.answer(two)
        self.assertEqual(self.results, [PutResult((two,), (), ((three, 205),), (one,))])
        self.wire.time_out(one)

    def test_no_nodes(self) -> None:
        """
        Without a token there is no node to write to.
        """
        self.assertEqual(
            self.successResultOf(store_on(self.wire.ask, [Holder(contact(9), None)], b"put", {})), PutResult()
        )

    def test_cancel(self) -> None:
        """
        Cancelling the write cancels its queries.
        """
        self.done.cancel()
        self.assertIsInstance(self.results[0].value, CancelledError)
        self.assertEqual(self.wire.open(), [])
