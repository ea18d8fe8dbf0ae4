"""
Tests for L{dtt.dht.server.tokens}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.tokens import ROTATION_INTERVAL, Tokens

_IP = b"\x0a\x00\x00\x01"
_TARGET = b"t" * 20


class TokensTests(SynchronousTestCase):
    """
    L{Tokens}.
    """

    def setUp(self) -> None:
        """
        Tokens from second 1000 on.
        """
        self.tokens = Tokens(Random(1), 1000.0)

    def test_own(self) -> None:
        """
        A token has 8 bytes and is valid for its IP and target only.
        """
        token = self.tokens.token(_IP, _TARGET, 1000.0)
        self.assertEqual(len(token), 8)
        self.assertTrue(self.tokens.is_valid(token, _IP, _TARGET, 1000.0))
        self.assertFalse(self.tokens.is_valid(token, b"\x0a\x00\x00\x02", _TARGET, 1000.0))
        self.assertFalse(self.tokens.is_valid(token, _IP, b"u" * 20, 1000.0))

    def test_forged(self) -> None:
        """
        Other bytes, of any length, and tokens of another secret are not valid.
        """
        token = self.tokens.token(_IP, _TARGET, 1000.0)
        other = Tokens(Random(2), 1000.0).token(_IP, _TARGET, 1000.0)
        for forged in (b"", token[:-1], token + b"x", bytes(8), bytes(1000), other):
            self.assertFalse(self.tokens.is_valid(forged, _IP, _TARGET, 1000.0))

    def test_lifetime(self) -> None:
        """
        A token survives one change of the secret, but not two.
        """
        token = self.tokens.token(_IP, _TARGET, 1000.0)
        self.assertEqual(self.tokens.token(_IP, _TARGET, 999.0 + ROTATION_INTERVAL), token)
        self.assertNotEqual(self.tokens.token(_IP, _TARGET, 1000.0 + ROTATION_INTERVAL), token)
        self.assertTrue(self.tokens.is_valid(token, _IP, _TARGET, 999.0 + 2 * ROTATION_INTERVAL))
        self.assertFalse(self.tokens.is_valid(token, _IP, _TARGET, 1000.0 + 2 * ROTATION_INTERVAL))

    def test_idle(self) -> None:
        """
        After a long time without any call an old token is not valid.
        """
        token = self.tokens.token(_IP, _TARGET, 1000.0)
        self.assertFalse(self.tokens.is_valid(token, _IP, _TARGET, 1000.0 + 2 * ROTATION_INTERVAL))

    def test_late_change(self) -> None:
        """
        A token older than two rotation intervals is not valid, however rarely there are
        calls.
        """
        token = self.tokens.token(_IP, _TARGET, 1000.0)
        self.assertTrue(self.tokens.is_valid(token, _IP, _TARGET, 990.0 + 2 * ROTATION_INTERVAL))
        self.assertFalse(self.tokens.is_valid(token, _IP, _TARGET, 1010.0 + 2 * ROTATION_INTERVAL))
