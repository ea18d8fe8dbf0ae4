"""
Tests for L{dtt.tracker.port_mapping} and L{dtt.tracker.nat}, most with whole trackers
behind NATs.
"""

from __future__ import annotations

from random import Random
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt import Config, Tracker
from dtt.config import DHTConfig
from dtt.dht.mapped_address import MappingVotes
from dtt.dht.node import DHTNode
from dtt.events import Event, NatDetected, NodeStarted, PeerFailed, PeerPunched, PortMapped, TopicAlone
from dtt.net.host_port import HostPort
from dtt.portmap.wire import SERVER_PORT
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.nat import NAT, Behaviour
from dtt.tracker import port_mapping
from dtt.tracker.nat import REPORT_INTERVAL, NATReporter, describe_nat
from dtt.tracker.port_mapping import find_router, is_local
from dtt.wire.addresses import QUIC, STREAMS, PeerAddress
from tests.portmap.router import OUTSIDE, OWN, ROUTER, TCP, UDP, Router
from tests.sweeps import thorough
from tests.tracker.common import fixed_chance

OTHER, OTHER_OUTSIDE = "192.168.2.2", "203.0.113.8"
BOOTSTRAP = (("45.1.0.1", 6881), ("45.2.0.1", 6881))
SYMMETRIC = {"mapping": Behaviour.ADDRESS_AND_PORT_DEPENDENT}


class FindRouterTests(SynchronousTestCase):
    """
    When there is something to map.
    """

    def find(self, own: tuple[str, ...], bound: str = "0.0.0.0") -> tuple[str, str] | None:
        """
        Call L{find_router} on a machine with these addresses.
        """
        self.patch(port_mapping, "local_addresses", lambda: own)
        self.patch(port_mapping, "find_gateway", lambda local: ROUTER)
        return find_router(bound)

    def test_private(self) -> None:
        """
        A private address, also that of a provider's NAT, is behind a router.
        """
        for own in (OWN, "10.1.2.3", "172.16.0.9", "100.64.3.4"):
            self.assertEqual(self.find((own, "2001:db8::1")), (ROUTER, own))
            self.assertEqual(self.find((own,), own), (ROUTER, own))

    def test_nothing_to_map(self) -> None:
        """
        Without IPv4, with a global address, and for a socket on another address there is
        nothing to map.
        """
        self.assertIsNone(self.find(()))
        self.assertIsNone(self.find(("2a01::1",)))
        self.assertIsNone(self.find(("80.1.2.3",)))
        for bound in ("127.0.0.1", "10.0.0.1", "80.1.2.3"):
            self.assertIsNone(self.find((OWN,), bound))

    def test_no_router(self) -> None:
        """
        Without a router there is nothing to ask.
        """
        self.patch(port_mapping, "local_addresses", lambda: (OWN,))
        self.patch(port_mapping, "find_gateway", lambda local: None)
        self.assertIsNone(find_router("0.0.0.0"))

    def test_local_networks(self) -> None:
        """
        A DHT is local if all its bootstrap hosts are on this machine or a private network.
        """
        local: tuple[tuple[HostPort, ...], ...] = (
            (),
            (("127.0.0.1", 1),),
            (("::1", 1), ("10.0.0.1", 2)),
            (("fd00::1", 1),),
        )
        for hosts in local:
            self.assertTrue(is_local(hosts), str(hosts))
        for hosts in ((("router.example", 1),), (("127.0.0.1", 1), ("80.1.2.3", 1)), (("2a01::1", 1),)):
            self.assertFalse(is_local(hosts), str(hosts))


class NATReporterTests(SynchronousTestCase):
    """
    Tests for L{NATReporter}.
    """

    def votes(self, *seen: tuple[str, int]) -> MappingVotes:
        """
        Return the votes of as many networks.
        """
        votes = MappingVotes()
        for number, (host, port) in enumerate(seen):
            votes.vote(bytes((80, number, 0, 1)), bytes(map(int, host.split("."))), port)
        return votes

    def test_kinds(self) -> None:
        """
        No NAT, one with a single mapping, one with many, and too few votes to say.
        """
        one = self.votes(*[(OUTSIDE, 4433)] * 3)
        many = self.votes(*[(OUTSIDE, 4433 + number) for number in range(4)])
        self.assertEqual(describe_nat(one, (OUTSIDE,)), NatDetected("none", f"{OUTSIDE}:4433", 3))
        self.assertEqual(describe_nat(one, (OWN,)), NatDetected("endpoint-independent", f"{OUTSIDE}:4433", 3))
        self.assertEqual(describe_nat(many, (OWN,)), NatDetected("symmetric", None, 4))
        self.assertIsNone(describe_nat(self.votes((OUTSIDE, 4433)), (OWN,)))

    def test_reports(self) -> None:
        """
        Each family is reported when it changes, but not more often than every ten seconds.
        """
        clock = HeapClock()
        found: list[Any] = []
        reporter = NATReporter(clock, found.append)
        one = self.votes(*[(OUTSIDE, 4433)] * 3)
        other = self.votes(*[(OUTSIDE, 4434)] * 3)
        for votes in ([one, MappingVotes()], [one, other], [one, other], [other, one]):
            reporter.report(votes, ())
        self.assertEqual([event.mapped for event in found], [f"{OUTSIDE}:4433", f"{OUTSIDE}:4434"])
        clock.advance(REPORT_INTERVAL)
        reporter.report([one, one], ())
        self.assertEqual([event.mapped for event in found[2:]], [f"{OUTSIDE}:4433"])


class TrackersTests(SynchronousTestCase):
    """
    Trackers behind NATs, whose routers map ports.
    """

    def setUp(self) -> None:
        """
        Start a DHT of 8 nodes.
        """
        fixed_chance(self)
        self.net = MachineNetwork(HeapClock(), latency=0.02, rng=Random(1))
        self.nodes: list[DHTNode] = []
        self.trackers: list[Tracker] = []
        self.events: list[list[Event]] = []
        self.routers = {OWN: (ROUTER, OWN)}
        self.patch(port_mapping, "find_router", self.routers.get)
        for number in range(1, 9):
            node = DHTNode(
                self.net.reactor(f"45.{number}.0.1"),
                port=6881,
                bootstrap=BOOTSTRAP if number > 1 else (),
                rng=Random(number),
            )
            node.startService()
            self.nodes.append(node)
            self.net.advance(0.3)
        self.net.advance(5.0)
        self.addCleanup(self.end)

    def end(self) -> None:
        """
        Stop what still runs.
        """
        for tracker in self.trackers:
            if not tracker._stopped:
                tracker.stopService()
        for node in self.nodes:
            node.stopService()
        self.net.advance(3.0)

    def place(self, host: str, outside: str, **settings: Any) -> NAT:
        """
        Put a machine behind a separate NAT.
        """
        nat = NAT(self.net.clock, outside, rng=Random(outside), **settings)
        self.net.place(host, nat)
        return nat

    def router(self, nat: NAT, **settings: Any) -> Router:
        """
        Let the NAT of L{OWN} map ports.
        """
        self.net.place(ROUTER, nat)
        return Router(self.net.udp, nat=nat, **settings)

    def start(self, host: str, **settings: Any) -> Tracker:
        """
        Start a tracker.
        """
        events: list[Event] = []
        config = Config(
            **{"transport": "streams,quic", "dht": DHTConfig(port=7000, bootstrap=BOOTSTRAP), **settings}
        )
        tracker = Tracker(self.net.reactor(host), config, events.append, Random(f"tracker {host}"))
        assert tracker._listeners._streams is not None
        tracker._listeners._streams._interface_addresses = lambda: (host,)
        self.trackers.append(tracker)
        self.events.append(events)
        tracker.startService()
        return tracker

    def of(self, tracker: Tracker, kind: type[Event]) -> list[Any]:
        """
        The tracker's events of one kind.
        """
        return [event for event in self.events[self.trackers.index(tracker)] if isinstance(event, kind)]

    def addresses(self, tracker: Tracker) -> list[str]:
        """
        The addresses that it tells other members.
        """
        return [f"{each.transport}:{each}" for each in tracker._listeners.transport.addresses()]

    def requests(self) -> list[Any]:
        """
        The datagrams sent to routers.
        """
        return [each for each in self.net.udp.log if each.destination[1] == SERVER_PORT]

    @thorough
    def test_hints(self) -> None:
        """
        What is mapped is listed first, before DHT nodes have said anything, and reported
        once; it is removed at the end.
        """
        for settings, method in (({}, "PCP"), ({"pcp": False}, "NAT-PMP")):
            with self.subTest(method):
                self.setUp()
                router = self.router(self.place(OWN, OUTSIDE), **settings)
                tracker = self.start(OWN)
                self.net.advance(0.2)
                tcp = tracker._listeners.ports()[STREAMS][1]
                listed = self.addresses(tracker)
                self.assertEqual(listed[:2], [f"0:{OUTSIDE}:{tcp + 1000}", f"2:{OUTSIDE}:8000"])
                self.assertCountEqual(
                    self.of(tracker, PortMapped),
                    [
                        PortMapped("UDP", 7000, f"{OUTSIDE}:8000", method, True),
                        PortMapped("TCP", tcp, f"{OUTSIDE}:{tcp + 1000}", method, True),
                    ],
                )
                router.lifetime = 600
                self.net.advance(4000.0)  # the mappings are renewed, for another time
                self.assertGreater(len(router.asked), 4)
                self.assertEqual(len(self.of(tracker, PortMapped)), 2)
                self.assertEqual(self.addresses(tracker)[:2], listed[:2])
                stopping: Deferred[None] = tracker.stopService()
                self.net.advance(2.0)
                self.successResultOf(stopping)
                self.assertEqual(router.mapped, {})
                self.end()

    def test_listening(self) -> None:
        """
        The event of the start lists QUIC, with the DHT's port.
        """
        tracker = self.start(OWN, transport="quic")
        (started,) = self.of(tracker, NodeStarted)
        self.assertEqual(started.listen, (f"quic:{OWN}:7000",))
        both = self.start("192.168.2.3")
        (started,) = self.of(both, NodeStarted)
        self.assertEqual(
            started.listen,
            (f"streams:0.0.0.0:{both._listeners.ports()[STREAMS][1]}", "quic:192.168.2.3:7000"),
        )

    def test_off(self) -> None:
        """
        With the setting off, in a local DHT, and in a memory network nothing is asked.
        """
        self.router(self.place(OWN, OUTSIDE))
        self.start(OWN, port_mapping=False)
        self.net.advance(70.0)
        self.assertEqual(self.requests(), [])
        self.start(OWN, dht=DHTConfig(port=7001, bootstrap=(("192.168.1.9", 6881),)))
        self.net.advance(70.0)
        self.assertEqual(self.requests(), [])
        with mock.patch.object(port_mapping, "find_router", find_router):
            self.start(OTHER)
            self.net.advance(70.0)
        self.assertEqual(self.requests(), [])

    def test_transports(self) -> None:
        """
        Only the ports of transports that are used are mapped.
        """
        router = self.router(self.place(OWN, OUTSIDE))
        tracker = self.start(OWN, transport="quic")
        self.net.advance(1.0)
        self.assertEqual(router.mapped, {(UDP, 7000): 8000})
        tracker.stopService()
        self.net.advance(2.0)
        self.start(OWN, transport="streams", listen=("0.0.0.0", 7001))
        self.net.advance(1.0)
        self.assertEqual(router.mapped, {(TCP, 7001): 8001})

    def test_loopback(self) -> None:
        """
        A port that is bound to another address than the one in the router's network is
        not mapped.
        """
        router = self.router(self.place(OWN, OUTSIDE))
        ports = {STREAMS: ("127.0.0.1", 7001), QUIC: (OWN, 7000)}
        events: list[Event] = []
        service = port_mapping.PortMapping(
            self.net.reactor(OWN),
            Random(1),
            lambda: [("::", 7000), (OWN, 7000)],
            lambda: ports,
            lambda outside: None,
            events.append,
        )
        service.check()
        service.startService()
        service.check()
        self.net.advance(1.0)
        self.assertEqual(router.mapped, {(UDP, 7000): 8000})
        self.assertEqual(service.outside, {QUIC: (OUTSIDE, 8000)})
        service.stopService()

    def test_no_public_address(self) -> None:
        """
        A mapping of a router that is itself behind a NAT is reported, and not listed.
        """
        router = self.router(self.place(OWN, OUTSIDE))
        router.outside = "100.64.0.9"
        tracker = self.start(OWN, listen=("0.0.0.0", 7001))
        self.net.advance(2.0)
        self.assertEqual({event.listed for event in self.of(tracker, PortMapped)}, {False})
        self.assertNotIn("100.64.0.9", str(self.addresses(tracker)))

    def test_another_address(self) -> None:
        """
        If DHT nodes see us elsewhere, the router's address is listed last; the ports are mapped again, once.
        """
        router = self.router(self.place(OWN, OUTSIDE))
        router.outside = "80.9.9.9"
        tracker = self.start(OWN, listen=("0.0.0.0", 7001))
        self.net.advance(20.0)
        listed = self.addresses(tracker)
        self.assertEqual(listed[1], f"2:{OUTSIDE}:7000")
        self.assertEqual([each for each in listed if "80.9.9.9" in each], listed[-2:])
        self.assertEqual(len(router.asked), 4)
        for host in (OUTSIDE, "80.9.9.8", OUTSIDE):
            tracker._port_mapping.seen_at(host)
        self.net.advance(1.0)
        self.assertEqual(len(router.asked), 4)
        router.outside = OUTSIDE
        tracker._port_mapping._mapper.restart()
        self.net.advance(1.0)
        self.assertEqual(self.addresses(tracker)[:2], [f"0:{OUTSIDE}:8001", f"2:{OUTSIDE}:8000"])

    def test_new_network(self) -> None:
        """
        A network that is there later, or another router, is noticed within a minute.
        """
        router = self.router(self.place(OWN, OUTSIDE))
        found = self.routers.pop(OWN)
        tracker = self.start(OWN)
        self.net.advance(70.0)
        self.assertEqual(router.asked, [])
        self.routers[OWN] = found
        self.net.advance(60.0)
        self.assertEqual(len(router.mapped), 2)
        self.routers.clear()
        self.net.advance(60.0)
        self.assertEqual(tracker._port_mapping.outside, {})
        self.assertNotIn("8000", str(self.addresses(tracker)))
        router.mapped.clear()
        self.routers[OWN] = found
        self.net.advance(60.0)
        self.assertEqual(len(router.mapped), 2)

    def test_useless_routers(self) -> None:
        """
        A router that does not answer, and one that answers nonsense, delay nothing, and
        neither does stopping.
        """
        for settings in ({"pcp": False, "nat_pmp": False}, {}):
            self.setUp()
            router = self.router(self.place(OWN, OUTSIDE), **settings)
            router.change = lambda answer: answer[:3] + b"\xff" * 5000
            tracker = self.start(OWN)
            other = self.start("80.7.7.7")
            joined = [each.join("x", b"s").when_joined() for each in (tracker, other)]
            self.net.advance(5.0)
            for each in joined:
                self.successResultOf(each)
            stopping: Deferred[None] = tracker.stopService()
            self.net.advance(2.0)
            self.successResultOf(stopping)
            self.assertEqual(self.of(tracker, PortMapped), [])
            self.end()

    def test_two_symmetric(self) -> None:
        """
        Two members behind symmetric NATs meet if the router of one maps ports.
        """
        for mapped in (False, True):
            if mapped:
                self.setUp()
            nat = self.place(OWN, OUTSIDE, **SYMMETRIC)
            self.place(OTHER, OTHER_OUTSIDE, **SYMMETRIC)
            if mapped:
                self.router(nat)
            else:
                self.routers.clear()
            one, other = self.start(OWN, transport="quic"), self.start(OTHER, transport="quic")
            joined = [each.join("x", b"s").when_joined() for each in (one, other)]
            self.net.advance(12.0 if mapped else 65.0)
            self.assertEqual([each.called for each in joined], [mapped, mapped])
            for tracker in (one, other):
                self.assertEqual([event.kind for event in self.of(tracker, NatDetected)], ["symmetric"])
            self.assertEqual(one._is_symmetric(), not mapped)
            self.assertTrue(other._is_symmetric())
            if mapped:
                (punched,) = self.of(other, PeerPunched)
                self.assertEqual((punched.peer, punched.path), (one.peer_id, f"{OUTSIDE}:8000"))
                self.assertLess(punched.seconds, 10.0)
            else:
                (alone,) = self.of(one, TopicAlone)
                self.assertIn("both sides are behind symmetric NATs and no member is reachable", alone.reason)
                self.assertEqual({each.tried for each in self.of(one, PeerFailed)}, {("quic private",)})
                for each in joined:
                    each.cancel()
                    self.failureResultOf(each)
            self.end()

    def test_events_of_a_nat(self) -> None:
        """
        Without a NAT that is said, and behind one the address and port outside.
        """
        public = self.start("80.7.7.7")
        self.place(OWN, OUTSIDE, keeps_ports=False)
        self.routers.clear()
        behind = self.start(OWN)
        self.net.advance(10.0)
        (event,) = self.of(public, NatDetected)
        self.assertEqual((event.kind, event.mapped), ("none", "80.7.7.7:7000"))
        (event,) = self.of(behind, NatDetected)
        (mapped,) = behind.dht.mapped()
        self.assertEqual(
            (event.kind, event.mapped), ("endpoint-independent", str(PeerAddress(QUIC, *mapped)))
        )
        self.assertGreaterEqual(event.voters, 3)
