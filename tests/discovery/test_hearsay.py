"""
Tests for L{dtt.discovery.hearsay}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.hearsay import MAX_NAMED, MAX_PUBLISHERS, WINDOW, Hearsay


def peer(number: int) -> bytes:
    """Return an id."""
    return number.to_bytes(32)


class HearsayTests(SynchronousTestCase):
    """
    Tests for L{Hearsay}.
    """

    def named(self, hearsay: Hearsay, publisher: int, peers: range, now: float) -> list[int]:
        """Return whom a publisher may name."""
        record = FoundRecord(peer(publisher), 1, tuple(map(peer, peers)))
        publishers, found = hearsay.candidates([record], now)
        self.assertEqual(publishers, [peer(publisher)])
        return [int.from_bytes(each) for each in found]

    def test_limit(self) -> None:
        """
        A publisher may name ten members a minute, and these as often as it likes.
        """
        hearsay = Hearsay()
        self.assertEqual(self.named(hearsay, 1, range(100, 105), 0.0), list(range(100, 105)))
        self.assertEqual(self.named(hearsay, 1, range(105, 110), 10.0), list(range(105, 110)))
        self.assertEqual(self.named(hearsay, 1, range(110, 115), 20.0), [])
        self.assertEqual(self.named(hearsay, 1, range(100, 105), 20.0), list(range(100, 105)))
        self.assertEqual(self.named(hearsay, 2, range(110, 115), WINDOW), list(range(110, 115)))
        self.assertEqual(self.named(hearsay, 1, range(115, 120), WINDOW + 11), list(range(115, 120)))

    def test_all(self) -> None:
        """All publishers together may name ten members, in turns; these may be named again."""
        hearsay = Hearsay()
        records = [
            FoundRecord(peer(number), 1, tuple(peer(10 * number + each) for each in range(5)))
            for number in range(1, 5)
        ]
        _, named = hearsay.candidates(records, 0.0)
        self.assertEqual([int.from_bytes(each) for each in named], [10, 11, 12, 20, 21, 22, 30, 31, 40, 41])
        self.assertEqual(hearsay.candidates(records, 30.0)[1], named)
        self.assertEqual(self.named(hearsay, 9, range(90, 95), 30.0), [])
        self.assertEqual(self.named(hearsay, 9, range(90, 95), WINDOW), [90, 91, 92, 93, 94])

    def test_many_in_one_record(self) -> None:
        """The limit holds within one record, too."""
        self.assertEqual(len(self.named(Hearsay(), 1, range(100, 150), 0.0)), MAX_NAMED)

    def test_bounded(self) -> None:
        """The number of remembered publishers is limited."""
        hearsay = Hearsay()
        for number in range(1, MAX_PUBLISHERS + 10):
            self.named(hearsay, number, range(0), 0.0)
        self.assertEqual(len(hearsay._named), MAX_PUBLISHERS)
