"""
Tests for L{dtt.transport.streams.introductions}.
"""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.transport.streams.frames import MAX_RENDEZVOUS, Rendezvous
from dtt.transport.streams.introductions import BURST, INTERVAL, Introductions

OWN, ASKER, TARGET, NEIGHBOR, OTHER = (PeerKey.from_seed(bytes((n,)) * 32).peer_id for n in range(5))
SEEN = ("203.0.113.1", 1)
NAMED = tuple((f"10.0.0.{number}", 1) for number in range(MAX_RENDEZVOUS))


def request(target: bytes = TARGET, asker: bytes = OTHER) -> Rendezvous:
    """
    What an asker sends to a neighbour; it can write any asker.
    """
    return Rendezvous(5, False, asker, target, NAMED)


class IntroductionsTestCase(SynchronousTestCase):
    """
    The introductions of one member.
    """

    def setUp(self) -> None:
        self.counters: Counter[str] = Counter()
        self.introductions = Introductions(OWN, self.counters)


class ForwardedTests(IntroductionsTestCase):
    """
    Requests of askers.
    """

    def test_forwarded(self) -> None:
        """
        The target gets the sender as the asker, whatever the request says, its addresses, and our channel.
        """
        forwarded = self.introductions.forwarded(ASKER, request(), 7, None, 0.0)
        self.assertEqual(forwarded, Rendezvous(7, True, ASKER, TARGET, NAMED))
        self.assertEqual(self.counters, {"rendezvous_forwarded": 1})

    def test_seen(self) -> None:
        """
        The address at which we see the asker comes first, once, and takes the place of the last one.
        """
        for seen, expected in (
            (SEEN, (SEEN, *NAMED[:-1])),
            (NAMED[2], (NAMED[2], NAMED[0], NAMED[1], NAMED[3])),
        ):
            forwarded = self.introductions.forwarded(ASKER, request(), 7, seen, 0.0)
            assert forwarded is not None
            self.assertEqual(forwarded.addresses, expected)

    def test_limit_of_an_asker(self) -> None:
        """
        An asker has a burst of introductions, whichever targets it names, and then one each interval;
        another one is not affected.
        """
        targets = [number.to_bytes(32, "big") for number in range(BURST + 5)]
        done = [self.introductions.forwarded(ASKER, request(each), 7, SEEN, 0.0) for each in targets]
        self.assertEqual([each is not None for each in done], [True] * BURST + [False] * 5)
        self.assertEqual(self.counters, {"rendezvous_forwarded": BURST, "rendezvous_limit": 5})
        self.assertIsNotNone(self.introductions.forwarded(OTHER, request(), 7, SEEN, 0.0))
        for expected in (True, False):
            forwarded = self.introductions.forwarded(ASKER, request(), 7, SEEN, INTERVAL)
            self.assertEqual(forwarded is not None, expected)

    def test_limit_of_a_target(self) -> None:
        """
        A target is told of a burst of askers, however many there are; another one is not affected.
        """
        askers = [number.to_bytes(32, "big") for number in range(BURST + 5)]
        done = [self.introductions.forwarded(each, request(), 7, SEEN, 0.0) for each in askers]
        self.assertEqual([each is not None for each in done], [True] * BURST + [False] * 5)
        self.assertIsNotNone(self.introductions.forwarded(ASKER, request(OTHER), 7, SEEN, 0.0))


class AcceptsTests(IntroductionsTestCase):
    """
    Introductions by neighbours.
    """

    def introduction(self, asker: bytes = ASKER, target: bytes = OWN) -> Rendezvous:
        """
        What a neighbour sends.
        """
        return Rendezvous(5, True, asker, target, NAMED)

    def test_accepted(self) -> None:
        """
        An introduction to us is accepted.
        """
        self.assertTrue(self.introductions.accepts(NEIGHBOR, self.introduction(), 0.0))
        self.assertEqual(self.counters, {"rendezvous_received": 1})

    def test_refused(self) -> None:
        """
        One to somebody else, one from ourselves, and one from an id that is no key, are refused; they do not
        count against the neighbour's burst.
        """
        wrong = (
            self.introduction(target=TARGET),
            self.introduction(asker=OWN),
            self.introduction(asker=b"\xff" * 32),
        )
        for _ in range(BURST):
            for each in wrong:
                self.assertFalse(self.introductions.accepts(NEIGHBOR, each, 0.0))
        self.assertEqual(self.counters, {"rendezvous_refused": 3 * BURST})
        self.assertTrue(self.introductions.accepts(NEIGHBOR, self.introduction(), 0.0))

    def test_limit(self) -> None:
        """
        A neighbour may introduce a burst, and then one each interval; another one is not affected.
        """
        accepted = [self.introductions.accepts(NEIGHBOR, self.introduction(), 0.0) for _ in range(BURST + 5)]
        self.assertEqual(accepted, [True] * BURST + [False] * 5)
        self.assertEqual(self.counters, {"rendezvous_received": BURST, "rendezvous_limit": 5})
        self.assertTrue(self.introductions.accepts(OTHER, self.introduction(), 0.0))
        self.assertTrue(self.introductions.accepts(NEIGHBOR, self.introduction(), INTERVAL))
