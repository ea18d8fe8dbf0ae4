"""
Tests for L{dtt.gossip.outbox}.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dtt.errors import DialFailed
from dtt.gossip.outbox import MAX_DIALS, MAX_QUEUE, RESOLVE_SHARE, Outbox
from dtt.interfaces import IAddressBook, IPeerTransport, ITopicLinks, PeerId
from dtt.wire.addresses import STREAMS, Address, PeerAddress

PEER = b"p" * 32
TOPIC = b"t" * 32
ADDRESS = PeerAddress(STREAMS, "192.0.2.1", 4433)


@implementer(IPeerTransport)
class ManualTransport:
    """A transport whose dials end when the test says so."""

    def __init__(self) -> None:
        self.finds_peers = False
        self.connected: set[PeerId] = set()
        self.dials: list[tuple[PeerId, Deferred[None]]] = []
        self.dialled: list[tuple[Address, ...]] = []
        self.done: list[tuple[PeerId, bytes | None]] = []

    def addresses(self) -> tuple[Address, ...]:
        """None."""
        return ()

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """Not used."""

    def close_topic(self, topic_id: bytes) -> None:
        """Not used."""

    def dial(self, peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """Remember the dial."""
        result: Deferred[None] = Deferred()
        self.dials.append((peer_id, result))
        self.dialled.append(tuple(addresses))
        return result

    def is_connected(self, peer_id: PeerId) -> bool:
        """As the test says."""
        return peer_id in self.connected

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """Remember the message."""
        if peer_id in self.connected:
            self.done.append((peer_id, message))
        return peer_id in self.connected

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """Remember it as L{None}."""
        self.done.append((peer_id, None))

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """Not used."""
        return Deferred()

    def succeed(self, index: int = 0) -> None:
        """The dial succeeds."""
        peer, result = self.dials[index]
        self.connected.add(peer)
        result.callback(None)


@implementer(IAddressBook)
class ManualBook:
    """A book that knows one address of everybody."""

    def __init__(self) -> None:
        self.answer: tuple[Address, ...] | Deferred[tuple[Address, ...]] = (ADDRESS,)
        self.heard: list[tuple[str, PeerId]] = []

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """Not used."""

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """The answer."""
        if isinstance(self.answer, Deferred):
            return self.answer
        result: Deferred[tuple[Address, ...]] = Deferred()
        result.callback(self.answer)
        return result

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """Remember it; without addresses it says nothing."""
        if addresses:
            self.heard.append(("failed", peer_id))

    def succeeded(self, peer_id: PeerId) -> None:
        """Remember it."""
        self.heard.append(("succeeded", peer_id))


class CourierTests(SynchronousTestCase):
    """
    Tests for L{Outbox}.
    """

    def setUp(self) -> None:
        """A courier, and what it tells."""
        self.clock = Clock()
        self.transport = ManualTransport()
        self.book = ManualBook()
        self.told: list[tuple[str, ...]] = []
        self.courier = Outbox(
            self.clock,
            TOPIC,
            self.transport,
            self.book,
            5.0,
            lambda peer: self.told.append(("started",)),
            lambda peer: self.told.append(("reached",)),
            lambda peer, reason: self.told.append(("failed", reason)),
        )

    def test_doubles(self) -> None:
        """The doubles of these tests are what they stand for."""
        verifyObject(IPeerTransport, self.transport)
        verifyObject(IAddressBook, self.book)

    def test_connected(self) -> None:
        """To a connected peer messages go at once."""
        self.transport.connected.add(PEER)
        self.courier.send(PEER, b"1")
        self.courier.disconnect(PEER)
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, None)])
        self.assertEqual(self.told, [])

    def test_dials_once_and_flushes_in_order(self) -> None:
        """One dial for all that waits; an end of the connection keeps its place."""
        self.courier.send(PEER, b"1")
        self.courier.send(PEER, b"2")
        self.courier.disconnect(PEER)
        self.courier.disconnect(PEER)
        self.courier.send(PEER, b"3")
        self.assertEqual((len(self.transport.dials), self.transport.done), (1, []))
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, b"2"), (PEER, None), (PEER, b"3")])
        self.assertEqual(self.told, [("started",), ("reached",)])
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A failed dial drops the queue and is told with its reason; the next message dials again (Q1)."""
        self.courier.send(PEER, b"1")
        self.transport.dials[0][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.told, [("started",), ("failed", "connection refused")])
        self.assertEqual(self.book.heard, [("failed", PEER)])
        self.courier.send(PEER, b"2")
        self.transport.succeed(1)
        self.assertEqual(self.transport.done, [(PEER, b"2")])

    def test_no_address(self) -> None:
        """Without an address nothing is dialled, and the book is told of no failure."""
        self.book.answer = ()
        self.courier.send(PEER, b"1")
        self.assertEqual(self.told, [("started",), ("failed", "no address")])
        self.assertEqual((self.transport.dials, self.book.heard), ([], []))

    def test_found_by_id(self) -> None:
        """A transport that finds peers by their ids is asked also without an address."""
        self.book.answer = ()
        self.transport.finds_peers = True
        self.courier.send(PEER, b"1")
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def test_not_found_in_time(self) -> None:
        """Such a transport need not wait for a look-up that takes long."""
        self.book.answer = Deferred()
        self.transport.finds_peers = True
        self.courier.send(PEER, b"1")
        self.clock.advance(RESOLVE_SHARE)
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def search_that_lasts(self) -> Deferred[tuple[Address, ...]]:
        """
        Dial by the id alone, while the look-up goes on.

        @return: its end.
        """
        self.book.answer = Deferred()
        self.transport.finds_peers = True
        self.courier.send(PEER, b"1")
        search: Deferred[tuple[Address, ...]] = Deferred()
        self.book.answer = search
        self.clock.advance(RESOLVE_SHARE)
        self.assertEqual(self.transport.dialled, [()])
        return search

    def test_found_meanwhile(self) -> None:
        """What the look-up finds while the peer is dialled by its id is dialled instead."""
        search = self.search_that_lasts()
        by_id = self.transport.dials[0][1]
        search.callback((ADDRESS,))
        self.assertTrue(by_id.called)
        self.assertEqual(self.transport.dialled, [(), (ADDRESS,)])
        self.transport.succeed(1)
        self.assertEqual(self.told, [("started",), ("reached",)])
        self.assertEqual(self.transport.done, [(PEER, b"1")])
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_found_by_id(self) -> None:
        """A peer that can't be found by its id may still be found by the look-up."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.assertEqual(self.told, [("started",)])
        search.callback((ADDRESS,))
        self.transport.succeed(1)
        self.assertEqual(self.transport.done, [(PEER, b"1")])

    def test_reached_by_id(self) -> None:
        """When the dial by the id succeeds, nobody waits for the look-up any more."""
        search = self.search_that_lasts()
        self.transport.succeed()
        self.assertTrue(search.called)
        self.assertEqual(self.book.heard, [("succeeded", PEER)])
        self.assertEqual(self.told, [("started",), ("reached",)])

    def test_comes_to_us_meanwhile(self) -> None:
        """A peer that connects to us before the look-up ends is not dialled any more."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.transport.connected.add(PEER)
        search.callback((ADDRESS,))
        self.assertEqual(self.transport.dialled, [()])
        self.assertEqual((self.told, self.transport.done), ([("started",)], [(PEER, b"1")]))

    def test_found_in_vain(self) -> None:
        """What was found after the peer was not found by its id may fail as well."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        search.callback((ADDRESS,))
        self.transport.dials[1][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.told, [("started",), ("failed", "connection refused")])
        self.assertEqual(self.book.heard, [("failed", PEER)])

    def test_nothing_found(self) -> None:
        """The same reason is told once."""
        search = self.search_that_lasts()
        search.callback(())
        self.transport.dials[0][1].errback(DialFailed("no address"))
        self.assertEqual(self.told, [("started",), ("failed", "no address")])
        self.assertEqual(self.book.heard, [])

    def test_timeout_of_both(self) -> None:
        """Both ways end after the time given."""
        search = self.search_that_lasts()
        self.clock.advance(5.0)
        self.assertEqual((search.called, self.transport.dials[0][1].called), (True, True))
        self.assertEqual(self.told, [("started",), ("failed", "timed out")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unexpected_error_of_one(self) -> None:
        """An error that nobody expects is logged, unless the other way succeeds."""
        search = self.search_that_lasts()
        self.transport.dials[0][1].errback(DialFailed("no address"))
        search.errback(ZeroDivisionError())
        self.assertEqual(self.told, [("started",), ("failed", "internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timeout(self) -> None:
        """Look-up and dial end after the time given."""
        self.courier.send(PEER, b"1")
        self.clock.advance(4.9)
        self.assertEqual(self.told, [("started",)])
        self.clock.advance(0.2)
        self.assertEqual(self.told, [("started",), ("failed", "timed out")])
        self.assertEqual(self.book.heard, [("failed", PEER)])

    def test_unexpected_error(self) -> None:
        """An error that nobody expects is logged, and a failed dial."""
        self.book.answer = fail(ZeroDivisionError())
        self.courier.send(PEER, b"1")
        self.assertEqual(self.told, [("started",), ("failed", "internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_peer_dials_us(self) -> None:
        """When the peer connects while we look it up, its queue goes out, first things first."""
        self.courier.send(PEER, b"1")
        self.transport.connected.add(PEER)
        self.courier.send(PEER, b"2")
        self.assertEqual(self.transport.done, [(PEER, b"1"), (PEER, b"2")])
        self.transport.dials[0][1].errback(DialFailed("connection refused"))
        self.assertEqual(self.told, [("started",)])

    def test_peer_is_connected_after_lookup(self) -> None:
        """A peer that connected during the look-up is not dialled."""
        looked_up: Deferred[tuple[Address, ...]] = Deferred()
        self.book.answer = looked_up
        self.courier.send(PEER, b"1")
        self.transport.connected.add(PEER)
        looked_up.callback((ADDRESS,))
        self.assertEqual((self.transport.dials, self.transport.done), ([], [(PEER, b"1")]))

    def test_bounds(self) -> None:
        """So many messages wait for a peer, so many peers are dialled; the rest is dropped and counted."""
        for number in range(MAX_QUEUE + 5):
            self.courier.send(PEER, b"%d" % number)
        self.assertEqual(self.courier.dropped, 5)
        for number in range(MAX_DIALS + 2):
            self.courier.send(b"%32d" % number, b"hi")
        self.assertEqual((len(self.transport.dials), self.courier.dropped), (MAX_DIALS, 8))

    def test_without_dial(self) -> None:
        """A message that is not worth a dial is dropped, but waits with others."""
        self.courier.send(PEER, b"1", max_dials=0)
        self.assertEqual(self.transport.dials, [])
        self.courier.send(PEER, b"2")
        self.courier.send(PEER, b"3", max_dials=0)
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"2"), (PEER, b"3")])

    def test_repeated_message(self) -> None:
        """The same message twice in a row waits once."""
        for _ in range(3):
            self.courier.send(PEER, b"join")
        self.transport.succeed()
        self.assertEqual(self.transport.done, [(PEER, b"join")])

    def test_stop(self) -> None:
        """After the end no dial runs, no call is left, and nobody is blamed."""
        self.courier.send(PEER, b"1")
        self.courier.stop()
        self.courier.send(b"q" * 32, b"2")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.told, self.book.heard, self.transport.done), ([("started",)], [], []))
