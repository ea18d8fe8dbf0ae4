"""
Tests for L{dtt.discovery.direct}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.direct import ATTEMPTS, KEPT, DirectQuestion
from dtt.interfaces import ServedItem
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record
from dtt.records.sealed import EPOCH_MINUTES, direct_item, epoch_of
from dtt.records.topic import TopicKeys, initial_secret_hash
from dtt.testing.fake_dht import FakeDHT
from tests.dht.network import Network
from tests.tracker.common import IDS, KEYS, MINUTE, SECRET_HASH, TOPIC, Member, address, start_clock

TOPIC_KEYS = TopicKeys(TOPIC, SECRET_HASH)
#: Where the members of a L{FakeDHT} are.
MEMBERS = ("192.0.2.1", 6881)


class DirectTestCase(SynchronousTestCase):
    """
    Members that share an in-memory DHT without latency.
    """

    def setUp(self) -> None:
        """No member answers yet."""
        self.clock = start_clock()
        self.dht = FakeDHT(self.clock)
        self.contents: list[GossipContent] = []

    def question(
        self, number: int, keys: TopicKeys = TOPIC_KEYS, clock: Any = None, **kw: Any
    ) -> DirectQuestion:
        """The question of one member."""
        self.member = Member(clock or self.clock, self.dht, number, **kw)

        def content() -> GossipContent:
            return self.contents[-1] if self.contents else GossipContent(addresses=(address(number),))

        question = DirectQuestion(self.member.shared, keys, content, Random(number).randbytes)
        self.addCleanup(question.stop)
        return question

    def ask(self, question: DirectQuestion) -> list[FoundRecord]:
        """Ask the members' address."""
        found: list[FoundRecord] = self.successResultOf(question.ask_directly(MEMBERS))
        return found


class AnswerTests(DirectTestCase):
    """
    Tests for questions and answers.
    """

    def test_answered(self) -> None:
        """A member answers with its record, and the asker learns its addresses."""
        self.contents.append(GossipContent((IDS[3],), (b"h" * 32,), (address(1),)))
        self.question(1).start()
        asker = self.question(0)
        found = self.ask(asker)
        self.assertEqual(found, [FoundRecord(IDS[1], MINUTE, (IDS[3],), (b"h" * 32,), (address(1),))])
        self.assertEqual(self.member.book.known, {IDS[1]: (address(1),)})
        self.assertEqual(asker.counters, {"asked": 1, "opened": 1})

    def test_others_get_nothing(self) -> None:
        """Who asks with another secret or for another topic gets no value."""
        self.question(1).start()
        for keys in (
            evolve(TOPIC_KEYS, secret_hash=initial_secret_hash(b"a guess")),
            evolve(TOPIC_KEYS, topic_id=bytes(32)),
        ):
            asker = self.question(0, keys)
            self.assertEqual(self.ask(asker), [])
            self.assertEqual(asker.counters, {"asked": 1, "empty": 1})

    def test_without_secret(self) -> None:
        """A topic without a secret is asked for in the same way."""
        keys = evolve(TOPIC_KEYS, secret_hash=initial_secret_hash(b""))
        self.question(1, keys).start()
        self.assertEqual([record.publisher for record in self.ask(self.question(0, keys))], [IDS[1]])

    def test_ourselves(self) -> None:
        """Our own answer is not a find."""
        question = self.question(1)
        question.start()
        self.assertEqual(self.ask(question), [])

    def test_ends(self) -> None:
        """A member that has left the topic, or has not started, answers no longer."""
        question, asker = self.question(1), self.question(0)
        self.assertEqual(self.ask(asker), [])
        question.start()
        question.start()
        self.assertEqual(len(self.ask(asker)), 1)
        question.stop()
        self.assertEqual(self.ask(asker), [])

    def test_no_publish(self) -> None:
        """A member that publishes nothing does not answer either."""
        self.question(1, max_bootstrap_records=0).start()
        self.assertEqual(self.ask(self.question(0)), [])

    def test_skewed_clocks(self) -> None:
        """Clocks up to six hours off do not matter; the record says how much they are."""
        for hours in (-6, -3, 3, 6):
            self.setUp()
            self.question(1).start()
            clock = start_clock()
            clock.advance(hours * 3600.0)
            (found,) = self.ask(self.question(0, clock=clock))
            self.assertEqual((found.publisher, found.minute), (IDS[1], MINUTE))

    def test_later(self) -> None:
        """The answer is always of now, also when the epoch has changed."""
        question, asker = self.question(1), self.question(0)
        question.start()
        for minutes in (0, 1, EPOCH_MINUTES, EPOCH_MINUTES, 3 * EPOCH_MINUTES):
            self.clock.advance(60 * minutes)
            (found,) = self.ask(asker)
            self.assertEqual(found.minute, int(self.clock.seconds() // 60))
        self.assertEqual(len(question._items), 3)
        self.assertLessEqual(len(question._made), 3)


class CostTests(DirectTestCase):
    """
    Tests for what an answer costs.
    """

    def served(self, question: DirectQuestion) -> ServedItem:
        """What is answered."""
        item = question._served(direct_item(TOPIC_KEYS, epoch_of(MINUTE)).target)
        assert item is not None
        return item

    def test_made_again(self) -> None:
        """A new record is created when its content or the minute has changed, but at most once a second."""
        question = self.question(1)
        first = self.served(question)
        self.clock.advance(KEPT + 1)
        self.assertIs(self.served(question), first)
        self.contents.append(GossipContent(addresses=(address(5),)))
        second = self.served(question)
        self.assertIsNot(second, first)
        self.contents.append(GossipContent(addresses=(address(6),)))
        self.assertIs(self.served(question), second)
        self.clock.advance(KEPT)
        third = self.served(question)
        self.assertIsNot(third, second)
        self.clock.advance(60)
        self.assertIsNot(self.served(question), third)

    def test_no_other_targets(self) -> None:
        """Other targets are not ours."""
        question = self.question(1)
        slot = TOPIC_KEYS.slot(MINUTE)
        self.assertIsNone(question._served(slot.target))
        self.assertIsNone(question._served(bytes(20)))


class HostileTests(DirectTestCase):
    """
    Tests for nodes that answer otherwise.
    """

    def answer(self, value: bytes) -> DirectQuestion:
        """Answer with a value; return who asked."""
        item = direct_item(TOPIC_KEYS, epoch_of(MINUTE))
        self.addCleanup(
            self.dht.serve(
                [item.target],
                lambda target: ServedItem(item.signing_seed, b"", value) if target == item.target else None,
            )
        )
        asker = self.question(0)
        self.assertEqual(self.ask(asker), [])
        return asker

    def test_junk(self) -> None:
        """What is no record is counted by reason."""
        item = direct_item(TOPIC_KEYS, epoch_of(MINUTE))
        record = Record.sign_at(KEYS[1], TOPIC, MINUTE, GossipContent().encode())
        entropy = Random(0).randbytes(ENTROPY_BYTES)
        self.assertIn("refused_length", self.answer(b"junk").counters)
        self.setUp()
        self.assertIn("refused_decrypt", self.answer(bytes(4) + bytes(88)).counters)
        self.setUp()
        forged = item.seal(evolve(record, minute=1), entropy)
        self.assertIn("refused_signature", self.answer(forged).counters)
        self.setUp()
        other = Record.sign_at(KEYS[1], TOPIC, MINUTE, b"no gossip content")
        self.assertIn("refused_content", self.answer(item.seal(other, entropy)).counters)

    def test_silent(self) -> None:
        """A node that does not answer is asked twice; one that refuses, once."""
        asker = self.question(0)
        dead = self.dht.contacts[0]
        self.dht.dead.add(dead)
        self.assertEqual(self.successResultOf(asker.ask_directly((dead.host, dead.port))), [])
        self.assertEqual(asker.counters, {"asked": ATTEMPTS, "silent": 1})

    def test_stored_by_others(self) -> None:
        """Our own answer comes before what others have stored on our node."""
        item = direct_item(TOPIC_KEYS, epoch_of(MINUTE))
        self.question(1).start()
        stored = Record.sign_at(KEYS[2], TOPIC, MINUTE, GossipContent().encode())
        value = item.seal(stored, Random(0).randbytes(ENTROPY_BYTES))
        served = ServedItem(item.signing_seed, b"", value)
        responder = self.dht.member
        signed = responder.resources.own._sign(served)
        responder.items.put(item.target, signed, b"abc", self.clock.seconds())
        self.assertEqual([record.publisher for record in self.ask(self.question(0))], [IDS[1]])

    def test_cancel(self) -> None:
        """A question can be cancelled."""
        self.dht.latency = 0.5
        asking = self.question(0).ask_directly(MEMBERS)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NodeTests(SynchronousTestCase):
    """
    Tests with real nodes.
    """

    def test_two_laptops(self) -> None:
        """
        Two nodes that know no other node, with private addresses, ask each other; none of
        them enters the other's routing table.
        """
        network = Network(0)
        one, two = network.node(bootstrap=[("192.0.2.7", 1)]), network.node(bootstrap=[("192.0.2.7", 1)])
        try:
            questions = []
            for number, node in enumerate((one, two)):
                member = Member(network.clock, node, number)
                content = GossipContent(addresses=(address(number),))
                question = DirectQuestion(member.shared, TOPIC_KEYS, lambda content=content: content)  # type: ignore[misc]
                question.start()
                questions.append(question)
            (found,) = network.result(questions[0].ask_directly((network.host(1), two.port)))
            self.assertEqual((found.publisher, found.addresses), (IDS[1], (address(1),)))
            self.assertEqual((len(one.table), len(two.table)), (0, 0))
            self.assertFalse(one.sides[0].ready)
            nobody = network.result(questions[0].ask_directly(("10.0.7.1", 6881)), 10)
            self.assertEqual(nobody, [])
            self.assertEqual(network.result(questions[0].ask_directly(("2a00:1::1", 6881))), [])
        finally:
            network.stop()
