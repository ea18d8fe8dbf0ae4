"""
Tests for L{dtt.tracker.tracker}: whole trackers on in-memory machines, with the real DHT
node and the real transport.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import AddressesConfig, BootstrapConfig, Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.dht.saved import FILE as DHT_FILE
from dtt.errors import AlreadyJoined, ListenError, LocalError, StateError, TopicLeft, UsageError
from dtt.events import (
    AddressesPublished,
    DHTReady,
    Event,
    Message,
    NodeStarted,
    RecordFound,
    RecordPublished,
    TopicJoined,
)
from dtt.krpc.items import mutable_target
from dtt.records import record
from dtt.records.topic import TopicId
from dtt.state import StateDirectory
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import KEY_FILE, PORTS_FILE, Tracker, log_event
from tests.tracker.common import collect_warnings, start_clock


class TrackerTestCase(SynchronousTestCase):
    """
    A network with a closed DHT, and trackers on separate machines.
    """

    dht_nodes = 8

    def setUp(self) -> None:
        """Start the DHT."""
        self.clock = start_clock()
        self.net = MachineNetwork(self.clock)
        self.nodes: list[DHTNode] = []
        self.events: dict[Tracker, list[Event]] = {}
        self.warnings: list[str] = []
        for number in range(1, self.dht_nodes + 1):
            host = f"10.1.0.{number}"
            node = DHTNode(
                self.net.reactor(host),
                port=6881,
                interface=host,
                closed=True,
                bootstrap=[("10.1.0.1", 6881)],
                rng=Random(number),
            )
            node.privilegedStartService()
            node.startService()
            self.nodes.append(node)
        self.net.advance(1)
        self.addCleanup(self.end)
        collect_warnings(self, self.warnings)

    def tracker(
        self, number: int = 1, start: bool = True, state_dir: Path | None = None, **kw: Any
    ) -> Tracker:
        """Create a tracker on the machine with this number; there may be several."""
        host = f"10.0.0.{number}"
        dht: dict[str, Any] = kw.pop("dht", {})
        listen = kw.pop("listen", (host, 0))
        events: list[Event] = []
        tracker = Tracker(
            self.net.reactor(host),
            Config(
                state_dir=state_dir,
                transport="streams",
                listen=listen,
                dht=DHTConfig(bind=host, **{"bootstrap": (("10.1.0.1", 6881),), **dht}),
                **kw,
            ),
            events.append,
            Random(len(self.events) + 1000),  # differs from the seeds of DHT nodes, which determine their ids
        )
        self.events[tracker] = events
        if start:
            tracker.privilegedStartService()
            tracker.startService()
        return tracker

    def end(self) -> None:
        """Stop what still runs, so that nothing ends during another test."""
        for tracker in self.events:
            if not tracker._stopped:
                tracker.stopService()
        self.net.advance(2)

    def of(self, tracker: Tracker, kind: type[Event]) -> list[Any]:
        """The tracker's events of one kind."""
        return [event for event in self.events[tracker] if isinstance(event, kind)]

    def stop(self, *trackers: Tracker, within: float = 2.0) -> None:
        """Stop trackers, and check that they do."""
        stopping: list[Deferred[None]] = [tracker.stopService() for tracker in trackers]
        self.net.advance(within)
        for deferred in stopping:
            self.successResultOf(deferred)

    def assert_nothing_left(self) -> None:
        """Check, after stopping the DHT, that no port and no delayed call is left and nothing was logged."""
        for node in self.nodes:
            self.successResultOf(node.stopService())
        self.net.advance(1)
        self.assertEqual(self.net.listening(), set())
        self.assertEqual(self.net.tcp.transports(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def ports(self, number: int = 1) -> dict[str, int]:
        """The ports bound on a machine."""
        return {kind: port for kind, host, port in self.net.listening() if host == f"10.0.0.{number}"}

    def state_dir(self) -> Path:
        """The path of a state directory that does not exist."""
        return Path(self.mktemp()) / "state"


class MeetingTests(TrackerTestCase):
    """
    Members that do not know each other meet.
    """

    def test_two(self) -> None:
        """
        Two members with the same topic and secret, started together, are joined within a
        quarter of a second with latencies of 10 ms, and exchange messages.
        """
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x", secret=b"s") for tracker in (one, two)]
        joined = [topic.when_joined() for topic in topics]
        self.net.advance(0.25)
        for deferred in joined:
            self.successResultOf(deferred)
        self.assertEqual(topics[0].neighbors(), (two.peer_id,))
        topics[0].broadcast(b"hello")
        self.net.advance(0.1)
        self.assertEqual(self.of(two, Message), [Message(topics[0].topic_id, one.peer_id, "swarm", b"hello")])
        self.stop(one, two)
        self.assert_nothing_left()

    def test_by_id_alone(self) -> None:
        """
        If records contain no address, as those of Rust members, members find each other's
        addresses in the DHT.
        """
        self.patch(record, "encode_extension", lambda addresses: b"")
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(10)
        self.assertEqual([topic.neighbors() for topic in topics], [(two.peer_id,), (one.peer_id,)])
        self.assertEqual(self.of(one, AddressesPublished), [AddressesPublished("dht", 1)])
        self.stop(one, two)
        self.assert_nothing_left()

    def test_by_id_alone_without_pkarr(self) -> None:
        """
        This can be disabled: then no member is found by its id, and none publishes
        addresses in the DHT.
        """
        self.patch(record, "encode_extension", lambda addresses: b"")
        one, two = (self.tracker(number, addresses=AddressesConfig(pkarr=False)) for number in (1, 2))
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(10)
        self.assertEqual([topic.neighbors() for topic in topics], [(), ()])
        self.assertTrue(self.of(one, RecordFound))
        target = mutable_target(one.peer_id)
        self.assertEqual(
            [node.responder.items.get(target, self.clock.seconds()) for node in self.nodes], [None] * 8
        )
        self.stop(one, two)

    def test_newcomer(self) -> None:
        """A third member that starts later finds both by their records."""
        one, two = self.tracker(1), self.tracker(2)
        for tracker in (one, two):
            tracker.join("x", secret=b"s")
        self.net.advance(5)
        three = self.tracker(3)
        topic = three.join("x", secret=b"s")
        self.net.advance(0.25)
        self.assertTrue(topic.neighbors())
        self.net.advance(1)
        self.assertEqual(set(topic.neighbors()), {one.peer_id, two.peer_id})
        self.assertLessEqual(
            {event.publisher for event in self.of(three, RecordFound)}, {one.peer_id, two.peer_id}
        )
        self.stop(one, two, three)
        self.assert_nothing_left()

    def test_other_secret(self) -> None:
        """A member with another secret finds no peers in the same topic."""
        one, two = self.tracker(1), self.tracker(2)
        one.join("x", secret=b"s")
        other = two.join("x", secret=b"t")
        self.net.advance(20)
        self.assertEqual((other.neighbors(), self.of(two, RecordFound)), ((), []))
        self.stop(one, two)
        self.assert_nothing_left()

    def test_several_topics(self) -> None:
        """
        Topics share node and listener; each has its own members. In so small a DHT two
        topics exhaust the packet budgets, so that it takes longer.
        """
        one, two, three = (self.tracker(number) for number in (1, 2, 3))
        x1, y1 = one.join("x"), one.join("y")
        x2, y3 = two.join("x"), three.join("y")
        self.net.advance(15)
        self.assertEqual((x1.neighbors(), y1.neighbors()), ((two.peer_id,), (three.peer_id,)))
        self.assertEqual((x2.neighbors(), y3.neighbors()), ((one.peer_id,), (one.peer_id,)))
        self.assertEqual(len([1 for _, host, _ in self.net.listening() if host == "10.0.0.1"]), 2)
        self.assertEqual({event.topic for event in self.of(one, TopicJoined)}, {x1.topic_id, y1.topic_id})
        self.stop(one, two, three)
        self.assert_nothing_left()

    def test_swarm(self) -> None:
        """Six members that start together form one swarm: each gets the messages of all."""
        trackers = [self.tracker(number) for number in range(1, 7)]
        topics = [tracker.join("x", secret=b"s") for tracker in trackers]
        self.net.advance(150)
        for number, topic in enumerate(topics):
            topic.broadcast(b"from %d" % number)
        self.net.advance(5)
        for number, tracker in enumerate(trackers):
            heard = {event.content for event in self.of(tracker, Message)}
            self.assertEqual(heard, {b"from %d" % other for other in range(6) if other != number})
        self.stop(*trackers)
        self.assert_nothing_left()

    def test_partner_crashes(self) -> None:
        """A member whose only neighbour loses its network finds the next one."""
        one, two = self.tracker(1), self.tracker(2)
        topic = one.join("x")
        two.join("x")
        self.net.advance(1)
        self.net.tcp.silent.add("10.0.0.2")
        self.net.udp.dead.add("10.0.0.2")
        self.net.advance(120)
        self.assertEqual(topic.neighbors(), ())
        three = self.tracker(3)
        three.join("x")
        self.net.advance(20)
        self.assertEqual(topic.neighbors(), (three.peer_id,))
        self.stop(one, two, three)
        self.assert_nothing_left()


class LifeTests(TrackerTestCase):
    """
    Start and stop.
    """

    dht_nodes = 3

    def test_events(self) -> None:
        """Events report the member's id and addresses, and that the DHT has answered."""
        tracker = self.tracker()
        ports = self.ports()
        self.assertEqual(
            self.events[tracker],
            [NodeStarted(tracker.peer_id, ports["udp"], (f"streams:10.0.0.1:{ports['tcp']}",))],
        )
        self.net.advance(0.1)
        self.assertEqual(len(self.of(tracker, DHTReady)), 1)
        self.stop(tracker)

    def test_sink_that_raises(self) -> None:
        """An exception in an event callback is logged and has no other effect."""
        tracker, other = self.tracker(start=False), self.tracker(2)

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        tracker._on_event = fail
        topic = tracker.join("x")
        other.join("x")
        tracker.privilegedStartService()
        tracker.startService()
        self.net.advance(1)
        self.assertEqual(topic.neighbors(), (other.peer_id,))
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.stop(tracker, other)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assert_nothing_left()

    def test_log_event(self) -> None:
        """By default an event is a line in the log, with the event object attached."""
        seen: list[Any] = []
        observe: Any = seen.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        log_event(DHTReady(5))
        self.assertEqual((seen[0]["dtt_event"], seen[0]["dtt_event_text"]), (DHTReady(5), DHTReady(5).text()))

    def test_without_privileged_start(self) -> None:
        """startService also binds ports, if the parent is already running."""
        parent = MultiService()
        parent.startService()
        tracker = self.tracker(start=False)
        tracker.setServiceParent(parent)
        self.assertEqual(set(self.ports()), {"udp", "tcp"})
        tracker.disownServiceParent()
        self.net.advance(2)
        self.assert_nothing_left()

    def test_stop_without_start(self) -> None:
        """A tracker that never started can be stopped; its topics are left."""
        tracker = self.tracker(start=False)
        joined = tracker.join("x").when_joined()
        self.stop(tracker)
        self.failureResultOf(joined, TopicLeft)
        self.assert_nothing_left()

    def test_stop_after_bind(self) -> None:
        """A tracker that is bound but not started frees its ports."""
        tracker = self.tracker(start=False)
        tracker.privilegedStartService()
        self.assertEqual(len(self.ports()), 2)
        self.stop(tracker)
        self.assert_nothing_left()

    def test_stop_while_alone(self) -> None:
        """A tracker can be stopped during reads, puts and waits."""
        for seconds in (0.0, 0.005, 0.03, 0.08, 0.2, 3.0):
            tracker = self.tracker()
            joined = tracker.join("x").when_joined()
            self.net.advance(seconds)
            self.stop(tracker)
            self.failureResultOf(joined, TopicLeft)
        self.assert_nothing_left()

    def test_stop_within_two_seconds(self) -> None:
        """Stopping takes at most two seconds, even if a neighbour is silent and does not read."""
        one, two = self.tracker(1), self.tracker(2)
        topic = one.join("x")
        two.join("x")
        self.net.advance(1)
        self.assertEqual(len(topic.neighbors()), 1)
        self.net.tcp.silent.add("10.0.0.2")
        self.stop(one, within=2.0)
        self.assertEqual(self.ports(1), {})

    def test_no_start_after_stop(self) -> None:
        """A stopped tracker can neither start nor join a topic."""
        tracker = self.tracker()
        self.stop(tracker)
        with self.assertRaises(LocalError):
            tracker.startService()
        with self.assertRaises(TopicLeft):
            tracker.join("x")

    def test_cycles(self) -> None:
        """Thirty cycles of start, join, leave and stop leave nothing behind."""
        for number in range(30):
            tracker = self.tracker(1 + number % 2)
            topic = tracker.join("x")
            self.net.advance(0.1 * (number % 5))
            topic.leave()
            self.stop(tracker)
        self.assert_nothing_left()

    def test_no_publish(self) -> None:
        """With a cap of 0 it joins others, but publishes nothing."""
        shy = self.tracker(1, bootstrap=BootstrapConfig(max_bootstrap_records=0))
        other = self.tracker(2)
        topic = shy.join("x")
        other.join("x")
        self.net.advance(2)
        self.assertEqual(topic.neighbors(), (other.peer_id,))
        self.assertEqual((self.of(shy, RecordPublished), self.of(other, RecordFound)), ([], []))
        self.stop(shy, other)

    def test_upload_rate(self) -> None:
        """
        Its DHT node's replies respect the configured upload limit.
        """
        with patch("dtt.tracker.tracker.DHTNode", side_effect=DHTNode) as made:
            self.tracker(start=False, dht={"upload_rate": 50_000.0})
        self.assertEqual(made.call_args.kwargs["upload_rate"], 50_000.0)

    def test_external_host(self) -> None:
        """When other nodes report a new external address, neighbours and the DHT are informed."""
        one, two = self.tracker(1, listen=("0.0.0.0", 0)), self.tracker(2)
        one.join("x")
        two.join("x")
        self.net.advance(10)
        self.assertEqual(len(self.of(one, AddressesPublished)), 1)
        before = one._listeners.transport.addresses()
        one._listeners.set_external_host("198.18.7.7")
        self.assertEqual(str(one._listeners.transport.addresses()[0]).partition(":")[0], "198.18.7.7")
        self.assertNotEqual(one._listeners.transport.addresses(), before)
        topic = next(iter(one._topics.values()))
        self.assertIn(b"\xc6\x12\x07\x07", topic._gossip._data or b"")
        self.net.advance(5)
        self.assertEqual(len(self.of(one, AddressesPublished)), 2)
        self.stop(one, two)


class JoinTests(TrackerTestCase):
    """
    Tests for L{Tracker.join}.
    """

    dht_nodes = 1

    def test_names(self) -> None:
        """Text, its bytes and its hash mean the same topic; 32 bytes are a name."""
        tracker = self.tracker(start=False)
        topic = tracker.join("größe")
        for same in ("größe".encode(), TopicId.from_name("größe")):
            with self.assertRaises(AlreadyJoined):
                tracker.join(same)
        self.assertNotEqual(tracker.join(bytes(topic.topic_id)).topic_id, topic.topic_id)

    def test_join_again_after_leave(self) -> None:
        """A topic that was left can be joined again."""
        tracker = self.tracker(start=False)
        tracker.join("x").leave()
        again = tracker.join("x")
        with self.assertRaises(AlreadyJoined):
            tracker.join("x")
        self.assertIsNotNone(again.parent)

    def test_bad(self) -> None:
        """
        A name that is not text and a rotation that does not return 32 bytes are refused;
        nothing is joined.
        """
        tracker = self.tracker(start=False)
        with self.assertRaises(UsageError):
            tracker.join("\ud800")
        with self.assertRaises(UsageError):
            tracker.join("x", rotation=lambda *args: b"short")
        tracker.join("x")

    def test_rotation(self) -> None:
        """Members with different rotations do not find each other; with the same one they do."""

        def rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
            return bytes(a ^ b for a, b in zip(topic_id, secret_hash, strict=True))

        trackers = [self.tracker(number) for number in (1, 2, 3)]
        topics = [
            trackers[0].join("x", b"s", rotation),
            trackers[1].join("x", b"s"),
            trackers[2].join("x", b"s", rotation),
        ]
        self.net.advance(3)
        self.assertEqual(topics[1].neighbors(), ())
        self.assertEqual(topics[0].neighbors(), (trackers[2].peer_id,))
        self.stop(*trackers)


class StateTests(TrackerTestCase):
    """
    State that is kept across restarts.
    """

    dht_nodes = 3

    def test_kept(self) -> None:
        """Key, ports, node id and known nodes are kept; the second run needs no bootstrap host."""
        path = self.state_dir()
        reactor = self.net.reactor("10.0.0.1")
        elsewhere = [reactor.listenUDP(0, DatagramProtocol()), reactor.listenTCP(0, Factory())]
        first = self.tracker(state_dir=path)
        for port in elsewhere:  # the ports that 0 would select
            port.stopListening()
        self.net.advance(2)
        ports, node_id = self.ports(), first._dht.node_id
        self.stop(first)
        saved = json.loads((path / PORTS_FILE).read_text())
        self.assertEqual((saved["dht"], saved["streams"]), (ports["udp"], ports["tcp"]))
        self.assertEqual(len(json.loads((path / DHT_FILE).read_text())["nodes"]), 3)
        self.assertEqual(stat.S_IMODE((path / KEY_FILE).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
        second = self.tracker(state_dir=path, dht={"bootstrap": ()})
        self.assertEqual((second.peer_id, second._dht.node_id), (first.peer_id, node_id))
        self.assertEqual(self.ports(), ports)
        self.net.advance(1)
        self.assertEqual(len(self.of(second, DHTReady)), 1)
        self.stop(second)
        self.assertEqual(self.warnings, [])
        self.assert_nothing_left()

    def test_external_host(self) -> None:
        """The external address of the last run is listed until nodes report another."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        saved = json.loads((path / DHT_FILE).read_text())
        (path / DHT_FILE).write_text(json.dumps({**saved, "external_host": "198.18.7.7"}))
        tracker = self.tracker(state_dir=path, listen=("0.0.0.0", 0))
        self.assertEqual(str(tracker._listeners.transport.addresses()[0]).partition(":")[0], "198.18.7.7")
        self.stop(tracker)

    def test_saved_in_between(self) -> None:
        """The state is also written periodically, not only at the end."""
        path = self.state_dir()
        tracker = self.tracker(state_dir=path)
        self.net.advance(301)
        self.assertEqual(len(json.loads((path / DHT_FILE).read_text())["nodes"]), 3)
        self.stop(tracker)

    def test_nothing_on_disk(self) -> None:
        """Without a state directory each run has a new key."""
        first, second = self.tracker(1), self.tracker(2)
        self.assertNotEqual(first.peer_id, second.peer_id)
        self.stop(first, second)

    def test_kept_port_taken(self) -> None:
        """A saved port that is in use is replaced with a warning."""
        path = self.state_dir()
        first = self.tracker(state_dir=path)
        ports = self.ports()
        self.stop(first)
        reactor = self.net.reactor("10.0.0.1")
        taken = [
            reactor.listenUDP(ports["udp"], DatagramProtocol()),
            reactor.listenTCP(ports["tcp"], Factory()),
        ]
        second = self.tracker(state_dir=path)
        self.assertNotIn(second._dht.port, (0, ports["udp"]))
        place = second._listeners.listen_addresses()[0]
        self.assertNotIn(int(place.rpartition(":")[2]), (0, ports["tcp"]))
        self.assertEqual(len(self.warnings), 2)
        for port in taken:
            port.stopListening()
        self.stop(second)
        self.assert_nothing_left()

    def test_explicit_port_taken(self) -> None:
        """
        A port in the configuration is required: if it is in use, there is a ListenError,
        the lock and all bound ports are released, and a later attempt may succeed.
        """
        path = self.state_dir()
        reactor = self.net.reactor("10.0.0.1")
        for kind in ("udp", "tcp"):
            taken = (
                reactor.listenUDP(7000, DatagramProtocol())
                if kind == "udp"
                else reactor.listenTCP(7000, Factory())
            )
            tracker = self.tracker(
                start=False,
                state_dir=path,
                dht={"port": 7000} if kind == "udp" else {},
                listen=("10.0.0.1", 7000 if kind == "tcp" else 0),
            )
            with self.assertRaises(ListenError):
                tracker.privilegedStartService()
            self.assertEqual(self.ports(), {kind: 7000})
            other = StateDirectory(path)
            other.lock()
            other.unlock()
            taken.stopListening()
            tracker.privilegedStartService()
            tracker.startService()
            self.assertEqual(self.ports()[kind], 7000)
            self.net.advance(1)
            self.assertEqual(len(self.of(tracker, DHTReady)), 1)
            self.stop(tracker)
        self.assert_nothing_left()

    def test_second_on_one_directory(self) -> None:
        """A second tracker on a state directory is refused until the first has stopped."""
        path = self.state_dir()
        first = self.tracker(1, state_dir=path)
        second = self.tracker(2, start=False, state_dir=path)
        with self.assertRaises(StateError) as raised:
            second.privilegedStartService()
        self.assertIn("in use", str(raised.exception))
        self.assertEqual(self.ports(2), {})
        self.stop(first)
        second.privilegedStartService()
        self.stop(second)
        self.assert_nothing_left()

    def test_damaged(self) -> None:
        """A state file that is not JSON, or of another version, is moved aside with a warning."""
        path = self.state_dir()
        first = self.tracker(state_dir=path)
        self.stop(first)
        for damage in ("{", "[]", '{"version": 99}', '{"version": 1, "dht": "x"}'):
            for name in (PORTS_FILE, DHT_FILE):
                (path / name).write_text(damage)
                self.warnings.clear()
                tracker = self.tracker(state_dir=path)
                self.assertEqual((tracker.peer_id, len(self.warnings)), (first.peer_id, 1), damage)
                self.assertEqual((path / f"{name}.damaged").read_text(), damage)
                self.stop(tracker)

    def test_bad_key(self) -> None:
        """A key file that others can read, or that is invalid, is refused when the tracker is created."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        (path / KEY_FILE).chmod(0o644)
        with self.assertRaises(StateError) as raised:
            self.tracker(state_dir=path, start=False)
        self.assertIn("chmod 600", str(raised.exception))
        (path / KEY_FILE).chmod(0o600)
        (path / KEY_FILE).write_text("nonsense")
        with self.assertRaises(StateError):
            self.tracker(state_dir=path, start=False)

    def test_directory_vanishes(self) -> None:
        """A write error at the end is logged, and the tracker still stops."""
        path = self.state_dir()
        tracker = self.tracker(state_dir=path)
        self.net.advance(1)
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        self.stop(tracker)
        self.assert_nothing_left()
