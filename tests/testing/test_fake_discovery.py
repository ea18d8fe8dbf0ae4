"""
Tests for L{dtt.testing.fake_discovery}.  What it has in common with the real service is in
L{tests.testing.test_fake_tracker}.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import ContentTooLarge, DTTError, TopicLeft, UsageError
from dtt.records.topic import TopicId
from dtt.testing.fake_discovery import FakeDiscoveryService
from dtt.tracker.discover import Found

TOPIC, ALICE, BOB = TopicId.from_name("x"), b"a" * 32, b"b" * 32


class FakeDiscoveryTests(SynchronousTestCase):
    """
    Tests for L{FakeDiscoveryService}.
    """

    def setUp(self) -> None:
        self.forgotten: list[FakeDiscoveryService] = []
        self.service = FakeDiscoveryService(TOPIC, b"ours", self.forgotten.append)
        self.seen: list[Found] = []

    def test_find(self) -> None:
        """
        What the test lets it find is reported, again only if its content has changed.
        """
        self.assertRaises(UsageError, self.service.find, ALICE, b"early")
        self.service.startService()
        self.service.subscribe(self.seen.append)
        self.service.find(ALICE, b"1")
        self.service.find(ALICE, b"1", minute=30_000_001)
        self.service.find(ALICE, b"2")
        self.service.find(BOB, b"1")
        self.service.find(ALICE, b"old", minute=29_999_999)
        self.assertEqual(
            [(each.publisher, each.content) for each in self.seen],
            [(ALICE, b"1"), (ALICE, b"2"), (BOB, b"1")],
        )

    def test_wrong(self) -> None:
        """
        What no publisher could have is refused.
        """
        wrong: Any = "text"
        self.assertRaises(DTTError, self.service.find, b"short", b"1")
        self.assertRaises(DTTError, self.service.find, ALICE, wrong)
        self.assertRaises(ContentTooLarge, self.service.find, ALICE, bytes(713))
        self.assertRaises(DTTError, self.service.publish, bytes(5000))
        self.assertRaises(DTTError, FakeDiscoveryService, TOPIC, bytes(5000), self.forgotten.append)

    def test_leave(self) -> None:
        """
        It is left once, with or without a parent; afterwards it publishes nothing and reports nothing.
        """
        parent = MultiService()
        self.service.setServiceParent(parent)
        parent.startService()
        self.service.subscribe(self.seen.append)
        for _ in range(2):
            self.successResultOf(self.service.leave())
        self.assertEqual((self.forgotten, self.service.parent), ([self.service], None))
        self.assertRaises(TopicLeft, self.service.publish, b"more")
        self.assertRaises(TopicLeft, self.service.find, ALICE, b"1")
        self.assertEqual(self.seen, [])

    def test_nothing_else(self) -> None:
        """
        It has neither records nor a network.
        """
        self.service.network_changed()
        self.assertEqual((self.service.unreadable(), self.service.counters()), (0, {}))
        self.assertEqual(repr(self.service), f"<FakeDiscoveryService {TOPIC.hex()[:10]}>")
