"""
Tests for L{dtt.dht.external_address}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.external_address import MAX_VOTERS, MIN_VOTERS, AddressVotes

OURS = b"\x05\x06\x07\x08"
LIE = b"\x09\x09\x09\x09"


class AddressVotesTests(SynchronousTestCase):
    """
    Votes on the external address.
    """

    def setUp(self) -> None:
        self.votes = AddressVotes()

    def elect(self, ip: bytes, first: int, count: int) -> list[bool]:
        return [self.votes.vote(bytes((10, 0, number, 1)), ip) for number in range(first, first + count)]

    def test_enough_voters(self) -> None:
        """
        Nothing is elected until enough hosts have voted, and then once.
        """
        self.assertEqual(self.elect(OURS, 0, MIN_VOTERS - 1), [False] * (MIN_VOTERS - 1))
        self.assertIsNone(self.votes.elected)
        self.assertEqual(self.elect(OURS, 50, 2), [True, False])
        self.assertEqual(self.votes.elected, OURS)

    def test_one_vote_each(self) -> None:
        """
        A host that votes repeatedly has one vote, and so have all hosts of a network
        (/24, or /64 of IPv6) together.
        """
        for number in range(100):
            self.assertFalse(self.votes.vote(bytes((10, 0, 0, number)), LIE))
            self.assertFalse(self.votes.vote(bytes(15) + bytes((number,)), LIE))
        for _ in range(100):
            self.assertFalse(self.votes.vote(b"\x0a\0\0\x01", LIE))
        self.assertIsNone(self.votes.elected)

    def test_majority(self) -> None:
        """
        Half of the votes is not enough; more than half is.
        """
        self.elect(LIE, 0, MIN_VOTERS // 2)
        self.assertEqual(self.elect(OURS, 10, MIN_VOTERS // 2), [False] * (MIN_VOTERS // 2))
        self.assertEqual(self.elect(OURS, 30, 1), [True])

    def test_change(self) -> None:
        """
        When the address changes, the latest votes eventually prevail.
        """
        self.elect(OURS, 0, MAX_VOTERS)
        changed = self.elect(LIE, 100, MAX_VOTERS)
        self.assertEqual(changed.count(True), 1)
        self.assertEqual(self.votes.elected, LIE)
