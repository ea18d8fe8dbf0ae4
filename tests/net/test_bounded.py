"""
Tests for L{dtt.net.bounded}.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.bounded import SWEEP, make_room


class MakeRoomTests(SynchronousTestCase):
    """
    L{make_room}, before an entry is added.
    """

    def test_below_the_capacity(self) -> None:
        """
        Nothing is removed while there is room and nothing has expired.
        """
        table = OrderedDict(a=2.0, b=3.0)
        make_room(table, 1.0, 3)
        self.assertEqual(list(table), ["a", "b"])

    def test_expired(self) -> None:
        """
        Expired entries are removed, also while there is room; the limit counts as expired.
        """
        table = OrderedDict(a=1.0, b=2.0, c=2.5)
        make_room(table, 2.0, 100)
        self.assertEqual(list(table), ["c"])

    def test_full(self) -> None:
        """
        If none has expired, the oldest entry is evicted, and only this one.
        """
        table = OrderedDict(a=5.0, b=6.0, c=7.0)
        make_room(table, 1.0, 3)
        self.assertEqual(list(table), ["b", "c"])

    def test_expired_make_room(self) -> None:
        """
        If an expired entry has made room, none is evicted.
        """
        table = OrderedDict(a=1.0, b=6.0, c=7.0)
        make_room(table, 1.0, 3)
        self.assertEqual(list(table), ["b", "c"])

    def test_few_at_a_time(self) -> None:
        """
        One call removes a bounded number of expired entries, the oldest ones.
        """
        table = OrderedDict((number, float(number)) for number in range(3 * SWEEP))
        make_room(table, 1e9, 10**6)
        self.assertEqual(list(table), list(range(SWEEP, 3 * SWEEP)))

    def test_bounded(self) -> None:
        """
        With room made before each addition, a table never exceeds its capacity.
        """
        table: OrderedDict[int, float] = OrderedDict()
        for number in range(100):
            make_room(table, number - 30.0, 20)
            table[number] = float(number)
            self.assertLessEqual(len(table), 20)
        self.assertEqual(list(table), list(range(80, 100)))
