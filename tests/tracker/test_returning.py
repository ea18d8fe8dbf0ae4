"""
Members whose network is gone for a while: they are joined again within 10 s of its return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from dtt.events import Event, LinkBroken, NetworkChanged
from dtt.testing.net.udp import Datagram
from dtt.tracker.network_watch import Change
from tests.sweeps import sized, thorough
from tests.tracker import test_moving
from tests.tracker.test_moving import Member, MovingTestCase

#: Seeds of each test, and the lengths of outages in seconds.
SEEDS = sized(1, 8)
MINUTES = sized(1, 4)
OUTAGES = (300.0, 60.0, 1200.0, 3600.0)[:MINUTES]

#: Seconds from the return of the network until members are joined.
WITHIN = 10.0


class ReturningTests(MovingTestCase):
    """
    Outages of several kinds.
    """

    def silence(self, *members: Member) -> None:
        """Lose everything from and to members whose machines keep their addresses."""
        self.net.silence(*(member.reactor.host for member in members))

    def plug(self, *members: Member) -> None:
        """End L{silence}, or that a cable is unplugged."""
        self.net.plug(*(member.reactor.host for member in members))

    def wait_for(self, seconds: float) -> None:
        """Wait for some seconds, and some more that depend on the seed."""
        self.net.advance(seconds + Random(self.seed).uniform(0, 60))

    def assert_joined(self) -> None:
        """Assert that all members are joined in time, and then hear each other."""
        self.wait_for_joined(WITHIN)
        self.wait_for_messages(WITHIN)

    def assert_survives(
        self, outages: Sequence[float], lose: Callable[..., object], *members: Member
    ) -> None:
        """
        Assert that members are joined again after each of several outages.

        @param outages: their lengths in seconds.
        @param lose: takes the network from the members; L{plug} returns it.
        """
        for seconds in outages:
            lose(*members)
            self.wait_for(seconds)
            self.plug(*members)
            self.assert_joined()

    def reasons(self, member: Member) -> list[str]:
        """Return the changes that a member has noticed."""
        return [event.reason for event in member.events if isinstance(event, NetworkChanged)]

    def test_line(self) -> None:
        """
        One of two members behind NATs loses its line: the other one, which is then alone, is found at once
        when it returns.
        """
        for seed in self.sweep(SEEDS):
            one, _ = self.at_home(1)
            self.at_home(2)
            self.settle()
            self.assert_survives(OUTAGES, self.silence, one)
            self.assertIn(Change.RETURNED.value, self.reasons(one), f"seed {seed}")

    def test_cable(self) -> None:
        """The same if the machine has no address meanwhile."""
        for _ in self.sweep(SEEDS):
            one, _nat = self.at_home(1)
            self.at_home(2)
            self.settle()
            self.assert_survives((6.0, *OUTAGES), lambda member: self.net.unplug(member.reactor.host), one)

    def test_three(self) -> None:
        """The same if the others have each other meanwhile."""
        for _ in self.sweep(SEEDS):
            one, _nat = self.at_home(1)
            self.at_home(2)
            self.at_home(3)
            self.settle()
            self.assert_survives(OUTAGES, self.silence, one)

    def test_all(self) -> None:
        """All members lose their lines, and these return at the same time."""
        for _ in self.sweep(SEEDS):
            members = [self.at_home(number)[0] for number in range(1, 4)]
            self.settle()
            self.assert_survives(OUTAGES, self.silence, *members)

    def test_sleep(self) -> None:
        """A machine sleeps for an hour."""
        for _ in self.sweep(SEEDS):
            one, _nat = self.at_home(1)
            self.at_home(2)
            self.at_home(3)
            self.settle()
            self.net.sleep(one.reactor.host)
            self.wait_for(sized(600, 3600))
            self.net.wake(one.reactor)
            self.assert_joined()

    @thorough
    def test_another_address(self) -> None:
        """
        With the line, a NAT gets another address.  The other member is alone, and reads the slots only every
        20 s by then, but looks at the packet of the former neighbour more often.

        In a DHT of 24 nodes, a member that begins everything again asks each node more often than it answers.
        """
        self.end()
        self.patch(test_moving, "NODES", 100)
        self.build()
        for _ in self.sweep(SEEDS):
            one, nat = self.at_home(1)
            self.at_home(2)
            self.settle()
            self.silence(one)
            self.wait_for(1200.0)
            nat.change_address("80.0.9.9")
            self.net.udp.nats.moved()
            self.plug(one)
            self.assert_joined()

    def test_datagrams_only(self) -> None:
        """
        If only the DHT is silent, connections over TCP stay, and so do neighbours.
        """
        self.transport = "streams"
        for seed in self.sweep(sized(1, 10)):
            one, two = self.member("81.0.1.1"), self.member("81.0.2.1")
            self.settle()
            self.net.udp.dead.add("81.0.1.1")
            self.wait_for(600.0)
            self.assertEqual(one.topic.neighbors(), (two.tracker.peer_id,))
            self.net.udp.dead.discard("81.0.1.1")
            self.assert_joined()
            broken: list[Event] = [each for each in one.events if isinstance(each, LinkBroken)]
            self.assertEqual(broken, [], f"seed {seed}")

    def test_public(self) -> None:
        """
        The same as L{test_line} over TCP between machines with global addresses.  A dial that began just
        before the return of the network is repeated, rather than waited for (seed 7).
        """
        self.transport = "streams"
        for _ in self.sweep(SEEDS):
            one, _two = self.member("81.0.1.1"), self.member("81.0.2.1")
            self.settle()
            self.assert_survives(OUTAGES, self.silence, one)

    def test_traffic(self) -> None:
        """
        A member sends little during an outage: at most 8 datagrams a second in the first ten minutes, 4
        later.
        """
        for seed in self.sweep(sized(1, 10)):
            one, _ = self.at_home(1)
            self.at_home(2)
            self.settle()
            sent = 0

            def count(datagram: Datagram) -> None:
                nonlocal sent
                sent += datagram.source[0] == "192.168.1.2"

            self.net.udp.observers.append(count)
            self.silence(one)
            for seconds, most in ((60, 8), (540, 8), (1200, 4)):
                sent = 0
                self.net.advance(seconds)
                self.assertLess(sent / seconds, most, f"seed {seed}")
