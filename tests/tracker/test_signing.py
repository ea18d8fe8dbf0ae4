"""
Tests for L{dtt.tracker.signing}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.records.envelope import unseal
from dtt.tracker.signing import Signing

TOPIC, KEY = b"t" * 32, PeerKey(b"k" * 32)


class SigningTests(SynchronousTestCase):
    """
    The messages of a topic.
    """

    def test_counters_grow(self) -> None:
        """
        Each message has a higher counter, at the same time, after the clock was set back, and after
        a restart.
        """
        clock = Clock()
        clock.advance(1_800_000_000)
        counters = []
        for _ in range(2):
            signing = Signing(TOPIC, KEY, clock.seconds, lambda event: None)
            for passed in (0, 0, 1.5, -3600):
                clock.rightNow += passed
                message = unseal(TOPIC, signing.seal(b""))
                self.assertEqual((message.author, message.time), (KEY.peer_id, int(clock.seconds() * 1000)))
                counters.append(message.counter)
            clock.rightNow += 7200
        self.assertEqual(counters, sorted(set(counters)))

    def test_before_1970(self) -> None:
        """A clock that was never set does not raise."""
        self.assertEqual(unseal(TOPIC, Signing(TOPIC, KEY, lambda: -5.0, lambda _: None).seal(b"x")).time, 0)
