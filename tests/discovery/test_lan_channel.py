"""
Tests for L{dtt.discovery.lan_channel}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import IDiscoveryChannel, SearchState
from dtt.discovery.lan_channel import MAX_ASKED, MAX_ASKING, ROUNDS, LocalNetworkChannel
from dtt.net.host_port import HostPort
from dtt.records.record import GossipContent
from dtt.testing.fake_dht import FakeDHT
from dtt.wire.addresses import QUIC, STREAMS, PeerAddress
from tests.tracker.common import IDS, MINUTE, Member, address, start_clock

HOST = ("192.168.1.3", 7000)


class Search:
    """A search whose answers the test makes."""

    def __init__(self) -> None:
        self.found: list[HostPort] = []
        self.observers: list[Callable[[HostPort], object]] = []

    def hosts(self) -> list[HostPort]:
        return self.found

    def add_observer(self, observer: Callable[[HostPort], object]) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def answer(self, host: HostPort) -> None:
        """A host answers."""
        self.found.insert(0, host)
        for observer in tuple(self.observers):
            observer(host)


class Direct:
    """Direct questions that the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[HostPort, Deferred[list[FoundRecord]]]] = []
        self.cancelled: list[HostPort] = []

    def ask_directly(self, host: HostPort) -> Deferred[list[FoundRecord]]:
        asking: Deferred[list[FoundRecord]] = Deferred(lambda _: self.cancelled.append(host))
        self.asked.append((host, asking))
        return asking


class LocalNetworkChannelTests(SynchronousTestCase):
    """
    Tests for L{LocalNetworkChannel}.
    """

    def setUp(self) -> None:
        clock = start_clock()
        self.member = Member(clock, FakeDHT(clock))
        self.search, self.direct = Search(), Direct()
        self.channel = LocalNetworkChannel(self.member.shared, cast(Any, self.search), cast(Any, self.direct))
        self.reported: list[FoundRecord] = []
        self.channel.on_record = self.reported.append
        self.channel.start()

    def find(self, rounds: int = 0) -> Deferred[list[FoundRecord]]:
        """Search."""
        return self.channel.find("test", SearchState(0.0, rounds, lambda: False))

    def test_interface(self) -> None:
        """It is a channel, on which nothing is published."""
        verifyObject(IDiscoveryChannel, self.channel)
        self.assertEqual(self.successResultOf(self.channel.publish(GossipContent, "test")), 0)
        self.assertEqual(self.successResultOf(self.channel.watch("test")), [])
        self.assertEqual(self.successResultOf(self.channel.find("test")), [])

    def test_answer(self) -> None:
        """
        A host that answers is asked once at a time; its record is reported, with the
        addresses at which it is here.
        """
        self.search.answer(HOST)
        self.search.answer(HOST)
        ((host, asking),) = self.direct.asked
        self.assertEqual(host, HOST)
        here = PeerAddress(STREAMS, HOST[0], 4433)
        record = FoundRecord(IDS[1], MINUTE, addresses=(address(1), here))
        asking.callback([record])
        self.assertEqual(self.reported, [record])
        self.assertEqual(self.member.book.known[IDS[1]], (here, PeerAddress(QUIC, *HOST)))
        self.search.answer(HOST)
        self.assertEqual(len(self.direct.asked), 2)

    def test_ready(self) -> None:
        """It is of use when a host has answered."""
        waiting = self.channel.when_ready()
        self.assertNoResult(waiting)
        self.search.answer(HOST)
        self.successResultOf(waiting)
        self.successResultOf(self.channel.when_ready())

    def test_find(self) -> None:
        """A lone member asks the hosts again in some rounds."""
        self.search.found = [HOST, ("192.168.1.4", 1)]
        finding = self.find()
        self.direct.asked[0][1].callback([FoundRecord(IDS[1], MINUTE)])
        self.direct.asked[1][1].callback([])
        self.assertEqual(self.successResultOf(finding), [FoundRecord(IDS[1], MINUTE)])
        self.assertEqual(self.successResultOf(self.find(1)), [])
        self.assertNoResult(self.find(ROUNDS))
        self.assertEqual(len(self.direct.asked), 4)

    def test_bounds(self) -> None:
        """Few hosts are asked at a time."""
        for number in range(MAX_ASKING + 5):
            self.search.answer(("192.168.1.5", 1 + number))
        self.assertEqual(len(self.direct.asked), MAX_ASKING)
        self.direct.asked.clear()
        self.find()
        self.assertEqual(len(self.direct.asked), MAX_ASKED)

    def test_cancel(self) -> None:
        """A search can be cancelled; stopping cancels all queries, and sends no more."""
        self.search.found = [HOST]
        finding = self.find()
        finding.cancel()
        self.failureResultOf(finding, CancelledError)
        self.assertEqual(self.direct.cancelled, [HOST])
        self.search.answer(("192.168.1.9", 9))
        self.channel.stop()
        self.assertEqual(self.direct.cancelled, [HOST, ("192.168.1.9", 9)])
        self.assertEqual(self.search.observers, [])
