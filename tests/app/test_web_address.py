"""
Tests for L{dtt.app.web_address}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.web_address import parse_web


class ParseTests(SynchronousTestCase):
    """
    Tests for L{parse_web}.
    """

    def test_forms(self) -> None:
        """Without an address it is this machine alone."""
        for text, expected in (
            ("tcp:8470", ("127.0.0.1", 8470)),
            ("tcp:0", ("127.0.0.1", 0)),
            ("tcp:8470:interface=0.0.0.0", ("0.0.0.0", 8470)),
            (r"tcp:8470:interface=\:\:1", ("::1", 8470)),
            ("tcp:8470:interface=[::1]", ("::1", 8470)),
            ("127.0.0.1:8470", ("127.0.0.1", 8470)),
            ("[::1]:8470", ("::1", 8470)),
        ):
            self.assertEqual(parse_web(text), expected, text)

    def test_refused(self) -> None:
        """Anything else is refused."""
        for text in (
            "",
            "tcp",
            "tcp:",
            "tcp:x",
            "tcp:99999",
            "tcp:-1",
            "tcp:80:localhost",
            "tcp:80:interface",
            "tcp:80:backlog=5",
            "tcp:80:interface=localhost",
            "unix:/x",
            "ssl:443",
            "localhost:80",
            "8470",
        ):
            with self.assertRaises(ValueError, msg=text):
                parse_web(text)
        with self.assertRaisesRegex(ValueError, "expected tcp:PORT or tcp:PORT:interface=HOST, not '8470'"):
            parse_web("8470")
