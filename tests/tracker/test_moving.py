"""
Members whose network changes: another address, another NAT, a sleep.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.events import Event, LinkBroken, NetworkChanged
from dtt.interfaces import GossipMessage
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.nat import NAT, Behaviour
from dtt.testing.net.udp import Datagram
from dtt.tracker.network_watch import Change
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from tests.sweeps import sized, thorough
from tests.tracker.common import fixed_chance

#: The number of DHT nodes, each in a network of its own.
NODES = sized(8, 24)


class Heard:
    """
    Records the messages of a topic.

    @ivar contents: the contents.
    """

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """Do nothing."""

    def neighbor_down(self, peer_id: bytes) -> None:
        """Do nothing."""

    def message_received(self, message: GossipMessage) -> None:
        """Record a message."""
        self.contents.append(message.content)


class Member:
    """
    A member on a machine.

    @ivar events: its events.
    """

    def __init__(self, network: MachineNetwork, host: str, seed: str, transport: str) -> None:
        self.network = network
        self.events: list[Event] = []
        self.reactor: Any = network.reactor(host)
        bootstrap = (("45.1.0.1", 6881), ("45.2.0.1", 6881))
        self.tracker = Tracker(
            self.reactor,
            Config(transport=transport, dht=DHTConfig(bootstrap=bootstrap)),
            self.events.append,
            Random(seed),
        )
        self.heard = Heard()
        self.tracker.startService()
        self.topic: TopicService = self.tracker.join("x", b"s")
        self.topic.subscribe(self.heard)


class MovingTestCase(SynchronousTestCase):
    """
    Members of one topic, in virtual time.
    """

    transport = "streams,quic"
    seed = 0

    def setUp(self) -> None:
        """Start a DHT."""
        fixed_chance(self)
        self.build()
        self.addCleanup(self.end)

    def sweep(self, seeds: int) -> Iterator[int]:
        """Yield each seed, with a DHT and no members."""
        for seed in range(seeds):
            if seed:
                self.end()
                self.seed = seed
                self.build()
            yield seed

    def build(self) -> None:
        """Start a DHT with the current seed."""
        self.net = MachineNetwork(HeapClock(), latency=0.02, rng=Random(self.seed), log_limit=0)
        self.members: list[Member] = []
        self.nodes = []
        self.number = 0
        for number in range(1, NODES + 1):
            node = DHTNode(
                self.net.udp.reactor(f"45.{number}.0.1"),
                port=6881,
                bootstrap=[("45.1.0.1", 6881)] if number > 1 else [],
                rng=Random(f"node {self.seed} {number}"),
            )
            node.startService()
            self.nodes.append(node)
            self.net.advance(0.3)
        self.net.advance(5)

    def end(self) -> None:
        """Stop everything."""
        for member in self.members:
            member.tracker.stopService()
        for node in self.nodes:
            node.stopService()
        self.net.advance(3)

    def member(self, host: str, nat: NAT | None = None) -> Member:
        """Start a member, behind a NAT or not."""
        if nat is not None:
            self.net.place(host, nat)
        member = Member(self.net, host, f"{self.seed} {len(self.members)}", self.transport)
        self.members.append(member)
        return member

    def at_home(self, number: int, **options: Any) -> tuple[Member, NAT]:
        """Start a member behind a separate NAT."""
        nat = NAT(self.net.clock, f"80.0.{number}.1", rng=Random(self.seed * 9 + number), **options)
        return self.member(f"192.168.{number}.2", nat), nat

    def wait_for_joined(self, limit: float) -> float:
        """Return the seconds until each member has a neighbour, and fail after a limit."""
        return self.wait(lambda: all(member.topic.neighbors() for member in self.members), limit)

    def wait(self, done: Any, limit: float) -> float:
        """Return the seconds until C{done()}, and fail after a limit."""
        began = self.net.clock.seconds()
        while not done():
            self.net.advance(0.1)
            self.assertLess(self.net.clock.seconds() - began, limit, f"seed {self.seed}")
        return self.net.clock.seconds() - began

    def wait_for_messages(self, limit: float) -> float:
        """
        Let each member say something again and again; return the seconds until each has
        heard something that was said from now on by each other one.
        """
        began = self.net.clock.seconds()
        numbers: dict[bytes, int] = {}

        def done() -> bool:
            for each, member in enumerate(self.members):
                self.number += 1
                text = b"%d %d" % (each, self.number)
                numbers[text] = each
                member.topic.broadcast(text)
            self.net.advance(0.5)
            return all(
                {numbers[text] for text in member.heard.contents if text in numbers} | {each}
                == set(range(len(self.members)))
                for each, member in enumerate(self.members)
            )

        self.wait(done, limit)
        return self.net.clock.seconds() - began

    def settle(self) -> None:
        """Wait until all members are joined and quiet."""
        self.wait_for_joined(60)
        self.wait_for_messages(10)
        self.net.advance(sized(15, 40))


class AddressTests(MovingTestCase):
    """
    A member whose address, or that of its NAT, changes.
    """

    def assert_moved(self, member: Member, *reasons: Change) -> None:
        """Assert that a member has noticed these changes, and perhaps others after them."""
        noticed = [event.reason for event in member.events if isinstance(event, NetworkChanged)]
        self.assertEqual(noticed[: len(reasons)], [reason.value for reason in reasons])

    def test_mapping(self) -> None:
        """
        When the address of a NAT changes, messages flow again within 20 s, also if the
        other member is behind a NAT.
        """
        one, nat = self.at_home(1)
        self.at_home(2)
        self.settle()
        nat.change_address("80.0.3.3")
        self.net.udp.nats.moved()
        self.wait_for_messages(20)
        self.assert_moved(one, Change.MAPPING)
        self.assertIn("80.0.3.3", [host for host, _ in one.tracker.dht.mapped()])

    @thorough
    def test_three(self) -> None:
        """
        The same if there are others: those that stay have neighbours, and look for the one
        that has moved all the same.
        """
        _, nat = self.at_home(1)
        self.at_home(2)
        self.at_home(3)
        self.settle()
        nat.change_address("80.0.4.3")
        self.net.udp.nats.moved()
        self.wait_for_messages(15)

    def test_symmetric(self) -> None:
        """
        The same of a NAT with another port for each destination, and a public member.
        """
        one, nat = self.at_home(1, mapping=Behaviour.ADDRESS_AND_PORT_DEPENDENT)
        self.member("81.0.1.1")
        self.settle()
        nat.change_address("80.0.3.3")
        self.net.udp.nats.moved()
        self.wait_for_messages(20)
        self.net.advance(10)
        self.assert_moved(one, Change.MAPPING)

    def test_wifi(self) -> None:
        """
        The same if the machine changes to another network: its address and its NAT.
        """
        one, _ = self.at_home(1)
        self.at_home(2)
        self.settle()
        nat = NAT(self.net.clock, "80.0.7.7", rng=Random(self.seed))
        self.net.udp.nats.remove("192.168.1.2")
        self.net.place("10.20.0.2", nat)
        one.reactor.move("10.20.0.2")
        self.wait_for_messages(20)
        self.assert_moved(one, Change.ADDRESSES)

    def test_public(self) -> None:
        """
        The same of a public member.
        """
        one, two = self.member("81.0.1.1"), self.member("81.0.2.1")
        self.settle()
        one.reactor.move("81.0.9.9")
        self.wait_for_messages(20)
        self.assert_moved(one, Change.ADDRESSES)
        self.assertIn("81.0.9.9", str(two.tracker._addresses._book.dialable(one.tracker.peer_id)))

    def test_sleep(self) -> None:
        """
        Members are joined again within 10 s after a sleep.
        """
        one, nat = self.at_home(1)
        self.at_home(2)
        self.settle()
        nat.forget()
        clock = self.net.clock
        clock.rightNow += 3600
        self.wait_for_messages(10)
        self.assert_moved(one, Change.SLEPT)

    def test_nothing(self) -> None:
        """
        A member whose network does not change reports nothing, keeps its connections, and
        sends little: at most half a datagram a second for the sake of its mapping.
        """
        one, _ = self.at_home(1)
        self.at_home(2)
        self.settle()
        sent = [0, 0]

        def count(datagram: Datagram) -> None:
            if datagram.source[0] == "192.168.1.2":
                sent[datagram.data[:1] != b"d" or b"1:q4:ping" in datagram.data] += 1

        self.net.udp.observers.append(count)
        seconds = sized(60, 600)
        self.net.advance(seconds)
        self.assertEqual([e for e in one.events if isinstance(e, NetworkChanged | LinkBroken)], [])
        self.assertLess(sent[1] / seconds, 0.5, f"{sent}")
