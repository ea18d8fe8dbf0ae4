"""
Tests for L{dtt.testing.storage.limits}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.storage.limits import BAN_PACKETS, BAN_SECONDS, UPLOAD_RATE, Limits


class LimitsTests(SynchronousTestCase):
    """
    Tests for L{Limits}.
    """

    def test_ban(self) -> None:
        """The 50th packet within 10 s bans an address for five minutes, and no other one."""
        limits = Limits()
        accepted = [limits.accepts("45.0.0.1", 100 + number / 10) for number in range(60)]
        self.assertEqual(accepted, [True] * (BAN_PACKETS - 1) + [False] * 11)
        self.assertTrue(limits.accepts("45.0.0.2", 106))
        self.assertFalse(limits.accepts("45.0.0.1", 104 + BAN_SECONDS))
        self.assertTrue(limits.accepts("45.0.0.1", 106 + BAN_SECONDS))
        self.assertEqual(limits.bans, 1)

    def test_slow(self) -> None:
        """Who sends four packets a second is never banned."""
        limits = Limits()
        self.assertTrue(all(limits.accepts("45.0.0.1", number / 4) for number in range(1000)))

    def test_many_senders(self) -> None:
        """A node remembers a bounded number of senders."""
        limits = Limits()
        for number in range(1000):
            limits.accepts(f"45.0.{number // 256}.{number % 256}", 1.0)
        self.assertEqual(len(limits._senders), 20)

    def test_upload(self) -> None:
        """Answers beyond 8 kB/s are dropped; a node runs ahead by three seconds."""
        limits = Limits()
        self.assertEqual(sum(limits.sends(1000, 100.0) for _ in range(100)), 24)
        self.assertEqual(sum(limits.sends(1000, 101.0) for _ in range(100)), UPLOAD_RATE // 1000)
        self.assertEqual(limits.dropped, 76 + 92)
