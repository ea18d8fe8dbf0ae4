"""
Tests for L{dtt.discovery.candidates}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord, candidates, recent_minutes, unite
from tests.tracker.common import IDS, address

HASHES = [bytes((number,)) * 32 for number in range(1, 3)]


class FoundTests(SynchronousTestCase):
    """
    Tests for L{dtt.discovery.candidates}.
    """

    def test_recent_minutes(self) -> None:
        """The result is the current and the previous minute; minute - 1 saturates at 0."""
        self.assertEqual(recent_minutes(7), (6, 7))
        self.assertEqual(recent_minutes(1), (0, 1))
        self.assertEqual(recent_minutes(0), (0,))

    def test_candidates(self) -> None:
        """
        Publishers and hearsay are returned, each peer once; a publisher is not hearsay;
        excluded peers are left out.
        """
        records = [
            FoundRecord(IDS[1], 1, (IDS[2], IDS[3])),
            FoundRecord(IDS[2], 1, (IDS[3], IDS[4], IDS[0])),
            FoundRecord(IDS[1], 2),
            FoundRecord(IDS[5], 2),
        ]
        self.assertEqual(candidates(records, without=[IDS[0], IDS[5]]), ([IDS[1], IDS[2]], [IDS[3], IDS[4]]))

    def test_unite(self) -> None:
        """The union contains everything from all records of a publisher, once each, in order."""
        united = unite(
            [
                FoundRecord(IDS[1], 1, (IDS[2],), (HASHES[0],), (address(1),)),
                FoundRecord(IDS[3], 1),
                FoundRecord(IDS[1], 1, (IDS[4], IDS[2]), (HASHES[1],), (address(1), address(2))),
            ]
        )
        self.assertEqual(
            united,
            [
                FoundRecord(IDS[1], 1, (IDS[2], IDS[4]), (HASHES[0], HASHES[1]), (address(1), address(2))),
                FoundRecord(IDS[3], 1),
            ],
        )
