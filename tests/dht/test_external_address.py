"""
Tests for L{dtt.dht.external_address}.
"""

from __future__ import annotations

import ipaddress
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.external_address import (
    CHANGE_LASTS,
    FIRST_LASTS,
    MAX_STRANGERS,
    MAX_VOTERS,
    MIN_VOTERS,
    VOTE_LIFETIME,
    AddressVotes,
)
from dtt.net.networks import Scope
from tests.net.test_networks import ADDRESSES
from tests.sweeps import sized

OURS = b"\x05\x06\x07\x08"
LIE = b"\x09\x09\x09\x09"


class AddressVotesTests(SynchronousTestCase):
    """
    Votes on the external address.
    """

    def setUp(self) -> None:
        self.votes = AddressVotes()
        self.now = 1000.0

    def elect(self, ip: bytes, first: int, count: int) -> list[bool]:
        """
        Let networks vote, one after the other.
        """
        voters = [bytes((10, 0, number, 1)) for number in range(first, first + count)]
        return [self.votes.vote(voter, ip, self.now) for voter in voters]

    def wait(self, seconds: float) -> bool:
        """
        Return whether the elected address changes within some seconds, without votes.
        """
        changed = False
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            changed = self.votes.count(self.now) or changed
        return changed

    def test_enough_voters(self) -> None:
        """
        Nothing is elected until enough networks have voted, and then once.
        """
        self.elect(OURS, 0, MIN_VOTERS - 1)
        self.assertFalse(self.wait(60.0))
        self.elect(OURS, 50, 2)
        self.assertTrue(self.wait(FIRST_LASTS))
        self.assertFalse(self.wait(60.0))
        self.assertEqual(self.votes.elected, OURS)

    def test_first_lasts(self) -> None:
        """
        Those who answer first do not decide: later votes count too.
        """
        self.assertFalse(any(self.elect(LIE, 0, MIN_VOTERS + 1)))
        self.wait(FIRST_LASTS - 1.0)
        self.elect(OURS, 20, MIN_VOTERS + 3)
        self.wait(60.0)
        self.assertEqual(self.votes.elected, OURS)

    def test_elected_by_a_vote(self) -> None:
        """
        A vote may complete the election.
        """
        self.elect(OURS, 0, MIN_VOTERS)
        self.now += FIRST_LASTS
        self.assertEqual(self.elect(OURS, 20, 2), [True, False])

    def test_one_vote_each(self) -> None:
        """
        A host that votes repeatedly has one vote, and so have all hosts of a network
        (/24, or /48 of IPv6) together.
        """
        for number in range(100):
            self.votes.vote(bytes((10, 0, 0, number)), LIE, self.now)
        self.wait(60.0)
        six = AddressVotes()
        ours = ipaddress.IPv6Address("2a00::1").packed
        for number in range(1000):
            voter = ipaddress.IPv6Address(f"2a00:77:1:{number:x}::{number:x}").packed
            self.assertFalse(six.vote(voter, ours, self.now))
            self.now += 0.1
        for _ in range(100):
            self.votes.vote(b"\x0a\0\0\x01", LIE, self.now)
        self.wait(60.0)
        self.assertFalse(six.count(self.now))
        self.assertEqual((self.votes.elected, six.elected), (None, None))

    def test_majority(self) -> None:
        """
        Half of the votes is not enough; more than half is.
        """
        self.elect(LIE, 0, MIN_VOTERS // 2)
        self.elect(OURS, 10, MIN_VOTERS // 2)
        self.assertFalse(self.wait(60.0))
        self.elect(OURS, 30, 1)
        self.assertTrue(self.wait(FIRST_LASTS))

    def test_only_global(self) -> None:
        """
        No address is elected at which nobody could reach us, however many vote for it;
        nor is one saved by an earlier version used.
        """
        for scope, hosts in ADDRESSES.items():
            for host in hosts:
                ip = ipaddress.ip_address(host).packed
                votes = AddressVotes(ip)
                native = len(ip) == 4 or ip[0] >> 5 == 1
                expected = ip if scope is Scope.GLOBAL and native else None
                self.assertEqual(votes.elected, expected, host)
                votes = AddressVotes()
                for number in range(2 * MIN_VOTERS):
                    voter = bytes((10, 0, number, 1)) if len(ip) == 4 else bytes((32, 1, number)) * 5 + b"x"
                    votes.vote(voter, ip, float(number))
                votes.count(1000.0 - VOTE_LIFETIME)
                self.assertEqual(votes.elected, expected, host)

    def test_strangers(self) -> None:
        """
        The network of a node that came to us has no vote, and a bounded number of such
        networks is remembered.
        """
        for number in range(2 * MIN_VOTERS):
            self.votes.exclude(bytes((10, 0, number, 77)))
        self.elect(LIE, 0, 2 * MIN_VOTERS)
        self.wait(60.0)
        self.assertIsNone(self.votes.elected)
        self.elect(OURS, 100, MIN_VOTERS)
        self.assertTrue(self.wait(60.0))
        for number in range(2 * MAX_STRANGERS):
            self.votes.exclude(bytes((11, number >> 8, number & 255, 1)))
        self.assertEqual(len(self.votes._strangers), MAX_STRANGERS)

    def test_change(self) -> None:
        """
        When the address changes, the latest votes prevail after a while.
        """
        self.elect(OURS, 0, MAX_VOTERS)
        self.wait(60.0)
        self.assertFalse(any(self.elect(LIE, 100, MAX_VOTERS)))
        self.assertFalse(self.wait(CHANGE_LASTS - 1.0))
        self.assertTrue(self.wait(2.0))
        self.assertEqual(self.votes.elected, LIE)

    def test_change_with_few_voters(self) -> None:
        """
        Old votes expire, so that few networks can report a change.
        """
        self.elect(OURS, 0, 2 * MIN_VOTERS)
        self.wait(60.0)
        for _ in range(12):
            self.elect(LIE, 100, MIN_VOTERS)
            self.wait(VOTE_LIFETIME / 10)
        self.assertEqual(self.votes.elected, LIE)

    def test_no_flapping(self) -> None:
        """
        A NAT that uses two addresses, or nodes that vote for another one, do not change
        the elected one again and again.
        """
        for seed in range(sized(2, 8)):
            rng = Random(seed)
            self.votes = AddressVotes()
            changes = 0
            for _ in range(3600):
                ip = OURS if rng.random() < 0.5 else LIE
                changes += self.elect(ip, rng.randrange(200), 1)[0]
                changes += self.wait(1.0)
            self.assertLessEqual(changes, 1, f"seed {seed}")

    def test_interrupted_majority(self) -> None:
        """
        A majority that does not last elects nobody.
        """
        self.elect(OURS, 0, 30)
        self.wait(60.0)
        for _ in range(10):
            self.elect(LIE, 0, 30)
            self.assertFalse(self.wait(CHANGE_LASTS - 2.0))
            self.elect(OURS, 0, 30)
            self.assertFalse(self.wait(2.0))
        self.assertEqual(self.votes.elected, OURS)
