"""
Tests for L{dtt.discovery.lan}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.lan import (
    AGAIN_AFTER,
    HOST_FOR,
    INTERVAL,
    MAX_COOKIES,
    MAX_HOSTS,
    LocalSearch,
)
from dtt.discovery.lan_messages import GROUP4, GROUP6, LocalMessage, decode, encode
from dtt.net.host_port import HostPort
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork

COOKIE = b"0123456789abcdef"


class LocalSearchTests(SynchronousTestCase):
    """
    Tests for L{LocalSearch}.
    """

    def setUp(self) -> None:
        """No machines."""
        self.net = MachineNetwork(HeapClock())
        self.hosts: list[str] = []

    def machine(self, host: str = "", port: int = 6881, **config: str) -> LocalSearch:
        """Start the search of another machine in the local network."""
        host = host or f"192.168.1.{len(self.hosts) + 2}"
        self.hosts.append(host)
        self.net.lan.connect(*self.hosts)
        search = LocalSearch(
            self.net.reactor(host), Random(host), lambda: {False: port, True: port}, **config
        )
        search.startService()
        self.addCleanup(search.stopService)
        return search

    def test_found(self) -> None:
        """Machines find each other, whichever is first; nobody finds itself."""
        one = self.machine()
        self.net.advance(0.1)
        other = self.machine(port=7000)
        self.assertEqual(one.hosts(), [])
        self.net.advance(AGAIN_AFTER)
        self.assertEqual(one.hosts(), [("192.168.1.3", 7000)])
        self.assertEqual(other.hosts(), [("192.168.1.2", 6881)])
        self.assertTrue(one.is_here("192.168.1.3"))
        self.assertFalse(one.is_here("192.168.1.2"))

    def test_observers(self) -> None:
        """Observers are notified of each answer, until they unsubscribe."""
        one = self.machine()
        found: list[HostPort] = []
        end = one.add_observer(found.append)
        self.machine(port=7000)
        self.net.advance(AGAIN_AFTER + 1)
        self.assertEqual(set(found), {("192.168.1.3", 7000)})
        end()
        end()
        found.clear()
        self.net.advance(INTERVAL)
        self.assertEqual(found, [])

    def test_elsewhere(self) -> None:
        """Who is in another network is not found."""
        one = self.machine()
        self.net.lan.connect("192.168.9.9")
        other = LocalSearch(self.net.reactor("192.168.9.9"), Random(1), lambda: {False: 1})
        other.startService()
        self.net.advance(5)
        self.assertEqual((one.hosts(), other.hosts()), ([], []))
        other.stopService()

    def test_says_nothing(self) -> None:
        """A search contains our port and a cookie that is never the same, and nothing else."""
        self.machine()
        self.net.advance(INTERVAL * 3 + 1)
        sent = [data for _, group, data in self.net.lan.sent]
        self.assertEqual(len(sent), 5)
        cookies = [decode(data).cookie for data in sent]
        self.assertEqual(len(set(cookies)), 5)
        self.assertEqual([encode(LocalMessage(False, 6881, cookie), GROUP4) for cookie in cookies], sent)

    def test_forgotten(self) -> None:
        """A machine that does not answer any longer is forgotten."""
        one, other = self.machine(), self.machine()
        self.net.advance(AGAIN_AFTER + 1)
        other.stopService()
        self.net.advance(INTERVAL)
        self.assertEqual(len(one.hosts()), 1)
        self.net.advance(HOST_FOR)
        self.assertEqual(one.hosts(), [])

    def test_false_answers(self) -> None:
        """An answer without the cookie of one of the last searches is dropped, and counted."""
        one = self.machine()
        self.net.advance(AGAIN_AFTER + 1)
        answer = encode(LocalMessage(True, 7, COOKIE), GROUP4)
        one._answered(answer, "192.168.1.9", 7)
        one._answered(b"junk", "192.168.1.9", 7)
        one._answered(encode(LocalMessage(False, 7, one._cookies[0]), GROUP4), "192.168.1.9", 7)
        self.assertEqual(one.hosts(), [])
        self.assertEqual((one.counters["dropped_cookie"], one.counters["dropped_malformed"]), (1, 1))
        old = one._cookies[0]
        for _ in range(MAX_COOKIES):
            one.search()
        one._answered(encode(LocalMessage(True, 7, old), GROUP4), "192.168.1.9", 7)
        self.assertEqual(one.hosts(), [])

    def test_many_answers(self) -> None:
        """The number of hosts is limited."""
        one = self.machine()
        cookie = one._cookies[-1]
        for number in range(MAX_HOSTS + 5):
            one._answered(encode(LocalMessage(True, 1 + number, cookie), GROUP4), "192.168.1.9", 7)
        self.assertEqual([port for _, port in one.hosts()], list(range(MAX_HOSTS + 5, 5, -1)))

    def test_answers_are_limited(self) -> None:
        """A host gets a few answers, all hosts together some more."""
        one = self.machine()
        searched = one._searched(GROUP4)
        for number in range(20):
            searched(encode(LocalMessage(False, 1, b"%d" % number), GROUP4), "192.168.1.9", 7)
        self.assertEqual((one.counters["answers"], one.counters["answers_limited"]), (4, 16))
        for number in range(100):
            searched(encode(LocalMessage(False, 1, b"x"), GROUP4), f"192.168.2.{number}", 7)
        self.assertLess(one.counters["answers"], 40)

    def test_link_local(self) -> None:
        """IPv6 addresses with a zone are of no use: they are neither taken nor answered."""
        one = self.machine()
        for host in ("fe80::1", "fe80::1%eth0"):
            one._answered(encode(LocalMessage(True, 7, one._cookies[0]), GROUP6), host, 7)
            one._searched(GROUP6)(encode(LocalMessage(False, 7, b"x"), GROUP6), host, 7)
        self.assertEqual(one.hosts(), [])
        self.assertEqual(one.counters["answers"], 0)

    def test_ipv6(self) -> None:
        """The same works over IPv6."""
        one, other = self.machine("fd00::1"), self.machine("fd00::2")
        self.net.advance(AGAIN_AFTER + 1)
        self.assertEqual((one.hosts(), other.hosts()), ([("fd00::2", 6881)], [("fd00::1", 6881)]))

    def test_one_family(self) -> None:
        """Who is bound to an address of one family uses its group only."""
        one = self.machine("fd00::1", interface="192.168.1.2")
        self.assertEqual(one._sockets, {})
        one.search()
        self.assertEqual(self.net.lan.sent, [])

    def test_stop(self) -> None:
        """Nothing is left, and a search after that does nothing."""
        one = self.machine()
        self.successResultOf(one.stopService())
        self.net.advance(1)
        one.search()
        self.assertEqual(self.net.lan.sockets, [])
        self.assertEqual(self.net.clock.getDelayedCalls(), [])
