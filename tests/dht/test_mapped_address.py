"""
Tests for L{dtt.dht.mapped_address}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.mapped_address import MAX_VOTERS, MIN_VOTES, MappingKind, MappingVotes

OURS, NEW = bytes((203, 0, 113, 1)), bytes((198, 51, 100, 1))


def voter(number: int) -> bytes:
    """
    Return the address of a node in a separate network.
    """
    return bytes((45, number >> 8, number & 255, 1))


class MappingVotesTests(SynchronousTestCase):
    """
    Elections.
    """

    def setUp(self) -> None:
        self.votes = MappingVotes()

    def test_elected(self) -> None:
        """
        Three equal votes from three networks elect; each change is reported once.
        """
        changed = [self.votes.vote(voter(n), OURS, 6881) for n in range(5)]
        self.assertEqual(changed, [False, False, True, False, False])
        self.assertEqual(self.votes.elected, (OURS, 6881))
        self.assertIs(self.votes.kind, MappingKind.ENDPOINT_INDEPENDENT)

    def test_one_vote_per_network(self) -> None:
        """
        Many nodes of one network have one vote.
        """
        for last in range(200):
            self.votes.vote(bytes((45, 1, 1, last)), NEW, last)
        self.assertEqual((self.votes.elected, self.votes.kind), (None, MappingKind.UNKNOWN))
        self.assertEqual(self.votes.voters, 1)
        for number in range(MIN_VOTES):
            self.votes.vote(voter(number), OURS, 6881)
        self.assertEqual(self.votes.elected, (OURS, 6881))
        for last in range(200):
            self.votes.vote(bytes(15) + bytes((last,)), bytes(16), last)
        self.assertEqual(self.votes.voters, 2 + MIN_VOTES)

    def test_liars(self) -> None:
        """
        A few liars among many do not change what is elected, in any order of answers.
        """
        for seed in range(100):
            self.votes = MappingVotes()
            rng = Random(seed)
            for number in range(10):
                self.votes.vote(voter(number), OURS, 6881)
            switched = 0
            for number in range(10, 200):
                lies = rng.random() < 0.1
                self.votes.vote(voter(number), NEW if lies else OURS, 1 if lies else 6881)
                switched += self.votes.elected != (OURS, 6881)
            self.assertLess(switched, 20, f"seed {seed}")
            self.assertLessEqual(self.votes.voters, MAX_VOTERS)

    def test_symmetric(self) -> None:
        """
        Another port for each of four voters is a symmetric NAT: nothing is elected.
        """
        changed = [self.votes.vote(voter(n), OURS, 1000 + n) for n in range(5)]
        self.assertEqual(changed, [False, False, False, True, False])
        self.assertEqual((self.votes.elected, self.votes.kind), (None, MappingKind.SYMMETRIC))

    def test_moved(self) -> None:
        """
        After a change of the address three votes suffice, also into and out of a
        symmetric NAT.
        """
        for number in range(MAX_VOTERS):
            self.votes.vote(voter(number), OURS, 6881)
        changed = [self.votes.vote(voter(100 + n), NEW, 7000) for n in range(MIN_VOTES)]
        self.assertEqual(changed, [False, False, True])
        self.assertEqual(self.votes.elected, (NEW, 7000))
        for number in range(MAX_VOTERS):
            self.votes.vote(voter(200 + number), OURS, 2000 + number)
        self.assertEqual((self.votes.elected, self.votes.kind), (None, MappingKind.SYMMETRIC))
        for number in range(MIN_VOTES):
            self.votes.vote(voter(300 + number), OURS, 6881)
        self.assertEqual(self.votes.elected, (OURS, 6881))

    def test_moves(self) -> None:
        """
        A known address that is replaced by another one is a move; what is learned at first,
        and what is confirmed, is none.
        """
        for number in range(10):
            self.votes.vote(voter(number), OURS, 6881)
        self.assertEqual((self.votes.moves, self.votes.ip), (0, OURS))
        self.assertTrue(self.votes.is_known(OURS, 6881))
        self.assertFalse(self.votes.is_known(OURS, 6882))
        for number in range(3):
            self.votes.vote(voter(number), NEW, 6881)
        self.assertEqual((self.votes.moves, self.votes.ip), (1, NEW))
        for number in range(3):
            self.votes.vote(voter(number), NEW, 7000)
        self.assertEqual(self.votes.moves, 2)

    def test_moves_of_symmetric(self) -> None:
        """
        The same behind a NAT that uses another port for each destination, of which the IP
        address is known.
        """
        for number in range(10):
            self.votes.vote(voter(number), OURS, 1000 + number)
        self.assertEqual((self.votes.elected, self.votes.ip, self.votes.moves), (None, OURS, 0))
        self.assertTrue(self.votes.is_known(OURS, 5))
        self.assertFalse(self.votes.is_known(NEW, 5))
        changed = [self.votes.vote(voter(number), NEW, 2000 + number) for number in range(4)]
        self.assertEqual((changed, self.votes.ip, self.votes.moves), ([False, False, False, True], NEW, 1))

    def test_forget(self) -> None:
        """
        After a change of the network what was elected stays until three votes say
        something else, however many there were before.
        """
        for number in range(30):
            self.votes.vote(voter(number), OURS, 6881)
        self.votes.forget()
        self.assertEqual((self.votes.elected, self.votes.voters), ((OURS, 6881), 0))
        for number in range(3):
            self.votes.vote(voter(number), NEW, 1)
        self.assertEqual((self.votes.elected, self.votes.moves), ((NEW, 1), 1))
