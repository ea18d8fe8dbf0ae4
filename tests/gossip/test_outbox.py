"""
Tests for L{dtt.gossip.outbox}.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dtt.config import TimeoutsConfig
from dtt.errors import DialFailed
from dtt.gossip.outbox import LOOK_INTERVAL, MAX_DIALS, MAX_QUEUE, RESOLVE_SHARE, Outbox
from dtt.gossip.services import GossipServices
from dtt.interfaces import IAddressBook, IPeerTransport, ITopicLinks, PeerId
from dtt.net.dial_budget import MAX_DIALS as MAX_DIALS_OF_NETWORK
from dtt.wire.addresses import STREAMS, Address, PeerAddress

PEER = b"p" * 32
TOPIC = b"t" * 32
ADDRESS = PeerAddress(STREAMS, "192.0.2.1", 4433)


@implementer(IPeerTransport)
class ManualTransport:
    """A transport whose dials the test completes."""

    def __init__(self) -> None:
        self.finds_peers = False
        self.connected: set[PeerId] = set()
        self.dials: list[tuple[PeerId, Deferred[None]]] = []
        self.dialled: list[tuple[Address, ...]] = []
        self.done: list[tuple[PeerId, bytes | None]] = []

    def addresses(self) -> tuple[Address, ...]:
        """Return none."""
        return ()

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """Do nothing."""

    def close_topic(self, topic_id: bytes) -> None:
        """Do nothing."""

    def dial(
        self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None
    ) -> Deferred[None]:
        """Record the dial."""
        result: Deferred[None] = Deferred()
        self.dials.append((peer_id, result))
        self.dialled.append(tuple(addresses))
        return result

    def is_connected(self, peer_id: PeerId) -> bool:
        """Return what the test says."""
        return peer_id in self.connected

    def connections_used(self) -> tuple[int, int]:
        """Return none, of 512."""
        return 0, 512

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """Record the message."""
        if peer_id in self.connected:
            self.done.append((peer_id, message))
        return peer_id in self.connected

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """Record it as C{None}."""
        self.done.append((peer_id, None))

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """Do nothing."""
        return Deferred()

    def succeed(self, index: int = 0) -> None:
        """Let the dial succeed."""
        peer, result = self.dials[index]
        self.connected.add(peer)
        result.callback(None)


@implementer(IAddressBook)
class ManualBook:
    """A book that knows one address of every peer."""

    def __init__(self) -> None:
        self.answer: tuple[Address, ...] | Deferred[tuple[Address, ...]] = (ADDRESS,)
        self.heard: list[tuple[str, PeerId]] = []

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """Do nothing."""

    def source(self, peer_id: PeerId) -> str:
        """Return nothing."""
        return ""

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """Return the answer."""
        if isinstance(self.answer, Deferred):
            return self.answer
        result: Deferred[tuple[Address, ...]] = Deferred()
        result.callback(self.answer)
        return result

    def refresh(self, peer_id: PeerId) -> None:
        """Do nothing."""

    peek = refresh

    def published(self, peer_id: PeerId) -> None:
        """Do nothing."""

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """Record it, unless there are no addresses."""
        if addresses:
            self.heard.append(("failed", peer_id))

    def succeeded(self, peer_id: PeerId) -> None:
        """Record it."""
        self.heard.append(("succeeded", peer_id))


class OutboxTests(SynchronousTestCase):
    """
    Tests for L{Outbox}.
    """

    def setUp(self) -> None:
        """Create an outbox, and record its callbacks."""
        self.clock = Clock()
        self.transport = ManualTransport()
        self.book = ManualBook()
        self.reported: list[tuple[Any, ...]] = []
        self.outbox = Outbox(
            GossipServices(
                self.clock,
                Random(1),
                b"m" * 32,
                self.transport,
                self.book,
                TimeoutsConfig(join_peer=5.0),
            ),
            TOPIC,
            lambda peer: self.reported.append(("started",)),
            lambda peer: self.reported.append(("reached",)),
            lambda peer, reason, no_room, tried: self.reported.append(("failed", reason, *tried)),
        )

    def test_doubles(self) -> None:
        """The test doubles provide their interfaces."""
        verifyObject(IPeerTransport, self.transport)
        verifyObject(IAddressBook, self.book)

    def test_connected(self) -> None:
        """Messages to a connected peer are sent immediately."""
        self.transport.connected.add(PEER)
        self.outbox.send(PEER, b"1")
        self.outbox.disconnect(PEER)
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, None)])
        self.assertEqual(self.reported, [])

    def test_dials_once_and_flushes_in_order(self) -> None:
        """
        One dial serves everything that waits; a request to end the connection keeps its
        position.
        """
        self.outbox.send(PEER, b"1")
        self.outbox.send(PEER, b"2")
        self.outbox.disconnect(PEER)
        self.outbox.disconnect(PEER)
        self.outbox.send(PEER, b"3")
        self.assertEqual((len(self.transport.dials), self.transport.done), (1, []))
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, b"2"), (PEER, None), (PEER, b"3")])
        self.assertEqual(self.reported, [("started",), ("reached",)])
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many_in_vain(self) -> None:
        """
        A peer in a network with five failed dials is not dialled, which is not its fault; a successful dial
        does not count.
        """
        for number in range(2):
            self.transport.connected.clear()
            self.outbox.send(PEER, b"1")
            self.transport.succeed(number)
        self.transport.connected.clear()
        for number in range(MAX_DIALS_OF_NETWORK):
            self.outbox.send(bytes((number,)) * 32, b"1")
            self.transport.dials[-1][1].errback(DialFailed("refused"))
        self.reported.clear()
        self.book.heard.clear()
        dials = len(self.transport.dials)
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.reported, [("started",), ("failed", "too many dials of its network")])
        self.assertEqual((len(self.transport.dials), self.book.heard), (dials, []))
        self.clock.advance(60.0)
        self.outbox.send(PEER, b"1")
        self.assertEqual(len(self.transport.dials), dials + 1)
        self.outbox.stop()

    def test_further_addresses(self) -> None:
        """
        Addresses that become known during a dial are added to it when there is another
        message for the peer, but not more often than every half second.
        """
        other, third = (PeerAddress(STREAMS, f"192.0.2.{number}", 4433) for number in (2, 3))
        self.clock.advance(10.0)
        self.outbox.send(PEER, b"1")
        self.outbox.send(PEER, b"1")
        self.book.answer = (other, ADDRESS)
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.transport.dialled, [(ADDRESS,)])
        self.clock.advance(LOOK_INTERVAL)
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.transport.dialled, [(ADDRESS,), (other,)])
        self.book.answer = Deferred()
        self.clock.advance(LOOK_INTERVAL)
        self.outbox.send(PEER, b"1")
        self.book.answer = (third,)
        self.clock.advance(LOOK_INTERVAL)
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.transport.dialled, [(ADDRESS,), (other,), (third,)])
        self.assertTrue(self.transport.dials[1][1].called)
        self.assertFalse(self.transport.dials[2][1].called)
        self.transport.dials[0][1].errback(DialFailed("timed out"))
        self.assertTrue(self.transport.dials[2][1].called)
        self.assertEqual(self.reported[-1], ("failed", "timed out", ADDRESS, other, third))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """
        A failed dial drops the queue and is reported with its reason; the next message
        dials again (Q1).
        """
        self.outbox.send(PEER, b"1")
        self.transport.dials[0][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.reported, [("started",), ("failed", "connection refused", ADDRESS)])
        self.assertEqual(self.book.heard, [("failed", PEER)])
        self.outbox.send(PEER, b"2")
        self.transport.succeed(1)
        self.assertEqual(self.transport.done, [(PEER, b"2")])

    def test_no_address(self) -> None:
        """Without an address nothing is dialled, and no failure is reported to the book."""
        self.book.answer = ()
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.reported, [("started",), ("failed", "no address")])
        self.assertEqual((self.transport.dials, self.book.heard), ([], []))

    def test_found_by_id(self) -> None:
        """A transport that finds peers by their ids dials even without an address."""
        self.book.answer = ()
        self.transport.finds_peers = True
        self.outbox.send(PEER, b"1")
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def test_not_found_in_time(self) -> None:
        """Such a transport does not wait for a slow look-up."""
        self.book.answer = Deferred()
        self.transport.finds_peers = True
        self.outbox.send(PEER, b"1")
        self.clock.advance(RESOLVE_SHARE)
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def search_that_lasts(self) -> Deferred[tuple[Address, ...]]:
        """
        Dial by the id alone, while the look-up continues.

        @return: completes the look-up.
        """
        self.book.answer = Deferred()
        self.transport.finds_peers = True
        self.outbox.send(PEER, b"1")
        search: Deferred[tuple[Address, ...]] = Deferred()
        self.book.answer = search
        self.clock.advance(RESOLVE_SHARE)
        self.assertEqual(self.transport.dialled, [()])
        return search

    def test_found_meanwhile(self) -> None:
        """Addresses found while the peer is dialled by its id are dialled instead."""
        search = self.search_that_lasts()
        by_id = self.transport.dials[0][1]
        search.callback((ADDRESS,))
        self.assertTrue(by_id.called)
        self.assertEqual(self.transport.dialled, [(), (ADDRESS,)])
        self.transport.succeed(1)
        self.assertEqual(self.reported, [("started",), ("reached",)])
        self.assertEqual(self.transport.done, [(PEER, b"1")])
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_found_by_id(self) -> None:
        """A peer that can't be reached by its id may still be found by the look-up."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.assertEqual(self.reported, [("started",)])
        search.callback((ADDRESS,))
        self.transport.succeed(1)
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def test_reached_by_id(self) -> None:
        """When the dial by the id succeeds, the look-up is no longer awaited."""
        search = self.search_that_lasts()
        self.transport.succeed()
        self.assertTrue(search.called)
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.reported, [("started",), ("reached",)])

    def test_comes_to_us_meanwhile(self) -> None:
        """A peer that connects to us before the look-up ends is no longer dialled."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.transport.connected.add(PEER)
        search.callback((ADDRESS,))
        self.assertEqual(self.transport.dialled, [()])
        self.assertEqual((self.reported, self.transport.done), ([("started",)], [(PEER, b"1")]))

    def test_found_in_vain(self) -> None:
        """Addresses found after the dial by id failed may fail as well."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        search.callback((ADDRESS,))
        self.transport.dials[1][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.reported, [("started",), ("failed", "connection refused", ADDRESS)])
        self.assertEqual(self.book.heard, [("failed", PEER)])

    def test_nothing_found(self) -> None:
        """Equal reasons are reported once."""
        search = self.search_that_lasts()
        search.callback(())
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.assertEqual(self.reported, [("started",), ("failed", "no address")])
        self.assertEqual(self.book.heard, [])

    def test_timeout_of_both(self) -> None:
        """Both ways end after the timeout."""
        search = self.search_that_lasts()
        self.clock.advance(5.0)
        self.assertEqual((search.called, self.transport.dials[0][1].called), (True, True))
        self.assertEqual(self.reported, [("started",), ("failed", "timed out")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unexpected_error_of_one(self) -> None:
        """An unexpected error is logged, unless the other way succeeds."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        search.errback(ZeroDivisionError())
        self.assertEqual(self.reported, [("started",), ("failed", "internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timeout(self) -> None:
        """Look-up and dial end after the timeout."""
        self.outbox.send(PEER, b"1")
        self.clock.advance(4.9)
        self.assertEqual(self.reported, [("started",)])
        self.clock.advance(0.2)
        self.assertEqual(self.reported, [("started",), ("failed", "timed out", ADDRESS)])
        self.assertEqual(self.book.heard, [("failed", PEER)])

    def test_unexpected_error(self) -> None:
        """An unexpected error is logged, and fails the dial."""
        self.book.answer = fail(ZeroDivisionError())
        self.outbox.send(PEER, b"1")
        self.assertEqual(self.reported, [("started",), ("failed", "internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_peer_dials_us(self) -> None:
        """When the peer connects while we look it up, its queue is sent in order."""
        self.outbox.send(PEER, b"1")
        self.transport.connected.add(PEER)
        self.outbox.send(PEER, b"2")
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, b"2")])
        self.transport.dials[0][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.reported, [("started",)])

    def test_peer_is_connected_after_lookup(self) -> None:
        """A peer that connected during the lookup is not dialled."""
        looked_up: Deferred[tuple[Address, ...]] = Deferred()
        self.book.answer = looked_up
        self.outbox.send(PEER, b"1")
        self.transport.connected.add(PEER)
        looked_up.callback((ADDRESS,))
        self.assertEqual((self.transport.dials, self.transport.done), ([], [(PEER, b"1")]))

    def test_bounds(self) -> None:
        """
        Waiting messages per peer and concurrent dials are limited; the rest is dropped
        and counted.
        """
        self.book.answer = (PeerAddress(STREAMS, "127.0.0.1", 4433),)
        for number in range(MAX_QUEUE + 5):
            self.outbox.send(PEER, b"%d" % number)
        self.assertEqual(self.outbox.counters, {"send_queue_full": 5})
        for number in range(MAX_DIALS + 2):
            self.outbox.send(b"%32d" % number, b"hi")
        self.assertEqual(len(self.transport.dials), MAX_DIALS)
        self.assertEqual(self.outbox.counters, {"send_queue_full": 5, "send_too_many_dials": 3})

    def test_without_dial(self) -> None:
        """
        A message that may not start a dial is dropped, but waits if a dial is in
        progress.
        """
        self.outbox.send(PEER, b"1", max_dials=0)
        self.assertEqual(self.transport.dials, [])
        self.outbox.send(PEER, b"2")
        self.outbox.send(PEER, b"3", max_dials=0)
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"2"), (PEER, b"3")])

    def test_repeated_message(self) -> None:
        """The same message twice in a row is queued once."""
        for _ in range(3):
            self.outbox.send(PEER, b"join")
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"join")])

    def test_stop(self) -> None:
        """
        After the stop no dial is in progress, no delayed call is left, and no failure
        is reported.
        """
        self.outbox.send(PEER, b"1")
        self.outbox.stop()
        self.outbox.send(b"q" * 32, b"2")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.reported, self.book.heard, self.transport.done), ([("started",)], [], []))
