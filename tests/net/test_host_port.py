"""
Tests for L{dtt.net.host_port}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import UsageError
from dtt.net.host_port import MAX_HOST, parse_host_port, parse_port


class HostPortTests(SynchronousTestCase):
    """
    What is accepted, and what is not.
    """

    def test_ports(self) -> None:
        """
        A port is a decimal number in 0..65535; zeros before it do not count.
        """
        for text, port in (("0", 0), ("000", 0), ("6881", 6881), ("65535", 65535), ("0" * 5000 + "80", 80)):
            self.assertEqual(parse_port(text), port)

    def test_wrong_ports(self) -> None:
        """
        Anything else is a L{UsageError}, whatever its length and script.
        """
        for text in ("", "-1", "+1", " 1", "1 ", "1_0", "0x10", "1.0", "٣", "65536", "9" * 10_000):
            self.assertRaises(UsageError, parse_port, text)

    def test_hosts(self) -> None:
        """
        A host is a name, an IPv4 address, or an IPv6 address in brackets.
        """
        longest = "x" * MAX_HOST
        for text, expected in (
            ("192.0.2.1:6881", ("192.0.2.1", 6881)),
            ("router.example:0", ("router.example", 0)),
            ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
            (f"{longest}:1", (longest, 1)),
        ):
            self.assertEqual(parse_host_port(text), expected)

    def test_wrong_hosts(self) -> None:
        """
        A missing host or port, an IPv6 address without brackets, brackets around anything
        else, and characters that no host has are refused with one short line.
        """
        for text in (
            "",
            ":",
            "host",
            ":6881",
            "host:",
            "2001:db8::1:6881",
            "[2001:db8::1]",
            "[192.0.2.1]:1",
            "[]:1",
            "http://host:1",
            "user@host:1",
            "ho st:1",
            "host\n:1",
            "host:1:2",
            "host:-1",
            "x" * (MAX_HOST + 1) + ":1",
        ):
            error = self.assertRaises(UsageError, parse_host_port, text)
            self.assertNotIn("\n", str(error))
            self.assertLess(len(str(error)), 200)

    def test_range(self) -> None:
        """
        A port out of range is named as such, with the whole argument.
        """
        error = self.assertRaises(UsageError, parse_host_port, "host:70000")
        self.assertEqual(str(error), "'host:70000': port 70000 is out of range; ports are 0..65535")
