"""
Tests for L{dtt.dht.operations}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.placement import FirstCopy, Placement
from dtt.dht.maintenance import OWN_LOOKUP_DELAY
from dtt.dht.node import DHTNode
from dtt.dht.operations import Operations
from dtt.errors import LookupFailed
from dtt.interfaces import Contact, InfohashSample, MutableRead, NodeAnswer, PutResult
from dtt.krpc.compact import IPV4, IPV6, Family
from dtt.krpc.messages import Query, decode
from tests.dht.network import PUBLIC_KEY, SALT, SEED, Network, classify, outcome, record


class SlotTests(SynchronousTestCase):
    """
    Slots in a real network; see also C{test_contract}.
    """

    def setUp(self) -> None:
        self.network = Network(30, seed=4)
        self.addCleanup(lambda: self.network.stop())

    def test_cold_start(self) -> None:
        """
        The first stored copy takes at most five round trips from the start; the second,
        after the full read, another four.
        """
        node = self.network.node()
        start = self.network.clock.seconds()
        placement = Placement(record(1)[:32], classify)

        def put_first(inner: MutableRead) -> None:
            outcome(node.put_mutable(SEED, SALT, record(1), FirstCopy(placement), inner, read_back=False))

        read = outcome(node.get_mutable(PUBLIC_KEY, SALT, None, put_first))
        copies: dict[int, float] = {}
        put: list[Any] = []
        while not put:
            self.network.udp.advance(0.005)
            stored = sum(len(each.responder.items) for each in self.network.nodes)
            copies.setdefault(stored, self.network.clock.seconds() - start)
            if read:
                put = outcome(node.put_mutable(SEED, SALT, record(1), placement, read.pop()))
                self.network.udp.advance(0.1)
        stored = sum(len(each.responder.items) for each in self.network.nodes)
        copies.setdefault(stored, self.network.clock.seconds() - start)
        self.assertLess(copies[1], 5.5 * 0.02)
        self.assertGreaterEqual(max(copies), 2)

    def test_cold_read_is_wide(self) -> None:
        """
        A newcomer looks up its own id in parallel with its first read, which needs more
        nodes than the nearest ones name; without a read, a little later.
        """
        for reads in (True, False):
            node = self.network.node()
            looked_up: list[float] = []
            neighbourhood = node.sides[0].neighbourhood
            original = neighbourhood._look_up

            def look_up(
                target: bytes,
                node: DHTNode = node,
                looked_up: list[float] = looked_up,
                original: Callable[[bytes], Deferred[None]] = original,
            ) -> Deferred[None]:
                if target == node.node_id:
                    looked_up.append(self.network.clock.seconds())
                return original(target)

            self.patch(neighbourhood, "_look_up", look_up)
            if reads:
                node.get_mutable(PUBLIC_KEY, SALT)
            ready = self.network.result(node.when_ready().addCallback(lambda _: self.network.clock.seconds()))
            self.network.udp.advance(1)
            self.assertEqual(len(looked_up), 1)
            self.assertEqual(looked_up[0] - ready < OWN_LOOKUP_DELAY / 2, reads)

    def test_dead_nodes(self) -> None:
        """
        With 20 % of the nodes dead a newcomer reads and puts without waiting for a
        time-out of 2 s; a lost packet does no harm either.
        """
        self.network.udp.dead = {self.network.host(number) for number in range(24, 30)}
        self.network.udp.loss = 0.02
        node = self.network.node()
        start = self.network.clock.seconds()
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        result = self.network.result(
            node.put_mutable(SEED, SALT, record(1), Placement(record(1)[:32], classify), read)
        )
        self.assertEqual(len(result.stored), 2)
        self.assertGreaterEqual(len(read.answers), 18)
        self.assertLess(self.network.clock.seconds() - start, 0.6)

    def test_on_answer_that_raises(self) -> None:
        """
        An exception of the application is logged; the read continues.
        """

        def on_answer(answer: NodeAnswer) -> None:
            raise RuntimeError("mine")

        read = self.network.result(self.network.nodes[3].get_mutable(PUBLIC_KEY, SALT, on_answer))
        self.assertGreater(len(read.answers), 20)
        self.assertGreater(len(self.flushLoggedErrors(RuntimeError)), 20)

    def test_own_store(self) -> None:
        """
        Values that others have put on this very node are in its reads, and reported to
        the observer.
        """
        node, other = self.network.nodes[:2]
        read = self.network.result(other.get_mutable(PUBLIC_KEY, SALT))
        there = [answer for answer in read.answers if answer.contact.node_id == node.node_id]

        class Here(Placement):
            def plan(self, read: object, value: bytes) -> Any:
                return [there]

        self.network.result(other.put_mutable(SEED, SALT, record(1), Here(bytes(32), classify), read))
        answers: list[NodeAnswer] = []
        own = self.network.result(node.get_mutable(PUBLIC_KEY, SALT, answers.append))
        self.assertEqual(list(own.values()), [record(1)])
        self.assertEqual(answers[0], own.answers[-1])
        again = self.network.result(node.refresh(own))
        self.assertEqual(len(again.answers), len(own.answers))
        self.assertIsNone(again.answers[-1].token)

    def test_packet_limits(self) -> None:
        """
        Fifty refreshes within a second send no node more than 20 packets in 10 s; nodes
        that can't be queried keep their answers.
        """
        node = self.network.nodes[5]
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.log.clear()
        start = self.network.clock.seconds()
        for _ in range(50):
            again = self.network.result(node.refresh(read))
            self.assertEqual(len(again.answers), len(read.answers))
        self.assertLess(self.network.clock.seconds() - start, 2.0)
        sent: dict[str, int] = {}
        for datagram in self.network.udp.log:
            if datagram.source[0] == self.network.host(5) and b"1:q3:get" in datagram.data:
                sent[datagram.destination[0]] = sent.get(datagram.destination[0], 0) + 1
        self.assertLessEqual(max(sent.values()), 20)

    def test_put_sender_id(self) -> None:
        """
        A put has our own id as sender, a target and C{cas=0}.
        """
        node = self.network.nodes[5]
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.log.clear()
        self.network.result(
            node.put_mutable(SEED, SALT, record(1), Placement(record(1)[:32], classify), read)
        )
        puts = [datagram.data for datagram in self.network.udp.log if b"1:q3:put" in datagram.data]
        self.assertEqual(len(puts), 2)
        for data in puts:
            query = decode(data)
            assert isinstance(query, Query)
            self.assertEqual((query.node_id, query.arguments[b"cas"]), (node.node_id, 0))
            self.assertEqual(len(query.arguments[b"target"]), 20)


class Client:
    """
    The client of one family, whose results the test decides.

    @ivar asked: each call: its name, its arguments, and its result.
    @ivar cancelled: the number of cancelled calls.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], Deferred[Any]]] = []
        self.cancelled = 0

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            result: Deferred[Any] = Deferred(self.cancel)
            self.asked.append((name, arguments, result))
            return await result

        return call

    def cancel(self, _: object) -> None:
        """Count a cancelled call."""
        self.cancelled += 1

    def notify(self, callback: Any, argument: Any) -> None:
        """Call a callback of the caller."""
        if callback is not None:
            callback(argument)


class Side:
    """
    One address family.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self.client: Any = Client()
        self.ready = True
        self.reads = 0

    def before_read(self) -> None:
        """Count a read."""
        self.reads += 1

    def answer(self, result: Any) -> None:
        """Give the last call a result."""
        _, _, deferred = self.client.asked[-1]
        if isinstance(result, Exception):
            deferred.errback(result)
        else:
            deferred.callback(result)


class TwoFamilies(Operations):
    """
    The operations on two families.

    @ivar turns: the kinds of operations that have waited for their turn, and C{"end"} for each end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.four, self.six = self.sides = [Side(IPV4), Side(IPV6)]
        self.usable: Deferred[None] = succeed(None)
        self.turn: Deferred[None] = succeed(None)
        self.turns: list[str] = []
        self.own: tuple[NodeAnswer, ...] = ()

    @property
    def node_id(self) -> bytes:
        return b"\xff" * 20

    def when_usable(self) -> Deferred[None]:
        return self.usable

    def usable_sides(self) -> Sequence[Side]:
        return self.sides

    def side_of(self, host: str) -> Side | None:
        return next((side for side in self.sides if side.family.has(host)), None)

    def own_answer(self, public_key: bytes, salt: bytes) -> tuple[NodeAnswer, ...]:
        return self.own

    def take_turn(self, kind: str) -> Deferred[None]:
        self.turns.append(kind)
        return self.turn

    def end_turn(self) -> None:
        self.turns.append("end")


def contact(number: int, host: str) -> Contact:
    """Return a node."""
    return Contact(bytes((number,)) * 20, host, 1)


class FamilyTests(SynchronousTestCase):
    """
    Operations on both families, whose clients answer as the test says.
    """

    def setUp(self) -> None:
        self.dht = TwoFamilies()
        self.four, self.six = self.dht.four, self.dht.six
        self.one, self.two = contact(1, "10.0.0.1"), contact(2, "2001:db8::1")

    def test_waits(self) -> None:
        """
        An operation waits for a node, and then for its turn, which it gives back, also when it
        fails.
        """
        self.dht.usable, self.dht.turn = Deferred(), Deferred()
        getting = self.dht.get_peers(bytes(20))
        self.assertEqual((self.dht.turns, self.four.client.asked), ([], []))
        self.dht.usable.callback(None)
        self.assertEqual((self.dht.turns, self.four.client.asked), (["get_peers"], []))
        self.dht.turn.callback(None)
        self.assertEqual(self.dht.turns, ["get_peers"])
        self.four.answer(ZeroDivisionError())
        self.failureResultOf(getting, ZeroDivisionError)
        self.assertEqual((self.dht.turns, self.six.client.cancelled), (["get_peers", "end"], 1))

    def test_cancelled_while_waiting(self) -> None:
        """
        An operation that is cancelled before its turn queries nobody, and ends no turn.
        """
        for name in ("usable", "turn"):
            self.dht.turns.clear()
            setattr(self.dht, name, Deferred())
            getting = self.dht.get_peers(bytes(20))
            getting.cancel()
            self.failureResultOf(getting, CancelledError)
            self.assertNotIn("end", self.dht.turns)
            self.assertEqual(self.four.client.asked, [])
            setattr(self.dht, name, succeed(None))

    def note(self, result: Any, ended: list[int], number: int) -> Any:
        """Note that an operation has ended."""
        ended.append(number)
        return result

    def test_cancel_all(self) -> None:
        """
        All operations can be cancelled at once, in the order in which they began; those that
        have ended are forgotten.
        """
        over = self.dht.get_immutable(bytes(20))
        for side in self.dht.sides:
            side.answer(None)
        self.successResultOf(over)
        ended: list[int] = []
        running: list[Deferred[Any]] = [
            self.dht.get_peers(bytes(20)),
            self.dht.ask_node("10.0.0.1", 1, PUBLIC_KEY),
            self.dht.get_immutable(bytes(20)),
        ]
        for number, each in enumerate(running):
            each.addBoth(self.note, ended, number)
        self.dht.cancel_operations()
        self.assertEqual(ended, [0, 1, 2])
        for each in running:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.four.client.cancelled, 3)
        self.dht.cancel_operations()

    def test_one_family_fails(self) -> None:
        """
        An operation succeeds with what one family has; it fails if both do.
        """
        getting = self.dht.get_peers(bytes(20))
        self.four.answer(LookupFailed("no"))
        self.assertNoResult(getting)
        self.six.answer(frozenset((("2001:db8::1", 1),)))
        self.assertEqual(self.successResultOf(getting), {("2001:db8::1", 1)})
        getting = self.dht.get_peers(bytes(20))
        for side in self.dht.sides:
            side.answer(LookupFailed("no"))
        self.failureResultOf(getting, LookupFailed)

    def test_family_that_is_not_ready(self) -> None:
        """
        A family in which no node has answered is not waited for.
        """
        self.six.ready = False
        getting = self.dht.get_peers(bytes(20))
        self.four.answer(frozenset((("10.0.0.1", 1),)))
        self.assertEqual(self.successResultOf(getting), {("10.0.0.1", 1)})
        self.assertEqual(self.six.client.cancelled, 1)

    def test_united(self) -> None:
        """
        Peers, samples and results of puts of both families are united.
        """
        peers = self.dht.get_peers(bytes(20))
        self.four.answer(frozenset((("10.0.0.1", 1), ("10.0.0.2", 1))))
        self.six.answer(frozenset((("2001:db8::1", 1),)))
        self.assertEqual(len(self.successResultOf(peers)), 3)
        sampling = self.dht.sample_infohashes(bytes(20))
        samples = [InfohashSample(each, (), 0, 0.0) for each in (self.one, self.two)]
        self.four.answer((samples[0],))
        self.six.answer((samples[1],))
        self.assertEqual(self.successResultOf(sampling), tuple(samples))
        announcing = self.dht.announce_peer(bytes(20), 0)
        self.four.answer(PutResult((self.one,), (), (), ()))
        self.six.answer(PutResult((), (self.two,), (), ()))
        self.assertEqual(self.successResultOf(announcing), PutResult((self.one,), (self.two,), (), ()))

    def test_immutable(self) -> None:
        """
        The first family that has an immutable item ends the search; one that has none does not.
        """
        getting = self.dht.get_immutable(bytes(20))
        self.four.answer(None)
        self.assertNoResult(getting)
        self.six.answer(b"1:a")
        self.assertEqual(self.successResultOf(getting), b"1:a")
        getting = self.dht.get_immutable(bytes(20))
        self.four.answer(b"")
        self.assertEqual(self.successResultOf(getting), b"")
        self.assertEqual(self.six.client.cancelled, 1)
        getting = self.dht.get_immutable(bytes(20))
        for side in self.dht.sides:
            side.answer(None)
        self.assertIsNone(self.successResultOf(getting))

    def test_read(self) -> None:
        """
        A read unites both families and what we store ourselves, which is reported first; each
        family continues from its own nodes of an earlier read.
        """
        one, two = NodeAnswer(self.one, b"t", b"v", 1), NodeAnswer(self.two, b"t", b"w", 2)
        self.dht.own = (NodeAnswer(Contact(self.dht.node_id, "10.0.0.9", 1), b"", b"x", 3),)
        known = MutableRead(PUBLIC_KEY, SALT, (two, one, *self.dht.own))
        told: list[NodeAnswer] = []
        reading = self.dht.get_mutable(PUBLIC_KEY, SALT, told.append, known=known, alpha=5, width=7)
        self.assertEqual(told, list(self.dht.own))
        for side, expected in ((self.four, self.one), (self.six, self.two)):
            name, arguments, _ = side.client.asked[-1]
            options = arguments[-1]
            self.assertEqual((name, arguments[:2], side.reads), ("get_mutable", (PUBLIC_KEY, SALT), 1))
            self.assertEqual((options.alpha, options.width, options.known), (5, 7, [expected]))
        self.four.answer(MutableRead(PUBLIC_KEY, SALT, (one,)))
        self.six.answer(MutableRead(PUBLIC_KEY, SALT, (two,)))
        read = self.successResultOf(reading)
        self.assertEqual(set(read.answers[:2]), {one, two})
        self.assertEqual(read.answers[2:], self.dht.own)

    def test_node_of_no_family(self) -> None:
        """
        A node that no socket can reach fails, and does not raise; a wrong port does raise.
        """
        self.dht.sides = [self.four]
        self.failureResultOf(self.dht.ask_node("2001:db8::1", 1, PUBLIC_KEY), LookupFailed)
        for port in (0, -1, 65536):
            self.assertRaises(ValueError, self.dht.ask_node, "10.0.0.1", port, PUBLIC_KEY)
        asking = self.dht.ask_node("10.0.0.1", 65535, PUBLIC_KEY, SALT)
        self.assertEqual(self.four.client.asked[-1][:2], ("get_from", ("10.0.0.1", 65535, PUBLIC_KEY, SALT)))
        answer = NodeAnswer(self.one, b"t")
        self.four.answer(answer)
        self.assertIs(self.successResultOf(asking), answer)
