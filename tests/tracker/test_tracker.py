"""
Tests for L{dtt.tracker.tracker}: whole trackers on in-memory machines, with the real DHT
node and the real transport.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import AddressesConfig, BootstrapConfig, Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.dht.saved import FILE as DHT_FILE
from dtt.errors import AlreadyJoined, ListenError, LocalError, StateError, TopicLeft, UsageError
from dtt.events import (
    AddressesMissing,
    AddressesPublished,
    BroadcastUnheard,
    DHTNodes,
    DHTReady,
    Event,
    LimitReached,
    LinkBroken,
    Message,
    NodeStarted,
    RecordFound,
    RecordPublished,
    TopicAlone,
    TopicJoined,
)
from dtt.krpc.items import mutable_target
from dtt.records import record
from dtt.records.topic import TopicId
from dtt.state import StateDirectory
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker import transports
from dtt.tracker.kept import KEY_FILE, PORTS_FILE
from dtt.tracker.tracker import Tracker, log_event
from dtt.wire.addresses import decode_peer_data
from tests.sweeps import sized
from tests.tracker.common import collect_warnings, fixed_chance, start_clock


class TrackerTestCase(SynchronousTestCase):
    """
    A network with a closed DHT, and trackers on separate machines.
    """

    dht_nodes = 5

    def setUp(self) -> None:
        """Start the DHT."""
        fixed_chance(self)
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
        transport = kw.pop("transport", "streams")
        parts = {name: kw.pop(name) for name in ("key", "node") if name in kw}
        events: list[Event] = []
        tracker = Tracker(
            self.net.reactor(host),
            Config(
                state_dir=state_dir,
                transport=transport,
                listen=listen,
                dht=DHTConfig(bind=host, **{"bootstrap": (("10.1.0.1", 6881),), **dht}),
                **kw,
            ),
            events.append,
            Random(len(self.events) + 1000),  # differs from the seeds of DHT nodes, which determine their ids
            key=parts.get("key"),
            dht=parts.get("node"),
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
            [node.responder.items.get(target, self.clock.seconds()) for node in self.nodes],
            [None] * len(self.nodes),
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
        self.net.advance(sized(40, 150))
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

    def test_refused_peers_and_lost_messages(self) -> None:
        """
        The limit of connections is a setting; who is refused, a broken connection and
        what is broadcast to nobody are events, and are counted.
        """
        tracker = self.tracker(max_connections=8)
        topics = [tracker.join(str(number)) for number in range(9)]
        self.successResultOf(topics[0].broadcast(b"nobody is there"))
        others = [self.tracker(2 + number) for number in range(9)]
        for number, other in enumerate(others):
            other.join(str(number))
        self.net.advance(10)
        self.assertEqual(sum(bool(topic.neighbors()) for topic in topics), 8)
        self.assertEqual(self.of(tracker, LimitReached), [LimitReached("connections", 8)])
        (unheard,) = self.of(tracker, BroadcastUnheard)
        self.assertEqual(unheard, BroadcastUnheard(topics[0].topic_id))
        met = next(number for number, topic in enumerate(topics) if topic.neighbors())
        topics[met].broadcast(b"lost")
        transport: Any = others[met]._listeners.transport
        for connection in tuple(transport.connections):
            connection.abort("test")
        self.net.advance(1)
        (broken,) = self.of(tracker, LinkBroken)
        self.assertEqual((broken.topic, broken.peer), (topics[met].topic_id, others[met].peer_id))
        self.assertEqual(broken.unconfirmed, 1)
        self.assertEqual(topics[met].counters()["unconfirmed"], 1)
        self.assertEqual(topics[0].counters()["broadcast_unheard"], 1)
        self.stop(tracker, *others)
        self.flushWarnings()

    def test_log_event(self) -> None:
        """By default an event is a line in the log, with the event object attached."""
        seen: list[Any] = []
        observe: Any = seen.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        log_event(DHTReady(5))
        self.assertEqual((seen[0]["dtt_event"], seen[0]["dtt_event_text"]), (DHTReady(5), DHTReady(5).text()))
        for topic, label in (
            (TopicId.from_name("garden party"), "garden party"),
            (b"t" * 32, "hex:7474747474..."),
        ):
            log_event(TopicJoined(topic))
            self.assertEqual(formatEvent(seen[-1]), f"[{label}] Joined the swarm.")
            self.assertIs(seen[-1]["log_level"], LogLevel.info)
        log_event(TopicAlone(b"t" * 32, 60, "why"))
        self.assertIs(seen[-1]["log_level"], LogLevel.warn)

    def test_known_nodes(self) -> None:
        """The number of known nodes is reported again when it has changed much."""
        tracker = self.tracker()
        self.net.advance(0.2)
        self.assertEqual(self.of(tracker, DHTNodes), [])
        known = 100

        class Node:
            """A node that knows as many others as the test says."""

            on_loopback = False

            def bound_addresses(self) -> list[Any]:
                return []

            mapping_votes = bound_addresses

            def statistics(self) -> dict[str, float]:
                return {}

            @property
            def known(self) -> int:
                return known

        dht = tracker.dht
        tracker.dht = Node()  # type: ignore[assignment]
        for known in (100, 150, 199, 250, 126, 124, 60, 30, 0, 0, 1):  # noqa: B007
            self.net.advance(15)
        tracker.dht = dht
        self.assertEqual([event.nodes for event in self.of(tracker, DHTNodes)], [100, 250, 124, 60, 0, 1])
        self.stop(tracker)
        self.assert_nothing_left()

    def test_repr(self) -> None:
        """A tracker is shown with its id, its number of topics and its state, and without secrets."""
        tracker = self.tracker(start=False)
        prefix = f"<Tracker {tracker.peer_id.hex()[:10]}: "
        self.assertEqual(repr(tracker), f"{prefix}0 topics, not running>")
        tracker.join("x", secret=b"hidden")
        tracker.privilegedStartService()
        tracker.startService()
        self.assertEqual(repr(tracker), f"{prefix}1 topic, running>")
        self.stop(tracker)
        self.assertEqual(repr(tracker), f"{prefix}0 topics, stopped>")

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
        """Many cycles of start, join, leave and stop leave nothing behind."""
        for number in range(sized(10, 30)):
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
        with patch("dtt.tracker.own_dht.DHTNode", side_effect=DHTNode) as made:
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


class ReachableTests(TrackerTestCase):
    """
    Members that nobody can reach.
    """

    def on_machine_with(self, *interfaces: str) -> Tracker:
        """Start a tracker that listens on all IPv4 addresses of a machine with these addresses."""
        # A simulated machine knows only its own.
        self.patch(transports, "interfaces_of", lambda reactor: lambda: interfaces)
        tracker = self.tracker(1, start=False, listen=("10.0.0.1", 0))
        for listener in tracker._listeners._hosts:
            tracker._listeners._hosts[listener] = ("0.0.0.0", 0)
            listener._interface_addresses = lambda: interfaces  # type: ignore[attr-defined]
        tracker.privilegedStartService()
        tracker.startService()
        return tracker

    def test_unreachable(self) -> None:
        """
        A member of a network elsewhere publishes neither loopback addresses nor those of
        a family on which it does not listen, and says once why.
        """
        for interfaces, reason in (
            ((), "this machine has no default route"),
            (("2a00::1",), "it listens on IPv4 only, and this machine has only IPv6"),
        ):
            tracker = self.on_machine_with(*interfaces)
            topic = tracker.join("x")
            self.net.advance(sized(130, 300))
            self.assertEqual(self.of(tracker, AddressesPublished), [])
            self.assertEqual(decode_peer_data(topic._gossip._data or b""), ())
            self.assertEqual([event.reason for event in self.of(tracker, AddressesMissing)], [reason])
            self.stop(tracker)

    def test_reachable(self) -> None:
        """
        A member with an address says nothing; one whose network is on this machine lists
        loopback.
        """
        tracker = self.on_machine_with("80.0.0.1")
        self.net.advance(100)
        self.assertEqual(self.of(tracker, AddressesMissing), [])
        self.stop(tracker)
        local = self.on_machine_with()
        local.dht._reach.include("127.0.0.1")
        self.net.advance(100)
        self.assertEqual(
            [str(address).partition(":")[0] for address in local._listeners.transport.addresses()],
            ["127.0.0.1"],
        )

    def test_only_ipv6(self) -> None:
        """
        On a machine that has only IPv6, the DHT and the transports listen on IPv6 unless
        another address is configured.
        """
        config = Config(transport="streams")
        for interfaces, interface6, host in (
            (("2a00::1",), "::", "::"),
            (("80.0.0.1",), None, "0.0.0.0"),
            (("80.0.0.1", "2a00::1"), "::", "0.0.0.0"),
            (("80.0.0.1", "fd00::1"), None, "0.0.0.0"),
            ((), None, "0.0.0.0"),
        ):
            with (
                patch("dtt.tracker.tracker.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.own_dht.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.transports.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.own_dht.DHTNode", side_effect=DHTNode) as made,
            ):
                tracker = Tracker(self.net.reactor("10.0.0.9"), config, rng=Random(1))
                self.assertEqual(made.call_args.kwargs["interface6"], interface6)
                self.assertEqual([host for host, _ in tracker._listeners._hosts.values()], [host])
                tracker = Tracker(
                    self.net.reactor("10.0.0.9"),
                    Config(
                        transport="streams",
                        listen=("10.0.0.9", 0),
                        dht=DHTConfig(bind="10.0.0.9"),
                    ),
                    rng=Random(1),
                )
                self.assertIsNone(made.call_args.kwargs["interface6"])
                self.assertEqual([host for host, _ in tracker._listeners._hosts.values()], ["10.0.0.9"])


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
        ports, node_id = self.ports(), first.dht.node_id
        self.stop(first)
        saved = json.loads((path / PORTS_FILE).read_text())
        self.assertEqual((saved["dht"], saved["streams"]), (ports["udp"], ports["tcp"]))
        self.assertEqual(len(json.loads((path / DHT_FILE).read_text())["nodes"]), 3)
        self.assertEqual(stat.S_IMODE((path / KEY_FILE).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
        second = self.tracker(state_dir=path, dht={"bootstrap": ()})
        self.assertEqual((second.peer_id, second.dht.node_id), (first.peer_id, node_id))
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
        """
        A saved port that is in use is replaced for one run, with a warning that gives one
        piece of information; the next run uses the saved one again.
        """
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
        self.assertNotIn(second.dht.port, (0, ports["udp"]))
        place = second._listeners.listen_addresses()[0]
        self.assertNotIn(int(place.rpartition(":")[2]), (0, ports["tcp"]))
        self.assertEqual(len(self.warnings), 2)
        for warning, kept, used in (
            (self.warnings[0], ports["udp"], second.dht.port),
            (self.warnings[1], ports["tcp"], int(place.rpartition(":")[2])),
        ):
            self.assertRegex(
                warning,
                rf"\ACan't listen on \S+ \S+ port {kept}: Address already in use\. Using port {used} in this "
                rf"run; the next run will use {kept} if it is free\.\Z",
            )
        self.net.advance(301)
        for port in taken:
            port.stopListening()
        self.stop(second)
        saved = json.loads((path / PORTS_FILE).read_text())
        self.assertEqual((saved["dht"], saved["streams"]), (ports["udp"], ports["tcp"]))
        third = self.tracker(state_dir=path)
        self.assertEqual(self.ports(), ports)
        self.assertEqual(len(self.warnings), 2)
        self.stop(third)
        self.assert_nothing_left()

    def test_setting_replaces_kept_port(self) -> None:
        """A port in the configuration is kept for later runs without one."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        self.stop(self.tracker(state_dir=path, dht={"port": 7001}, listen=("10.0.0.1", 7002)))
        last = self.tracker(state_dir=path)
        self.assertEqual(self.ports(), {"udp": 7001, "tcp": 7002})
        self.stop(last)

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
        """
        A second tracker on a state directory is refused until the first has stopped, before it
        reads anything: it neither moves a file of the first aside nor makes a key.
        """
        path = self.state_dir()
        first = self.tracker(1, state_dir=path)
        (path / KEY_FILE).unlink()
        for name in (PORTS_FILE, DHT_FILE):
            (path / name).write_text("{")
        files = sorted(path.iterdir())
        with self.assertRaises(StateError) as raised:
            self.tracker(2, state_dir=path)
        self.assertIn("in use", str(raised.exception))
        self.assertEqual((sorted(path.iterdir()), self.ports(2), self.warnings), (files, {}, []))
        self.stop(first)
        second = self.tracker(2, state_dir=path)
        self.stop(second)
        self.assert_nothing_left()

    def test_not_started(self) -> None:
        """A tracker that could not be made leaves no lock, nor does one that was only stopped."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path, start=False))
        (path / DHT_FILE).mkdir()
        self.assertRaises(StateError, self.tracker, state_dir=path)
        (path / DHT_FILE).rmdir()
        self.stop(self.tracker(state_dir=path))

    def test_working_directory_changes(self) -> None:
        """A relative path keeps its meaning when the working directory changes."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        tracker = self.tracker(state_dir=Path("state"))
        os.chdir("/")
        (folder / "state" / DHT_FILE).unlink()
        self.net.advance(1)
        self.stop(tracker)
        self.assertEqual(os.listdir(folder), ["state"])
        self.assertIn(DHT_FILE, os.listdir(folder / "state"))

    def test_no_working_directory(self) -> None:
        """A relative path in a directory that has been removed is a StateError."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        folder.rmdir()
        self.assertRaises(StateError, self.tracker, state_dir=Path("state"))

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

    def test_refused_files(self) -> None:
        """A FIFO in place of any file is refused at once, when the tracker is created."""
        for name in (KEY_FILE, PORTS_FILE, DHT_FILE, "addresses.json", "pkarr.json", "lock"):
            path = self.state_dir()
            path.mkdir(parents=True, mode=0o700)
            os.mkfifo(path / name, 0o600)
            with self.assertRaises(StateError) as raised:
                self.tracker(state_dir=path, start=False)
            self.assertIn(f"{name} is a FIFO", str(raised.exception))

    def test_any_content(self) -> None:
        """
        Whatever the files contain, the tracker starts, with at most a warning for each; only
        a key that is unusable is an error.
        """
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        names = (PORTS_FILE, DHT_FILE, "addresses.json", "pkarr.json")
        good = {name: json.loads((path / name).read_text()) for name in names if (path / name).exists()}
        good[DHT_FILE]["nodes"] = [["61" * 20, "10.0.9.9", 1]]
        good["pkarr.json"] = {"version": 1, "seq": 5}
        peer = {"id": "61" * 32, "reached_at": 1, "addresses": [["streams", "10.0.9.9", 1]]}
        good["addresses.json"] = {"version": 1, "peers": [peer]}
        odd: list[Any] = [
            None,
            True,
            -1,
            1.5,
            10**400,
            1e308,
            "",
            "x",
            "\ud800",
            [],
            [[]],
            {},
            {"a": 1},
            "fe80::1%x",
            "1" * 5000,
        ]
        seed = 5
        rng = Random(seed)

        def mutated(value: Any) -> Any:
            if isinstance(value, list | dict) and value and rng.random() < 0.8:
                copy: Any = value.copy()
                at = rng.randrange(len(copy)) if isinstance(copy, list) else rng.choice(list(copy))
                copy[at] = mutated(copy[at])
                return copy
            return rng.choice(odd)

        for number in range(60):
            for name in names:
                (path / name).write_text(json.dumps(mutated(good[name])))
            try:
                tracker = self.tracker(state_dir=path, start=number % 10 == 0)
                self.net.advance(0.1)
                self.stop(tracker)
            except Exception as error:
                contents = {name: (path / name).read_text()[:300] for name in names if (path / name).exists()}
                raise AssertionError(f"seed {seed}, number {number}: {contents}") from error
        self.assert_nothing_left()

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
