"""
Tests for L{dtt.counters}.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from dtt.counters import snake_case


class SnakeCaseTests(SynchronousTestCase):
    """
    Tests for L{snake_case}.
    """

    def test_names(self) -> None:
        """Phrases and names of exceptions become snake_case."""
        for reason, name in (
            ("slow reader", "slow_reader"),
            ("bencode: keys not sorted", "bencode_keys_not_sorted"),
            ("ConnectionLost", "connection_lost"),
            ("search_timed_out", "search_timed_out"),
            ("no ALPN", "no_alpn"),
            ("the peer's key", "the_peer_s_key"),
            ("HTTP 404.", "http_404"),
            ("", ""),
        ):
            self.assertEqual(snake_case(reason), name)

    def test_always(self) -> None:
        """The result has neither spaces nor punctuation, whatever the reason."""
        for code in range(128):
            self.assertTrue(re.fullmatch(r"\w*", snake_case(f"a{chr(code)}b")), code)
