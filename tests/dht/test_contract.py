"""
The behaviour of every provider of L{IDHT}: L{DHTNode} on an in-memory network, and
L{FakeDHT}.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any, TypeVar

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.dht.client.lookup import SLOT_WIDTH
from dtt.dht.client.placement import FirstCopy, Placement
from dtt.dht.node import DHTNode
from dtt.dht.server.responder import SAMPLE_INTERVAL
from dtt.interfaces import IDHT, InfohashSample, MutableRead, NodeAnswer, ServedItem
from dtt.krpc.items import immutable_target, mutable_target
from dtt.testing.fake_dht import FakeDHT
from tests.dht.network import PUBLIC_KEY, SALT, SEED, Network, classify, outcome, record
from tests.sweeps import thorough

T = TypeVar("T")


class SlotMixin:
    """
    What contract tests use; C{one} and C{two} are two members' DHTs.

    @ivar seed: the key of the items of a test.
    @ivar salt: their salt.
    """

    seed = SEED
    public_key = PUBLIC_KEY
    salt = SALT
    one: Any
    two: Any
    forgetting: Callable[[], Any]
    wait: Callable[[Deferred[Any]], Any]
    assertEqual: Callable[..., Any]
    assertTrue: Callable[..., Any]
    assertIn: Callable[..., Any]
    assertIsNone: Callable[..., Any]
    assertRaises: Callable[..., Any]
    assertGreaterEqual: Callable[..., Any]

    def get(self, dht: Any) -> MutableRead:
        read: MutableRead = self.wait(dht.get_mutable(self.public_key, self.salt))
        return read

    def put(self, dht: Any, number: int, read: MutableRead, **more: Any) -> Any:
        value = record(number)
        return self.wait(
            dht.put_mutable(self.seed, self.salt, value, Placement(value[:32], classify), read, **more)
        )


class ContactsMixin(SlotMixin):
    """
    Contract tests of what carries addresses.
    """

    def test_roundtrip(self) -> None:
        """
        A value put by one member is read by another, from the nodes that stored it.
        """
        result = self.put(self.one, 1, self.get(self.one))
        self.assertEqual(len(result.stored), 2)
        self.assertEqual((result.acknowledged, result.refused, result.unanswered), ((), (), ()))
        read = self.get(self.two)
        self.assertEqual(list(read.values()), [record(1)])
        holders = read.values()[record(1)]
        self.assertEqual({c.node_id for c in holders}, {c.node_id for c in result.stored})
        holder = next(answer for answer in read.answers if answer.value)
        self.assertEqual((holder.seq, len(holder.version)), (2**63 - 1, 4))

    def test_sample_infohashes(self) -> None:
        """
        Nodes report the info hashes that they have peers for, once per interval, and to
        the observer.
        """
        info_hash = b"i" * 20
        holders = self.wait(self.one.announce_peer(info_hash, 4321)).stored
        reported: list[InfohashSample] = []
        samples = self.wait(self.two.sample_infohashes(info_hash, reported.append))
        self.assertEqual(sorted(reported, key=repr), sorted(samples, key=repr))
        self.assertEqual(len(samples), 8)
        for sample in samples:
            expected = ((info_hash,), 1) if sample.contact in holders else ((), 0)
            self.assertEqual((sample.info_hashes, sample.total), expected)
            self.assertEqual(sample.interval, SAMPLE_INTERVAL)
        self.assertEqual(self.wait(self.two.sample_infohashes(info_hash)), ())

    def test_peers(self) -> None:
        """
        Other nodes find an announced port, once, and report it to the observer; port 0
        announces the source port.
        """
        info_hash = b"i" * 20
        self.assertEqual(self.wait(self.two.get_peers(info_hash)), frozenset())
        self.assertEqual(len(self.wait(self.one.announce_peer(info_hash, 4321)).stored), 8)
        called: list[tuple[str, int]] = []
        peers = self.wait(self.two.get_peers(info_hash, lambda *peer: called.append(peer)))
        self.assertEqual([port for _, port in peers], [4321])
        self.assertEqual(called, list(peers))
        self.wait(self.one.announce_peer(b"j" * 20, 0))
        ((_, port),) = self.wait(self.two.get_peers(b"j" * 20))
        self.assertGreaterEqual(port, 1024)

    def served_address(self) -> tuple[str, int]:
        """Return the address at which the first member's node answers."""
        raise NotImplementedError

    def test_serve(self) -> None:
        """
        An item of our own is answered until that is ended, to a question without a lookup.
        """
        served = ServedItem(self.seed, self.salt, b"our own")
        target = mutable_target(self.public_key, self.salt)
        end = self.one.serve([target], lambda asked: served if asked == target else None)
        address = self.served_address()
        answer = self.wait(self.two.ask_node(*address, self.public_key, self.salt))
        self.assertEqual((answer.value, answer.seq, answer.contact.host), (b"our own", 2**63 - 1, address[0]))
        other = self.wait(self.two.ask_node(*address, self.public_key, b"another salt"))
        self.assertIsNone(other.value)
        end()
        self.assertIsNone(self.wait(self.two.ask_node(*address, self.public_key, self.salt)).value)

    def test_ask_a_holder(self) -> None:
        """
        A node that stores an item returns it.
        """
        result = self.put(self.one, 1, self.get(self.one))
        holder = result.stored[0]
        answer = self.wait(self.two.ask_node(holder.host, holder.port, self.public_key, self.salt))
        self.assertEqual((answer.value, answer.contact), (record(1), holder))


class ContractMixin(ContactsMixin):
    """
    All contract tests.
    """

    def test_interface(self) -> None:
        """
        The object provides L{IDHT}.
        """
        verifyObject(IDHT, self.one)

    def test_ready(self) -> None:
        """
        It becomes ready, with a number of nodes; each caller is notified.
        """
        self.assertGreaterEqual(self.wait(self.one.when_ready()), 1)
        self.assertGreaterEqual(self.wait(self.one.when_ready()), 1)

    def test_empty_slot(self) -> None:
        """
        A read of an empty slot returns up to 32 responsive nodes with tokens, nearest
        first, and no value.
        """
        read = self.get(self.one)
        self.assertEqual((read.public_key, read.salt, read.values()), (self.public_key, self.salt, {}))
        self.assertGreaterEqual(len(read.answers), 20)
        self.assertTrue(all(answer.token for answer in read.answers))

    def test_on_answer(self) -> None:
        """
        The observer is called with each answer, values included.
        """
        self.put(self.one, 1, self.get(self.one))
        answers: list[NodeAnswer] = []
        read = self.wait(self.two.get_mutable(self.public_key, self.salt, answers.append))
        self.assertTrue(set(read.answers) <= set(answers))
        self.assertTrue(any(answer.value == record(1) for answer in answers))

    def test_on_inner(self) -> None:
        """
        The observer is called once, before the end, with the answers of the nearest
        nodes: at least 5, with tokens and values, suitable for a put.
        """
        self.put(self.one, 1, self.get(self.one))
        reported: list[MutableRead] = []
        ended: list[int] = []

        def on_inner(inner: MutableRead) -> None:
            reported.append(inner)
            ended.append(len(results))

        results: list[MutableRead] = []
        reading = self.two.get_mutable(self.public_key, self.salt, None, on_inner)
        self.wait(reading.addCallback(results.append))
        self.assertEqual((len(reported), ended), (1, [0]))
        (inner,), (read,) = reported, results
        self.assertEqual((inner.public_key, inner.salt), (self.public_key, self.salt))
        self.assertGreaterEqual(len(inner.answers), 5)
        self.assertTrue(set(inner.answers) <= set(read.answers))
        # In a larger network, one or two nodes may become known later.
        nearest = [answer.contact for answer in read.answers[:16]]
        self.assertTrue({answer.contact for answer in inner.answers} <= set(nearest))
        placement = FirstCopy(Placement(record(2)[:32], classify))
        put = self.wait(self.two.put_mutable(self.seed, self.salt, record(2), placement, inner))
        self.assertEqual(len(put.stored), 1)
        again = self.wait(
            self.two.put_mutable(self.seed, self.salt, record(2), placement, self.get(self.two))
        )
        self.assertEqual(again.stored, put.stored)

    def test_known(self) -> None:
        """
        A read that starts from an earlier read finds what was put since.
        """
        before = self.get(self.two)
        self.put(self.one, 1, self.get(self.one))
        after = self.wait(self.two.get_mutable(self.public_key, self.salt, known=before))
        self.assertEqual(list(after.values()), [record(1)])
        nearest = {answer.contact for answer in before.answers[:20]}
        self.assertTrue(nearest <= {answer.contact for answer in after.answers})

    def test_alpha(self) -> None:
        """
        Any alpha yields the same read.
        """
        self.put(self.one, 1, self.get(self.one))
        for alpha in (1, 4, 40):
            read = self.wait(self.two.get_mutable(self.public_key, self.salt, alpha=alpha))
            self.assertEqual(list(read.values()), [record(1)])
            self.assertGreaterEqual(len(read.answers), 20)

    def test_width(self) -> None:
        """
        The requested number of nearest nodes is read, possibly with the 20 that
        mainline reads, but not all.
        """
        everybody = [answer.contact for answer in self.get(self.two).answers]
        read = self.wait(self.two.get_mutable(self.public_key, self.salt, width=12))
        nearest = [answer.contact for answer in read.answers]
        self.assertGreaterEqual(len(nearest), 12)
        self.assertEqual(nearest, everybody[: len(nearest)])
        self.assertTrue(len(nearest) <= 20 < len(everybody))

    def test_refresh_observer(self) -> None:
        """
        The observer of a refresh is called once for each answer that arrives, and for
        no others.
        """
        before = self.get(self.two)
        self.put(self.one, 1, self.get(self.one))
        answers: list[NodeAnswer] = []
        after = self.wait(self.two.refresh(before, answers.append))
        self.assertTrue(set(answers) <= set(after.answers))
        self.assertTrue(any(answer.value == record(1) for answer in answers))
        self.assertGreaterEqual(len(answers), 20)

    def test_refresh_nearest(self) -> None:
        """
        Only the given number of nearest nodes is queried; the others keep their
        answers.
        """
        before = self.get(self.two)
        self.put(self.one, 1, self.get(self.one))
        answers: list[NodeAnswer] = []
        after = self.wait(self.two.refresh(before, answers.append, nearest=8))
        contacts = [answer.contact for answer in before.answers]
        count = len(contacts)
        self.assertEqual([answer.contact for answer in after.answers][:count], contacts)
        self.assertEqual({answer.contact for answer in answers}, set(contacts[:8]))
        self.assertEqual(after.answers[8:count], before.answers[8:])

    def test_read_back(self) -> None:
        """
        Nodes that accept a value without storing it have only acknowledged it, and
        others are tried; unless reading back is off.
        """
        read = self.get(self.one)
        for read_back in (True, False):
            dht = self.forgetting()
            placement = Placement(record(1)[:32], classify)
            put = dht.put_mutable(self.seed, self.salt, record(1), placement, read, read_back=read_back)
            result = self.wait(put)
            if read_back:
                self.assertEqual(result.stored, ())
                self.assertGreaterEqual(len(result.acknowledged), 20)
            else:
                self.assertEqual((len(result.stored), result.acknowledged), (2, ()))

    def test_refresh(self) -> None:
        """
        The same nodes queried again return what was put since.
        """
        before = self.get(self.two)
        self.put(self.one, 1, self.get(self.one))
        after = self.wait(self.two.refresh(before))
        count = len(before.answers)
        self.assertEqual([a.contact for a in after.answers][:count], [a.contact for a in before.answers])
        self.assertEqual(list(after.values()), [record(1)])

    def test_records_are_not_overwritten(self) -> None:
        """
        With a read from before another member's put, both records end up in the slot.
        """
        old = self.get(self.two)
        self.put(self.one, 1, self.get(self.one))
        self.put(self.two, 2, old)
        values = self.get(self.one).values()
        self.assertEqual({value: len(nodes) for value, nodes in values.items()}, {record(1): 2, record(2): 2})

    def test_many_publishers(self) -> None:
        """
        Ten publishers that read the slot while it was empty are all found.
        """
        read = self.get(self.one)
        waiting = [
            self.one.put_mutable(self.seed, self.salt, record(n), Placement(record(n)[:32], classify), read)
            for n in range(10)
        ]
        for each in waiting:
            self.wait(each)
        self.assertEqual(set(self.get(self.two).values()), {record(n) for n in range(10)})

    def test_top_up(self) -> None:
        """
        The second put of the only publisher completes six copies; its result includes the
        old ones.
        """
        self.put(self.one, 1, self.get(self.one))
        result = self.put(self.one, 1, self.get(self.one))
        self.assertEqual(len(result.stored), 6)
        # A lookup may miss a far node.
        self.assertIn(len(self.get(self.two).values()[record(1)]), (5, 6))

    def test_put_latest(self) -> None:
        """
        The highest sequence number wins on the 8 nearest nodes; an acceptance counts as
        stored, since the nodes had no value or an older one.
        """
        first = self.wait(self.one.put_latest(self.seed, b"old", 1_700_000_000_000_000))
        self.assertEqual(len(first.stored), 8)
        self.assertEqual((first.acknowledged, first.refused, first.unanswered), ((), (), ()))
        second = self.wait(self.two.put_latest(self.seed, b"new", 1_700_000_000_000_001))
        # Each of the two may be near, but does not query itself.
        self.assertGreaterEqual(len(set(second.stored) & set(first.stored)), 7)
        read = self.wait(self.one.get_mutable(self.public_key))
        self.assertEqual(next(iter(read.values())), b"new")
        latest = read.latest()
        self.assertEqual((latest.value, latest.seq), (b"new", 1_700_000_000_000_001))
        late = self.wait(self.two.put_latest(self.seed, b"older", 5))
        self.assertEqual({code for _, code in late.refused}, {302})
        self.assertEqual((len(late.refused), late.stored), (8, ()))
        again = self.wait(self.two.put_latest(self.seed, b"new", 1_700_000_000_000_001, copies=3))
        self.assertEqual(len(again.stored), 3)

    def test_put_latest_cas(self) -> None:
        """
        With C{cas} only that sequence number is replaced.
        """
        read = self.get(self.one)
        self.wait(self.one.put_latest(self.seed, b"one", 1, self.salt, read=read))
        refused = self.wait(self.two.put_latest(self.seed, b"two", 2, self.salt, cas=5))
        self.assertEqual({code for _, code in refused.refused}, {301})
        self.assertGreaterEqual(len(refused.refused), 7)
        put = self.wait(self.two.put_latest(self.seed, b"two", 2, self.salt, cas=1))
        self.assertGreaterEqual(len(put.stored), 7)
        latest = self.get(self.one).latest()
        self.assertEqual((latest and latest.value), b"two")

    def test_latest(self) -> None:
        """
        Of different values the one with the highest sequence number is the latest, and
        each is returned with its number.
        """
        read = self.wait(self.one.get_mutable(self.public_key))
        self.assertIsNone(read.latest())
        for seq, copies in ((1, 8), (2, 5), (3, 2)):
            self.wait(self.one.put_latest(self.seed, b"%d" % seq, seq, read=read, copies=copies))
        read = self.wait(self.two.get_mutable(self.public_key))
        self.assertEqual(
            sorted({(a.seq, a.value) for a in read.answers if a.seq}), [(1, b"1"), (2, b"2"), (3, b"3")]
        )
        self.assertEqual(read.latest().value, b"3")

    def test_wrong_arguments(self) -> None:
        """
        Invalid arguments are rejected at the call.
        """
        read = self.get(self.one)
        placement = Placement(bytes(32), classify)
        for call in (
            lambda: self.one.put_mutable(self.seed, self.salt, bytes(997), placement, read),
            lambda: self.one.put_mutable(self.seed, bytes(65), b"value", placement, read),
            lambda: self.one.put_mutable(bytes(32), self.salt, b"value", placement, read),
            lambda: self.one.put_mutable(self.seed, self.salt, b"value", placement, read, 2**63),
            lambda: self.one.get_mutable(self.public_key, bytes(65)),
            lambda: self.one.get_mutable(bytes(31)),
            lambda: self.one.put_latest(self.seed, bytes(997), 1),
            lambda: self.one.put_latest(self.seed, b"value", -1),
            lambda: self.one.put_latest(self.seed, b"value", 1, cas=2**63),
            lambda: self.one.put_latest(self.seed, b"value", 1, b"other salt", read=read),
            lambda: self.one.get_immutable(bytes(19)),
            lambda: self.one.get_peers(bytes(21)),
            lambda: self.one.announce_peer(bytes(20), 65536),
            lambda: self.one.announce_peer(b"", 1),
            lambda: self.one.sample_infohashes(b""),
            lambda: self.one.put_immutable(b"998:" + bytes(998)),
            lambda: self.one.put_immutable(b"not bencoded"),
        ):
            self.assertRaises(ValueError, call)

    def test_largest_value(self) -> None:
        """
        A value of 996 bytes can be stored and read.
        """
        value = bytes(996)
        read = self.get(self.one)
        self.wait(self.one.put_mutable(self.seed, self.salt, value, Placement(bytes(32), classify), read))
        self.assertEqual(list(self.get(self.two).values()), [value])

    def test_immutable(self) -> None:
        """
        A bencoded value is found by its SHA-1 by other nodes; another hash is not
        found.
        """
        value = b"d3:agei7e4:name3:Idae"
        result = self.wait(self.one.put_immutable(value))
        self.assertEqual(len(result.stored), 8)
        self.assertEqual(self.wait(self.two.get_immutable(immutable_target(value))), value)
        self.assertIsNone(self.wait(self.two.get_immutable(b"\x55" * 20)))

    def test_ask_node_arguments(self) -> None:
        """
        Wrong arguments are refused by the call itself.
        """
        host = self.served_address()[0]
        self.assertRaises(ValueError, self.one.ask_node, host, 0, self.public_key, self.salt)
        self.assertRaises(ValueError, self.one.ask_node, host, 65536, self.public_key, self.salt)
        self.assertRaises(ValueError, self.one.ask_node, host, 6881, b"short")


class FakeDHTContractTests(ContractMixin, SynchronousTestCase):
    """
    L{FakeDHT} without latency.
    """

    def setUp(self) -> None:
        self.one = self.two = FakeDHT(Clock(), rng=Random(1))
        self.wait = self.successResultOf

    def served_address(self) -> tuple[str, int]:
        return "192.0.2.1", 6881

    def forgetting(self) -> FakeDHT:
        """
        Return the DHT of a member whose nodes all stop storing.
        """
        dht: FakeDHT = self.one
        for responder in dht.responders.values():
            self.patch(responder.items, "put", lambda *_: None)
        return dht


class NodeTestCase(SynchronousTestCase):
    """
    L{DHTNode}, in a network of others.
    """

    size = 24
    families = "4"
    one: Any
    two: Any

    def setUp(self) -> None:
        self.network = Network(self.size, seed=1, families=self.families)
        self.one, self.two = self.network.node(), self.network.node()
        # A read directly after the start may miss a far node.
        self.network.udp.advance(1.0)
        self.wait = self.network.result

    def tearDown(self) -> None:
        self.network.stop()

    def served_address(self) -> tuple[str, int]:
        node = self.one
        number = self.network.nodes.index(node)
        return (self.network.host6 if self.families == "6" else self.network.host)(number), node.port

    def forgetting(self) -> DHTNode:
        """
        Return the DHT of a member whose nodes all stop storing.
        """
        for node in self.network.nodes:
            self.patch(node.responder.items, "put", lambda *_: None)
        member: DHTNode = self.one
        return member


class NodeContactsTests(NodeTestCase, ContactsMixin):
    """
    What carries addresses, over IPv4.
    """

    size = 16


class TogetherTests(NodeTestCase, SlotMixin):
    """
    The other tests of the contract, over IPv4.
    """

    def test_contract(self) -> None:
        """
        The contract is kept by two nodes, in one test after the other, with another key for
        each: to start a network for each takes longer than the tests.
        """
        tests: dict[str, Callable[[Any], None]] = {
            name: test for name, test in vars(ContractMixin).items() if name.startswith("test_")
        }
        # It lets all nodes stop storing.
        del tests["test_read_back"]
        self.assertGreater(len(tests), 20)
        for name, test in tests.items():
            self.seed = sha256(name.encode()).digest()
            self.public_key = crypto_sign_seed_keypair(self.seed)[0]
            self.network.udp.advance(20.0)
            try:
                test(self)
            except Exception as error:
                raise AssertionError(name) from error

    def test_read_back(self) -> None:
        """
        Nodes that accept a value without storing it have only acknowledged it.
        """
        read_back: Callable[[Any], None] = ContractMixin.test_read_back
        read_back(self)


class NodeTests(NodeTestCase, SlotMixin):
    """
    What only nodes do, over IPv4.
    """

    size = 16

    def test_alpha_bounds(self) -> None:
        """
        At most alpha queries are in flight, except pings of the routing table.
        """
        krpc = self.one.krpc
        query = krpc.query
        in_flight = most = 0

        def counted(host: str, port: int, method: bytes, *rest: Any) -> Deferred[Any]:
            nonlocal in_flight, most
            answer: Deferred[Any] = query(host, port, method, *rest)
            if method != b"ping":
                in_flight += 1
                most = max(most, in_flight)
                answer.addBoth(over)
            return answer

        def over(result: Any) -> Any:
            nonlocal in_flight
            in_flight -= 1
            return result

        self.patch(krpc, "query", counted)
        for alpha in (1, 3):
            most = 0
            self.wait(self.one.get_mutable(PUBLIC_KEY, SALT, alpha=alpha))
            self.assertEqual(most, alpha)
            self.network.udp.advance(20.0)

    def test_known_nodes_are_asked(self) -> None:
        """
        The nodes of an earlier read are queried even by a node that does not know them.
        """
        read = self.get(self.two)
        newcomer = self.network.node()
        self.network.udp.advance(1.0)
        self.put(self.one, 1, self.get(self.one))
        for contact in newcomer.table.contacts()[1:]:
            for _ in range(5):
                newcomer.table.failed(contact)
        self.assertLess(len(newcomer.table), 5)
        answers: list[NodeAnswer] = []
        reading = newcomer.get_mutable(PUBLIC_KEY, SALT, answers.append, known=read, alpha=40)
        # One round trip.
        self.network.udp.advance(0.025)
        self.assertGreaterEqual(len({answer.contact for answer in answers}), 12)
        self.assertEqual(list(self.wait(reading).values()), [record(1)])

    def test_cancel(self) -> None:
        """
        Each operation can be cancelled, and then sends nothing more.
        """
        read = self.get(self.one)
        for call in (
            lambda: self.one.get_mutable(PUBLIC_KEY, SALT),
            lambda: self.one.refresh(read),
            lambda: self.one.put_mutable(SEED, SALT, b"value", Placement(bytes(32), classify), read),
            lambda: self.one.get_immutable(bytes(20)),
            lambda: self.one.put_immutable(b"1:x"),
            lambda: self.one.get_peers(bytes(20)),
            lambda: self.one.announce_peer(bytes(20), 5),
            lambda: self.one.put_latest(SEED, b"value", 1, SALT, read=read),
            lambda: self.one.sample_infohashes(bytes(20)),
        ):
            self.network.udp.advance(20.0)
            results = outcome(deferred := call())
            self.network.udp.advance(0.005)
            deferred.cancel()
            assert isinstance(results[0], Failure)
            results[0].trap(CancelledError)
            sent = sum(n for name, n in self.one.krpc.counters.items() if name.startswith("sent_"))
            self.network.udp.advance(1.0)
            self.assertEqual(
                sum(n for name, n in self.one.krpc.counters.items() if name.startswith("sent_")), sent
            )


class IPv6ContactsTests(NodeTestCase, ContactsMixin):
    """
    What carries addresses, over IPv6 only.
    """

    size = 16
    families = "6"


@thorough
class NodeContractTests(NodeTestCase, ContractMixin):
    """
    The whole contract over IPv4, with a network for each test.
    """


@thorough
class IPv6NodeContractTests(NodeTests, ContractMixin):
    """
    The same over IPv6 only.
    """

    size = 24
    families = "6"


class FakeDHTTests(SynchronousTestCase):
    """
    Features of L{FakeDHT} for tests.
    """

    def test_latency(self) -> None:
        """
        With a latency each round trip takes that long and can be cancelled.
        """
        clock = Clock()
        dht = FakeDHT(clock, latency=0.5)
        results = outcome(dht.get_mutable(PUBLIC_KEY, SALT))
        clock.advance(0.4)
        self.assertEqual(results, [])
        clock.advance(0.1)
        self.assertEqual(len(results), 1)
        cancelled = dht.get_mutable(PUBLIC_KEY, SALT)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_ready(self) -> None:
        """
        It can be made to wait for L{FakeDHT.become_ready}.
        """
        dht = FakeDHT(Clock(), ready=False)
        ready, read = outcome(dht.when_ready()), outcome(dht.get_mutable(PUBLIC_KEY))
        self.assertEqual((ready, read), ([], []))
        dht.become_ready()
        self.assertEqual((ready, len(read)), ([40], 1))

    def test_dead(self) -> None:
        """
        Dead nodes are missing from reads, and do not break a refresh.
        """
        dht = FakeDHT(Clock(), nodes=10)
        read = self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT))
        dht.dead = set(dht.contacts[:4])
        self.assertEqual(self.successResultOf(dht.refresh(read)).answers, read.answers)
        self.assertEqual(len(self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT)).answers), 6)

    def test_cancel(self) -> None:
        """
        Each operation can be cancelled.
        """
        clock = Clock()
        dht = FakeDHT(clock)
        read = self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT))
        dht.latency = 0.5
        for call in (
            lambda: dht.get_mutable(PUBLIC_KEY, SALT),
            lambda: dht.refresh(read),
            lambda: dht.put_mutable(SEED, SALT, b"value", Placement(bytes(32), classify), read),
            lambda: dht.get_immutable(bytes(20)),
            lambda: dht.put_immutable(b"1:x"),
            lambda: dht.get_peers(bytes(20)),
            lambda: dht.announce_peer(bytes(20), 5),
            lambda: dht.put_latest(SEED, b"value", 1, SALT, read=read),
            lambda: dht.sample_infohashes(bytes(20)),
        ):
            deferred: Deferred[Any] = call()
            self.assertNoResult(deferred)
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
            self.assertEqual(clock.getDelayedCalls(), [])

    def test_concurrent(self) -> None:
        """
        Each operation takes one round trip for its lookup, and one for its writes.
        """
        clock = Clock()
        dht = FakeDHT(clock, latency=0.5)
        for trips, call in (
            (1, lambda: dht.get_immutable(bytes(20))),
            (1, lambda: dht.get_peers(bytes(20))),
            (2, lambda: dht.put_immutable(b"1:x")),
            (2, lambda: dht.announce_peer(bytes(20), 5)),
            (2, lambda: dht.sample_infohashes(bytes(20))),
        ):
            deferred: Deferred[Any] = call()
            for _ in range(trips):
                self.assertNoResult(deferred)
                clock.advance(0.5)
            self.successResultOf(deferred)

    def test_crowded(self) -> None:
        """
        A narrow read of a slot with many values becomes as wide as that of a node.
        """
        dht = FakeDHT(Clock())
        narrow = self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT, width=10))
        self.assertEqual(len(narrow.answers), 10)
        for number in range(10):
            self.successResultOf(
                dht.put_mutable(SEED, SALT, record(number), Placement(record(number)[:32], classify), narrow)
            )
        self.assertEqual(
            len(self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT, width=10)).answers), SLOT_WIDTH
        )

    def test_observer_that_raises(self) -> None:
        """
        An observer's exception is logged, and the read continues.
        """
        dht = FakeDHT(Clock())

        def broken(_: NodeAnswer) -> None:
            raise ZeroDivisionError

        read = self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT, broken))
        self.assertEqual(len(read.answers), SLOT_WIDTH)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), SLOT_WIDTH)

    def test_stored(self) -> None:
        """
        Tests can inspect a slot.
        """
        dht = FakeDHT(Clock())
        read = self.successResultOf(dht.get_mutable(PUBLIC_KEY, SALT))
        self.successResultOf(
            dht.put_mutable(SEED, SALT, record(1), Placement(record(1)[:32], classify), read)
        )
        self.assertEqual(dht.stored(PUBLIC_KEY, SALT), {record(1): 2})
