"""
Tests for L{dtt.dht.bootstrap}.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import PUBLIC_BOOTSTRAP
from dtt.dht.bootstrap import KNOWN_PER_ROUND, MAX_ADDRESSES, MAX_PAUSE, Bootstrap
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, IPV6
from dtt.testing.net.udp import MemoryUDPNetwork
from tests.tracker.common import collect_warnings


class BootstrapTests(SynchronousTestCase):
    """
    Which nodes are queried, and when they are queried again.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryUDPNetwork(self.clock, latency=0.1)
        self.asked: list[tuple[float, str, int]] = []

    def make(self, *hosts: tuple[str, int]) -> Bootstrap:
        return Bootstrap(
            self.network.reactor("10.0.0.1"),
            hosts,
            lambda host, port, _: self.asked.append((self.clock.seconds(), host, port)),
            Random(1),
        )

    def test_concurrent(self) -> None:
        """
        Known nodes, which come first, and literals are queried immediately, names as soon
        as each is resolved, whatever happens to the others.
        """
        self.network.names = {"good": ["10.1.0.1", "10.1.0.2"], "never": None}
        bootstrap = self.make(("never", 1), ("bad", 2), ("good", 3), ("10.2.0.1", 4))
        bootstrap.start([Contact(b"n" * 20, "10.3.0.1", 5)])
        self.assertEqual(self.asked, [(0.0, "10.3.0.1", 5), (0.0, "10.2.0.1", 4)])
        self.network.advance(0.5)
        self.assertEqual(self.asked[2:], [(0.1, "10.1.0.1", 3), (0.1, "10.1.0.2", 3)])

    def test_resolved_once_at_a_time(self) -> None:
        """
        A name whose resolution takes longer than a round is not resolved again meanwhile;
        each port of it is.
        """
        self.network.names = {"never": None}
        calls: list[int] = []
        reactor = self.network.reactor("10.0.0.1")
        resolve = reactor.nameResolver.resolveHostName

        def count(receiver: object, name: str, port: int, *args: object) -> object:
            calls.append(port)
            return resolve(receiver, name, port, *args)  # type: ignore[arg-type]

        self.patch(reactor.nameResolver, "resolveHostName", count)
        bootstrap = Bootstrap(reactor, [("never", 1), ("never", 2)], lambda *_: None, Random(1))
        bootstrap.start([])
        self.network.advance(100.0)
        self.assertEqual(calls, [1, 2])

    def test_addresses_of_a_name(self) -> None:
        """
        A bounded number of a name's addresses is queried.
        """
        self.network.names = {"big": [f"10.1.0.{number}" for number in range(99)]}
        self.make(("big", 1)).start([])
        self.network.advance(0.5)
        self.assertEqual(len(self.asked), MAX_ADDRESSES)

    def test_ipv6(self) -> None:
        """
        Only nodes of the given family are queried; literals are formatted as a socket
        formats them.
        """
        self.network.names = {"both": ["10.1.0.1", "2001:db8::1"]}
        hosts = (("both", 1), ("10.2.0.1", 2), ("2001:DB8:0::2", 3))
        reactor = self.network.reactor("2001:db8::9")
        for family, expected in (
            (IPV4, {("10.1.0.1", 1), ("10.2.0.1", 2)}),
            (IPV6, {("2001:db8::1", 1), ("2001:db8::2", 3)}),
        ):
            asked: set[tuple[str, int]] = set()

            def ask(host: str, port: int, _: bool, to: set[tuple[str, int]] = asked) -> None:
                to.add((host, port))

            bootstrap = Bootstrap(reactor, hosts, ask, Random(1), family)
            bootstrap.start([])
            self.network.advance(0.2)
            bootstrap.stop()
            self.assertEqual(asked, expected)

    def test_rounds(self) -> None:
        """
        Rounds repeat at intervals that grow to a minute; further known nodes take their
        turn.
        """
        known = [Contact(bytes(20), f"10.3.{number}.1", 5) for number in range(KNOWN_PER_ROUND + 1)]
        bootstrap = self.make(("10.2.0.1", 4))
        bootstrap.start(known)
        bootstrap.start(known)
        self.assertEqual(len(self.asked), 1 + KNOWN_PER_ROUND)
        self.network.advance(1.25)
        self.assertIn("10.3.32.1", [host for _, host, _ in self.asked])
        self.network.advance(600.0)
        times = [when for when, host, _ in self.asked if host == "10.2.0.1"]
        pauses = [later - sooner for sooner, later in pairwise(times)]
        self.assertTrue(0.75 <= pauses[0] <= 1.25, pauses)
        self.assertTrue(all(0.75 * MAX_PAUSE <= pause <= 1.25 * MAX_PAUSE for pause in pauses[7:]), pauses)
        self.assertGreater(len(pauses), 10)

    def rounds(self, bootstrap: Bootstrap, seconds: float, succeeds: bool) -> int:
        """
        Start again whenever a node answers, 0.1 s after each round, for some time; return
        the number of rounds.
        """
        self.asked.clear()
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            before = len(self.asked)
            bootstrap.start([])
            self.network.advance(0.1)
            if len(self.asked) > before:
                bootstrap.stop()
                if succeeds:
                    bootstrap.succeeded()
        return len(self.asked)

    def test_in_vain(self) -> None:
        """
        While answers lead to nothing, restarts keep the growing intervals; after a success
        they are immediate.
        """
        bootstrap = self.make(("10.2.0.1", 4))
        self.assertLessEqual(self.rounds(bootstrap, 60.0, succeeds=False), 8)
        self.assertLessEqual(self.rounds(bootstrap, 600.0, succeeds=False), 15)
        bootstrap.stop()
        bootstrap.succeeded()
        self.assertGreater(self.rounds(bootstrap, 5.0, succeeds=True), 40)

    def test_public_hosts(self) -> None:
        """
        There are public hosts with different operators; dead ones are not worth a
        warning.
        """
        operators = {".".join(name.split(".")[-2:]) for name, _ in PUBLIC_BOOTSTRAP}
        self.assertGreaterEqual(len(operators), 7)
        warnings: list[str] = []
        collect_warnings(self, warnings)
        bootstrap = self.make(*PUBLIC_BOOTSTRAP)
        self.network.names = {PUBLIC_BOOTSTRAP[-1][0]: ["10.1.0.1"]}
        bootstrap.start([])
        self.network.advance(0.5)
        bootstrap.stop()
        self.assertEqual([host for _, host, _ in self.asked], ["10.1.0.1"])
        self.assertEqual(warnings, [])

    def test_stop(self) -> None:
        """
        After stopping nothing is queried, resolved or scheduled; it can be started
        again.
        """
        self.network.names = {"good": ["10.1.0.1"]}
        bootstrap = self.make(("good", 3))
        bootstrap.start([])
        bootstrap.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.network.advance(10.0)
        self.assertEqual(self.asked, [])
        bootstrap.start([])
        self.network.advance(0.5)
        self.assertEqual(len(self.asked), 1)

    def test_unresolvable(self) -> None:
        """
        A name without an address is logged once, however often it is tried, even if
        others have answered in the meantime. A name whose resolution was cancelled is
        not logged, nor one without an IPv6 address.
        """
        warnings: list[str] = []
        collect_warnings(self, warnings)
        self.network.names = {"good": ["10.1.0.1"]}
        bootstrap = self.make(("good", 3), ("bad", 4))
        bootstrap.start([])
        bootstrap.stop()
        self.network.advance(10.0)
        self.assertEqual(warnings, [])
        bootstrap.start([])
        self.network.advance(30.0)
        self.assertEqual(len(warnings), 1)
        self.assertIn("The bootstrap host bad has no address", warnings[0])
        bootstrap.stop()
        six = Bootstrap(
            self.network.reactor("2001:db8::9"), [("good", 3)], lambda host, port, _: None, Random(1), IPV6
        )
        six.start([])
        self.network.advance(1.0)
        six.stop()
        self.assertEqual(len(warnings), 1)

    def test_resolver_that_cannot_cancel(self) -> None:
        """
        A resolution that can't be cancelled, as with Twisted's own resolver, has no
        effect after stopping.
        """
        self.network.names = {"good": ["10.1.0.1"]}
        bootstrap = self.make(("good", 3))
        bootstrap.start([])
        (receiver,) = bootstrap._receivers
        resolution = receiver.resolution

        class Stubborn:
            def cancel(self) -> None:
                raise NotImplementedError

        receiver.resolution = Stubborn()  # type: ignore[assignment]
        bootstrap.stop()
        self.network.advance(1.0)
        self.assertEqual(self.asked, [])
        self.assertIsNotNone(resolution)
