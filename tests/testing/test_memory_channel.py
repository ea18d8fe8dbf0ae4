"""
Tests for L{dtt.testing.memory_channel}.  That it is a channel is in
L{tests.discovery.test_interfaces}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.records.record import GossipContent
from dtt.testing.memory_channel import MemoryChannel
from dtt.wire.addresses import STREAMS, PeerAddress

ALICE, BOB = b"a" * 32, b"b" * 32
CONTENT = GossipContent((BOB,), (b"h" * 32,), (PeerAddress(STREAMS, "192.0.2.1", 1),))


class MemoryChannelTests(SynchronousTestCase):
    """
    Tests for L{MemoryChannel}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(600)
        self.records: dict[bytes, FoundRecord] = {}
        self.alice, self.bob = (MemoryChannel(self.clock, each, self.records) for each in (ALICE, BOB))

    def test_found(self) -> None:
        """
        A record is found by others, not by its publisher, with the minute and what it contains.
        """
        self.assertEqual(self.successResultOf(self.alice.publish(lambda: CONTENT, "test")), 1)
        expected = FoundRecord(ALICE, 10, (BOB,), (b"h" * 32,), CONTENT.addresses)
        for find in (self.bob.find, self.bob.watch):
            self.assertEqual(self.successResultOf(find("test")), [expected])
        self.assertEqual(self.successResultOf(self.alice.find("test")), [])

    def test_replaced(self) -> None:
        """
        A member has one record, the latest.
        """
        self.alice.publish(lambda: CONTENT, "test")
        self.clock.advance(60)
        self.alice.publish(lambda: GossipContent((), (), ()), "test")
        self.assertEqual(self.successResultOf(self.bob.find("test")), [FoundRecord(ALICE, 11)])

    def test_content_of_an_application(self) -> None:
        """
        Any other content is kept as its bytes.
        """

        class Content:
            def encode(self) -> bytes:
                return b"anything"

        content: Any = Content()
        self.alice.publish(lambda: content, "test")
        (found,) = self.successResultOf(self.bob.find("test"))
        self.assertEqual((found.content, found.active_peers), (b"anything", ()))

    def test_delay(self) -> None:
        """
        Calls take their time; the content is that at the end, and a record is reported as it is found.
        """
        contents = [GossipContent((), (), ())]
        self.alice.delay = self.bob.delay = 5.0
        publishing = self.alice.publish(lambda: contents[0], "test")
        contents[0] = CONTENT
        self.clock.advance(4.9)
        self.assertNoResult(publishing)
        self.clock.advance(0.1)
        self.successResultOf(publishing)
        reported: list[FoundRecord] = []
        self.bob.on_record = reported.append
        finding = self.bob.find("test")
        self.clock.advance(4.9)
        self.assertEqual(reported, [])
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(finding), reported)
        self.assertEqual(reported[0].active_peers, (BOB,))

    def test_cancelled(self) -> None:
        """
        A call that is cancelled changes nothing and leaves nothing.
        """
        self.alice.delay = 5.0
        publishing = self.alice.publish(lambda: CONTENT, "test")
        publishing.cancel()
        self.failureResultOf(publishing, CancelledError)
        self.assertEqual((self.records, self.clock.getDelayedCalls()), ({}, []))
