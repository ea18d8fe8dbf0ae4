"""
Tests for trackers that get parts from the application, and for what a tracker says of
itself.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dtt.config import Config
from dtt.dht.node import DHTNode
from dtt.dht.saved import FILE as DHT_FILE
from dtt.errors import TopicLeft, UsageError, WrongType
from dtt.events import Message
from dtt.identity import PeerKey, application_message, verify
from dtt.tracker.kept import KEY_FILE, PORTS_FILE
from dtt.tracker.tracker import Tracker
from tests.tracker.case import TrackerTestCase

KEY = PeerKey.from_seed(b"k" * 32)


class KeyTests(TrackerTestCase):
    """
    A key of the application.
    """

    def test_used(self) -> None:
        """
        Its public key is the peer id, for others, too; the state directory gets no key, and
        one that is there is neither read nor changed.
        """
        state_dir = self.state_dir()
        one, two = self.tracker(1, key=KEY, state_dir=state_dir), self.tracker(2)
        self.assertEqual(one.peer_id, KEY.peer_id)
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(1)
        self.assertEqual(topics[1].neighbors(), (KEY.peer_id,))
        self.stop(one, two)
        self.assertFalse((state_dir / KEY_FILE).exists())
        self.assertTrue((state_dir / PORTS_FILE).exists())
        own = self.tracker(3, state_dir=state_dir)
        self.stop(own)
        kept = (state_dir / KEY_FILE).read_bytes()
        again = self.tracker(4, key=KEY, state_dir=state_dir)
        self.assertEqual((again.peer_id, (state_dir / KEY_FILE).read_bytes()), (KEY.peer_id, kept))
        self.assertNotEqual(own.peer_id, KEY.peer_id)

    def test_sign(self) -> None:
        """
        A signature is valid for its signer, context and data only, and is that of the
        documented bytes.
        """
        tracker = self.tracker(1, key=KEY, start=False)
        signature = tracker.sign(b"my chat/1", b"data")
        self.assertEqual(len(signature), 64)
        self.assertTrue(Tracker.verify(KEY.peer_id, b"my chat/1", b"data", signature))
        self.assertFalse(Tracker.verify(KEY.peer_id, b"my chat/2", b"data", signature))
        self.assertFalse(Tracker.verify(KEY.peer_id, b"my chat/1dat", b"a", signature))
        self.assertFalse(Tracker.verify(KEY.peer_id, b"my chat/1", b"other", signature))
        self.assertFalse(Tracker.verify(b"x" * 32, b"my chat/1", b"data", signature))
        self.assertFalse(Tracker.verify(b"short", b"my chat/1", b"data", b""))
        signed = application_message(b"my chat/1", b"data")
        self.assertEqual((len(signed), signed[:17]), (145, b"dtt/1 application"))
        self.assertTrue(verify(KEY.peer_id, signed, signature))
        wrong: Any = tracker
        for arguments in (
            (b"context", "text"),
            ("text", b"data"),
            (None, b"data"),
            (b"context", bytearray(1)),
        ):
            self.assertRaises(WrongType, wrong.sign, *arguments)
        self.assertRaises(WrongType, wrong.verify, KEY.peer_id, b"c", b"d", None)


class DHTTests(TrackerTestCase):
    """
    A DHT node of the application.
    """

    def node(self, number: int, start: bool = True, **kw: Any) -> DHTNode:
        """A node on the machine with this number."""
        host = f"10.0.0.{number}"
        node = DHTNode(
            self.net.reactor(host),
            interface=host,
            bootstrap=[("10.1.0.1", 6881)],
            rng=Random(number + 500),
            **kw,
        )
        if start:
            node.startService()
            self.addCleanup(node.stopService)
        return node

    def test_shared(self) -> None:
        """
        A tracker uses the node, has no second one, and leaves it running when it stops; the
        node's state is not kept.
        """
        state_dir = self.state_dir()
        node = self.node(1)
        one, two = self.tracker(1, node=node, state_dir=state_dir), self.tracker(2)
        self.assertIs(one.dht, node)
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(1)
        self.assertEqual(topics[0].neighbors(), (two.peer_id,))
        self.assertEqual([kind for kind in self.ports(1) if kind == "udp"], ["udp"])
        self.assertEqual(one.ports["dht"], node.port)
        self.stop(one)
        self.assertTrue(node.running)
        self.assertNoResult(node.get_peers(b"i" * 20))
        self.net.advance(10)
        self.assertIn("udp", self.ports(1))
        self.assertFalse((state_dir / DHT_FILE).exists())
        self.successResultOf(node.stopService())

    def test_node_stops_first(self) -> None:
        """
        An application may stop its node before the tracker, even before a topic is joined: nothing fails
        unhandled.  With the node started again, members meet.
        """
        node = self.node(1)
        one, two = self.tracker(1, node=node), self.tracker(2)
        early = one.join("early")
        self.net.advance(5)
        self.successResultOf(node.stopService())
        late, theirs = one.join("late"), two.join("late")
        found = one.discover("printers", content=b"ours")
        self.net.advance(200)
        self.assertEqual((early.neighbors(), late.neighbors(), found.found()), ((), (), ()))
        node.startService()
        self.assertIsNotNone(node.port)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.net.advance(200)
        self.assertEqual(late.neighbors(), (two.peer_id,))
        self.assertEqual(theirs.neighbors(), (one.peer_id,))

    def test_two_trackers(self) -> None:
        """Two trackers can share one node, and meet."""
        node = self.node(1)
        one, two = self.tracker(1, node=node), self.tracker(1, node=node)
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(5)
        self.assertEqual([topic.neighbors() for topic in topics], [(two.peer_id,), (one.peer_id,)])
        self.stop(one)
        third = self.tracker(1, node=node).join("x")
        self.net.advance(5)
        self.assertTrue(third.neighbors())

    def test_one_quic(self) -> None:
        """
        Only one of them can use QUIC on its socket: the second one is refused when it is
        made, until the first one has stopped.
        """
        node = self.node(1)
        one = self.tracker(1, node=node, transport="streams,quic")
        self.assertIn("quic", one.ports)
        error = self.assertRaises(UsageError, self.tracker, 1, node=node, transport="quic")
        self.assertIn("already carry the QUIC of another tracker", str(error))
        self.tracker(1, node=node)
        self.stop(one)
        again, other = self.tracker(1, node=node, transport="quic"), self.tracker(2, transport="quic")
        topics = [tracker.join("x") for tracker in (again, other)]
        self.net.advance(5)
        self.assertEqual(topics[1].neighbors(), (again.peer_id,))
        self.assertEqual(again.ports, {"dht": node.port, "quic": node.port})

    def test_started_later(self) -> None:
        """The node is bound with the tracker, which waits until the application starts it."""
        node = self.node(1, start=False)
        topics = [
            self.tracker(1, node=node, transport="quic").join("x"),
            self.tracker(2, transport="quic").join("x"),
        ]
        self.assertNotEqual(node.port, 0)
        self.net.advance(20)
        self.assertEqual(topics[0].neighbors(), ())
        node.startService()
        self.addCleanup(node.stopService)
        self.net.advance(10)
        self.assertEqual(len(topics[0].neighbors()), 1)

    def test_external_host(self) -> None:
        """What the node knows of our address, and learns later, is used."""
        node = self.node(1, external_host="203.0.113.9")
        tracker = self.tracker(1, node=node, listen=("0.0.0.0", 0))
        listed = [address.host for address in tracker._listeners.transport.addresses()]  # type: ignore[union-attr]
        self.assertIn("203.0.113.9", listed)

    def test_wrong(self) -> None:
        """A wrong part is refused by name."""
        make: Any = Tracker
        for arguments, message in (
            ({"dht": "node"}, "dht must be a DHTNode, not str of length 4"),
            (
                {"key": b"k" * 32},
                "key must be a PeerKey, such as PeerKey.from_seed(seed), not bytes of length 32",
            ),
            ({"config": {"state_dir": None}}, "config must be a Config, not dict"),
            ({"on_event": 5}, "on_event must be a function, not int"),
            ({"rng": 5}, "rng must be a random.Random, not int"),
        ):
            error = self.assertRaises(WrongType, make, self.net.reactor("10.0.0.1"), **arguments)
            self.assertEqual(str(error), message)
        error = self.assertRaises(WrongType, make, Config())
        self.assertIn("reactor", str(error))


class SpeakingTests(TrackerTestCase):
    """
    What a tracker says of itself, and what is sent to one neighbour.
    """

    def test_ports(self) -> None:
        """The ports are known while they are bound."""
        tracker = self.tracker(1, start=False, transport="streams,quic")
        self.assertEqual(tracker.ports, {})
        tracker.startService()
        ports = self.ports(1)
        self.assertEqual(tracker.ports, {"dht": ports["udp"], "quic": ports["udp"], "streams": ports["tcp"]})
        self.stop(tracker)
        self.assertEqual(tracker.ports, {})

    def test_counters(self) -> None:
        """Everything is counted under one name."""
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x") for tracker in (one, two)]
        topics[0].broadcast(b"nobody hears it")
        self.net.advance(20)
        counters = one.counters()
        for name in (
            "dht_ipv4_responses",
            "records_opened",
            "topics_broadcast_unheard",
            "dht_ipv4_nodes_alive",
        ):
            self.assertGreater(counters[name], 0, name)
        accepted = [each.counters().get("streams_accepted", 0) for each in (one, two)]
        self.assertGreater(sum(accepted), 0)
        for name in counters:
            self.assertRegex(name, r"\A[a-z0-9_]+\Z")

    def test_repr(self) -> None:
        """The parts have useful reprs, without secrets."""
        tracker = self.tracker(1, key=KEY)
        topic = tracker.join("party", secret=b"between us")
        self.assertIn(KEY.peer_id.hex()[:10], repr(tracker))
        self.assertEqual(repr(topic), "<TopicService 'party': 0 neighbours>")
        self.assertRegex(repr(tracker.dht), r"\A<DHTNode \w{10}: UDP port \d+, \d+ nodes known, running>\Z")
        for each in (tracker, topic, tracker.dht):
            self.assertNotIn("between us", repr(each))

    def test_send(self) -> None:
        """A content for one neighbour reaches that one only, with the scope "neighbors"."""
        trackers = [self.tracker(number) for number in (1, 2, 3)]
        topics = [tracker.join("x") for tracker in trackers]
        self.net.advance(60)
        self.assertEqual({len(topic.neighbors()) for topic in topics}, {2})
        for number in range(3):
            self.successResultOf(topics[0].send(trackers[1].peer_id, b"%d" % number))
        self.successResultOf(topics[0].send(trackers[1].peer_id, b"0"))
        self.net.advance(1)
        heard = [(each.content, each.scope, each.delivered_from) for each in self.of(trackers[1], Message)]
        sender = trackers[0].peer_id
        self.assertEqual(heard, [(content, "neighbors", sender) for content in (b"0", b"1", b"2", b"0")])
        self.assertEqual(self.of(trackers[2], Message), [])

    def test_broadcast_neighbors(self) -> None:
        """In a triangle, what is for neighbours reaches both of them, also when the tree has a lazy link."""
        trackers = [self.tracker(number) for number in (1, 2, 3)]
        topics = [tracker.join("x") for tracker in trackers]
        self.net.advance(60)
        for round_ in range(3):  # makes one of the links lazy
            for number, topic in enumerate(topics):
                self.assertEqual(self.successResultOf(topic.broadcast(b"all %d %d" % (round_, number))), 2)
                self.net.advance(1)
        self.assertLess(sum(len(topic._gossip._swarm.eager_peers()) for topic in topics), 6)
        for number, topic in enumerate(topics):
            self.assertEqual(self.successResultOf(topic.broadcast_neighbors(b"near %d" % number)), 2)
        self.net.advance(1)
        for number, tracker in enumerate(trackers):
            near = {each.content for each in self.of(tracker, Message) if each.scope == "neighbors"}
            self.assertEqual(near, {b"near 0", b"near 1", b"near 2"} - {b"near %d" % number})

    def test_alone(self) -> None:
        """
        A broadcast without neighbours says 0, and the same content may be broadcast again
        once there is one.
        """
        one, two = self.tracker(1), self.tracker(2)
        topic = one.join("x")
        self.net.advance(1)
        for _ in range(2):
            self.assertEqual(self.successResultOf(topic.broadcast(b"hello")), 0)
        two.join("x")
        self.net.advance(10)
        self.assertEqual(self.successResultOf(topic.broadcast(b"hello")), 1)
        self.net.advance(1)
        self.assertEqual([each.content for each in self.of(two, Message)], [b"hello"])
        self.assertRaises(UsageError, topic.broadcast, b"hello")

    def test_accept(self) -> None:
        """A member that is refused does not become a neighbour; others do."""
        trackers = [self.tracker(number) for number in (1, 2, 3)]
        asked: set[bytes] = set()

        def accept(peer_id: bytes) -> bool:
            asked.add(peer_id)
            return peer_id != trackers[1].peer_id

        topics = [trackers[0].join("x", accept=accept), *(tracker.join("x") for tracker in trackers[1:])]
        self.net.advance(120)
        self.assertEqual(asked, {trackers[1].peer_id, trackers[2].peer_id})
        self.assertEqual([len(topic.neighbors()) for topic in topics], [1, 1, 2])
        self.assertGreater(topics[0].counters()["peers_refused"], 0)
        topics[1].broadcast(b"hello")
        self.net.advance(1)
        self.assertEqual(
            [each.delivered_from for each in self.of(trackers[0], Message)], [trackers[2].peer_id]
        )

    def test_messages(self) -> None:
        """The messages of a topic are an asynchronous iterator, which ends when the topic is left."""
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x") for tracker in (one, two)]
        feed = topics[1].messages()
        self.net.advance(5)
        topics[0].broadcast(b"hello")
        self.net.advance(1)
        self.assertEqual(self.successResultOf(feed.next()).content, b"hello")
        last = feed.next()
        topics[1].leave()
        self.failureResultOf(last, StopAsyncIteration)
        self.assertRaises(TopicLeft, topics[1].messages)

    def test_wrong_arguments(self) -> None:
        """Wrong arguments raise at the call: of a wrong type WrongType, else UsageError."""
        wrong: Any
        tracker: Any = self.tracker(1)
        for wrong in (5, None, bytearray(b"x")):
            self.assertRaises(WrongType, tracker.join, wrong)
        for wrong in ("text", None, 5):
            self.assertRaises(WrongType, tracker.join, "x", secret=wrong)
        self.assertRaises(WrongType, tracker.join, "x", rotation=None)
        self.assertRaises(WrongType, tracker.join, "x", accept="all")
        self.assertEqual(tracker.topics(), ())
        topic: Any = tracker.join("x")
        for wrong in (None, "text", 5):
            self.assertRaises(WrongType, topic.broadcast, wrong)
            self.assertRaises(WrongType, topic.broadcast_neighbors, wrong)
            self.assertRaises(WrongType, topic.send, b"p" * 32, wrong)
            self.assertRaises(WrongType, topic.send, wrong, b"content")
            self.assertRaises(WrongType, topic.join_peers, wrong)
            self.assertRaises(WrongType, topic.join_peers, [wrong])
        self.assertRaises(WrongType, topic.join_peers, b"p" * 32)
        self.assertRaises(UsageError, topic.join_peers, [b"short"])
        self.assertRaises(UsageError, topic.send, b"short", b"content")
        self.assertRaises(UsageError, topic.send, b"p" * 32, b"content")
        for wrong in (lambda: 0, None, "text", object()):
            self.assertRaises(WrongType, topic.subscribe, wrong)
        self.assertEqual(self.flushLoggedErrors(), [])
