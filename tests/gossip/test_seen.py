"""
Tests for L{dtt.gossip.seen}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip import seen as seen_module
from dtt.gossip.seen import MAX_SEEN, MAX_UNHASHED, MAX_UNHASHED_BYTES, SeenMessages
from dtt.records.topic import truncated_sha512

#: The unix time at which a minute begins, and that minute.
MINUTE = 30_000_000
NOW = MINUTE * 60.0


def hashes(*names: str) -> list[bytes]:
    """Return the hashes of contents."""
    return [truncated_sha512(name.encode()) for name in names]


class ListedTests(SynchronousTestCase):
    """
    The hashes for our record.
    """

    def test_last_five(self) -> None:
        """The last five distinct contents received, in order; those sent are not listed."""
        seen = SeenMessages()
        for name in ("a", "b", "c", "d", "e", "f", "b"):
            seen.add_received(name.encode(), NOW)
        seen.add_sent(b"g", NOW)
        self.assertEqual(seen.listed(NOW), tuple(hashes("c", "d", "e", "f", "b")))

    def test_old(self) -> None:
        """A content is listed for two minutes, as long as a record can be read."""
        seen = SeenMessages()
        seen.add_received(b"a", NOW)
        seen.add_received(b"b", NOW + 60)
        self.assertEqual(seen.listed(NOW + 119), tuple(hashes("a", "b")))
        self.assertEqual(seen.listed(NOW + 120), tuple(hashes("b")))


class UnhashedTests(SynchronousTestCase):
    """
    When hashes are computed.
    """

    def setUp(self) -> None:
        """
        Count the hashes.
        """
        self.hashed = 0

        def counting(content: bytes) -> bytes:
            self.hashed += 1
            return truncated_sha512(content)

        self.patch(seen_module, "truncated_sha512", counting)
        self.seen = SeenMessages()

    def test_asked(self) -> None:
        """Nothing is hashed until somebody asks, and each content then once."""
        for name in "abc":
            self.seen.add_sent(name.encode(), NOW)
        self.assertEqual(self.hashed, 0)
        for _ in range(2):
            self.assertEqual(self.seen.complete_since(), NOW)
            self.assertEqual(self.hashed, 3)

    def test_burst(self) -> None:
        """
        In a burst nothing is hashed, the newest contents stay known, and records are not
        judged until a minute after what was dropped.
        """
        for number in range(10 * MAX_UNHASHED):
            self.seen.add_received(b"%d" % number, NOW + number / 1000)
        self.assertEqual(self.hashed, 0)
        last = 10 * MAX_UNHASHED - 1
        names = [str(number) for number in range(last - 4, last + 1)]
        self.assertEqual(self.seen.listed(NOW + 11), tuple(hashes(*names)))
        self.assertFalse(self.seen.are_foreign(hashes("foreign"), MINUTE + 1, NOW + 60))
        self.assertTrue(self.seen.are_foreign(hashes("foreign"), MINUTE + 2, NOW + 120))
        self.assertFalse(self.seen.are_foreign(hashes("foreign", names[0]), MINUTE + 2, NOW + 120))

    def test_bytes(self) -> None:
        """The contents that wait are bounded in bytes, and none is lost by that."""
        large = bytes(MAX_UNHASHED_BYTES // 8)
        for number in range(20):
            self.seen.add_sent(large + bytes((number,)), NOW + number)
            self.assertLessEqual(self.seen._unhashed_bytes, MAX_UNHASHED_BYTES)
        self.assertEqual(self.seen.complete_since(), NOW)
        self.assertEqual(self.hashed, 20)

    def test_slow(self) -> None:
        """Slow traffic is remembered whole, up to the limit."""
        for number in range(MAX_SEEN):
            self.seen.add_sent(b"%d" % number, NOW + number / 10)
        self.assertEqual(self.seen.complete_since(), NOW)
        self.seen.add_sent(b"one more", NOW + MAX_SEEN)
        self.assertEqual(self.seen.complete_since(), NOW)
        self.seen.add_sent(b"and one", NOW + MAX_SEEN)
        self.assertEqual(self.seen.complete_since(), NOW + 0.1)

    def test_joined(self) -> None:
        """What was seen before a member was alone does not count against it afterwards."""
        for number in range(MAX_SEEN + 10):
            self.seen.add_sent(b"%d" % number, NOW + number / 10)
        self.seen.joined()
        self.assertIsNone(self.seen.complete_since())


class ForeignTests(SynchronousTestCase):
    """
    Judging the records of others.
    """

    def seen(self, *names: str) -> SeenMessages:
        """Return a memory of contents, one received every ten seconds, the last one now."""
        seen = SeenMessages()
        for age, name in zip(range(10 * len(names) - 10, -10, -10), names, strict=True):
            seen.add_received(name.encode(), NOW - age)
        return seen

    def test_overlap(self) -> None:
        """Messages of the last four minutes prove that a publisher is in our part."""
        seen = self.seen(*(f"{number}" for number in range(100)))
        for name, foreign in (("76", False), ("99", False), ("75", True)):
            listed = hashes("elsewhere", name)
            self.assertEqual(seen.are_foreign(listed, MINUTE, NOW), foreign, name)

    def test_old_ones_only(self) -> None:
        """A record that lists only messages that we have seen once says nothing."""
        seen = self.seen(*(f"{number}" for number in range(100)))
        self.assertFalse(seen.are_foreign(hashes("1", "2"), MINUTE, NOW))
        self.assertFalse(seen.are_foreign((), MINUTE, NOW))

    def test_sent(self) -> None:
        """What we have sent is what others list."""
        seen = self.seen("old", *"abcdefgh")
        self.assertTrue(seen.are_foreign(hashes("ours"), MINUTE, NOW))
        seen.add_sent(b"ours", NOW)
        self.assertFalse(seen.are_foreign(hashes("ours"), MINUTE, NOW))

    def test_newcomer(self) -> None:
        """
        What is listed by records published before we had known the messages for a minute
        says nothing; nor do any without messages of our own.
        """
        seen = SeenMessages()
        listed = hashes("foreign")
        self.assertFalse(seen.are_foreign(listed, MINUTE, NOW))
        self.assertIsNone(seen.complete_since())
        seen.add_received(b"first", NOW - 59)
        self.assertFalse(seen.are_foreign(listed, MINUTE, NOW))
        self.assertTrue(seen.are_foreign(listed, MINUTE + 1, NOW + 60))
        seen.joined()
        self.assertIsNone(seen.complete_since())
        seen.add_received(b"second", NOW + 10)
        self.assertFalse(seen.are_foreign(listed, MINUTE + 1, NOW + 60))
        self.assertTrue(seen.are_foreign(listed, MINUTE + 2, NOW + 120))

    def test_fast_traffic(self) -> None:
        """
        The memory is bounded.  When it no longer covers the time of a record, the record
        says nothing: it may list what was dropped.
        """
        for rate, judged in ((30, True), (100, False)):
            seen = SeenMessages()
            for number in range(300 * rate):
                seen.add_received(b"%d" % number, NOW - 300 + number / rate)
            self.assertLessEqual(len(seen._seen) + len(seen._unhashed), MAX_SEEN + MAX_UNHASHED)
            self.assertEqual(seen.are_foreign(hashes("foreign"), MINUTE, NOW), judged, f"{rate} a second")
            dropped = hashes(str(240 * rate))
            self.assertFalse(seen.are_foreign(dropped, MINUTE - 1, NOW))
