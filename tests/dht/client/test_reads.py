"""
Tests for L{dtt.dht.client.reads}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.reads import MAX_TOKEN_SIZE, answer_in, contacts_in, read_again
from dtt.dht.routing.ids import distance
from dtt.interfaces import MutableRead, NodeAnswer
from dtt.krpc.bencode import Encoded
from dtt.krpc.items import MutableItem, sign
from dtt.krpc.messages import Response, decode
from tests.dht.client.test_puts import ITEM, Wire, contact, response, values_of
from tests.dht.network import PUBLIC_KEY, SALT, SEED, outcome, record


class ReadAgainTests(SynchronousTestCase):
    """
    One more round trip to the same nodes.
    """

    def setUp(self) -> None:
        self.wire = Wire()
        answers = tuple(NodeAnswer(contact(rank), b"old", b"old value", 1) for rank in range(1, 5))
        self.read = MutableRead(PUBLIC_KEY, SALT, answers)

    def test_answers(self) -> None:
        """
        New answers replace the old ones, even without a value; a node that is slow,
        refuses or may not be queried keeps its earlier answer.
        """
        results = outcome(read_again(self.read, self.wire.ask, lambda each: each != contact(4)))
        self.assertEqual(self.wire.open(b"get"), [contact(1), contact(2), contact(3)])
        self.assertEqual(self.wire.arguments(contact(1), b"get"), {b"target": ITEM.target, b"seq": 0})
        self.wire.answer(contact(1), b"get", {b"token": b"new"})
        self.wire.refuse(contact(2), 201, b"get")
        self.assertEqual(results, [])
        self.wire.slow(contact(3), b"get")
        first, *others = results[0].answers
        self.assertEqual(first, NodeAnswer(contact(1), b"new", version=b"RS\x00\x01"))
        self.assertEqual(tuple(others), self.read.answers[1:])
        self.wire.answer(contact(3), b"get", {b"token": b"late"})

    def test_reported_immediately(self) -> None:
        """
        The observer is called with each answer on arrival, but not after the end.
        """
        reported: list[NodeAnswer] = []
        results = outcome(read_again(self.read, self.wire.ask, lambda each: True, reported.append))
        for number in (2, 1):
            self.wire.answer(contact(number), b"get", {b"token": b"t%d" % number})
            self.assertEqual((reported[-1].contact, reported[-1].token), (contact(number), b"t%d" % number))
        self.wire.slow(contact(3), b"get")
        self.wire.time_out(contact(4), b"get")
        self.assertEqual(len(results), 1)
        self.wire.answer(contact(3), b"get", {b"token": b"late"})
        self.assertEqual([answer.contact for answer in reported], [contact(2), contact(1)])

    def test_nearest(self) -> None:
        """
        Only the given number of nearest nodes is queried, and no silent ones; the
        others keep their answers and silent ones stay silent.
        """
        read = evolve(self.read, silent=(contact(9),))
        results = outcome(read_again(read, self.wire.ask, lambda each: True, nearest=2))
        self.assertEqual(self.wire.open(b"get"), [contact(1), contact(2)])
        for number in (1, 2):
            self.wire.answer(contact(number), b"get", {b"token": b"new"})
        (again,) = results
        self.assertEqual([answer.token for answer in again.answers], [b"new", b"new", b"old", b"old"])
        self.assertEqual(again.silent, (contact(9),))

    def test_silent_ones(self) -> None:
        """
        Nodes that were silent during the lookup are queried once more: an answer is
        inserted by distance, a node that is silent again is dropped.
        """
        by_distance = sorted(
            (answer.contact for answer in self.read.answers),
            key=lambda each: distance(ITEM.target, each.node_id),
        )
        late, gone = by_distance[1], contact(9)
        earlier = tuple(NodeAnswer(each, b"old") for each in by_distance if each != late)
        read = evolve(self.read, answers=earlier, silent=(late, gone))
        results = outcome(read_again(read, self.wire.ask, lambda each: True))
        for each in by_distance:
            self.wire.answer(each, b"get", {b"token": b"new"})
        self.assertEqual(results, [])
        self.wire.slow(gone, b"get")
        self.assertEqual([answer.contact for answer in results[0].answers], by_distance)
        self.assertEqual(results[0].silent, ())
        self.wire.answer(gone, b"get", {b"token": b"late"})

    def test_none_may_be_queried(self) -> None:
        """
        If no node may be queried, the same read is returned immediately.
        """
        again = read_again(self.read, self.wire.ask, lambda each: False)
        self.assertEqual(self.successResultOf(again), self.read)

    def test_cancel(self) -> None:
        """
        Cancelling cancels the queries.
        """
        again = read_again(self.read, self.wire.ask, lambda each: True)
        again.cancel()
        self.failureResultOf(again, CancelledError)
        self.assertEqual(self.wire.open(b"get"), [])


class AnswerTests(SynchronousTestCase):
    """
    The interpretation of a response.
    """

    def answer(self, values: dict[bytes, Any]) -> NodeAnswer:
        return answer_in(contact(1), response(values), PUBLIC_KEY, SALT)

    def test_genuine(self) -> None:
        """
        A genuine item yields value, seq and token.
        """
        expected = NodeAnswer(contact(1), b"t", record(1), 2**63 - 1, b"RS\x00\x01")
        self.assertEqual(self.answer(values_of(ITEM)), expected)

    def test_wrong_item(self) -> None:
        """
        A node with an item that is not genuine counts as holding nothing, and is not
        written to.
        """
        good = values_of(ITEM)
        for change in (
            {b"v": b"other"},
            {b"seq": 5},
            {b"sig": bytes(64)},
            {b"sig": 7},
            {b"k": b"k" * 32},
            {b"v": bytes(997)},
        ):
            self.assertEqual(self.answer(good | change), NodeAnswer(contact(1), None, version=b"RS\x00\x01"))

    def test_not_a_string(self) -> None:
        """
        A genuine item whose value is not a byte string occupies its node.
        """
        encoded = Encoded(b"li1ee")
        values = values_of(MutableItem(ITEM.public_key, SALT, 1, encoded, sign(SEED, SALT, 1, encoded))) | {
            b"v": [1]
        }
        self.assertEqual(self.answer(values).value, b"li1ee")

    def test_unusual_encoding(self) -> None:
        """
        A genuine item is genuine in whatever encoding its owner has signed it.
        """
        for encoded in (b"d1:b0:1:a0:e", b"i007e", b"03:abc", b"i%de" % 10**30):
            signature = sign(SEED, SALT, 1, encoded)
            message = b"d1:rd2:id20:%b1:k32:%b3:seqi1e3:sig64:%b1:v%be1:t2:aa1:y1:re" % (
                bytes(20),
                PUBLIC_KEY,
                signature,
                encoded,
            )
            reply = decode(message)
            assert isinstance(reply, Response)
            self.assertEqual(self.answer(reply.values).value, encoded)

    def test_bad_tokens(self) -> None:
        """
        A token of another type or that is too long is ignored.
        """
        tokens: tuple[Any, ...] = (5, [], b"x" * (MAX_TOKEN_SIZE + 1))
        for token in tokens:
            self.assertIsNone(self.answer({b"token": token}).token)

    def test_bad_nodes(self) -> None:
        """
        Malformed nodes are ignored.
        """
        for nodes in (5, b"x", [b"x" * 26], b"x" * 25):
            self.assertEqual(contacts_in(response({b"nodes": nodes})), [])
        self.assertEqual(len(contacts_in(response({b"nodes": b"x" * 27}))), 1)
