"""
Tests for L{dtt.net.local}.
"""

from __future__ import annotations

import socket
from typing import Self

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.local import local_addresses


class FakeSocket:
    """
    A UDP socket whose kernel behaves as the test says.
    """

    answers: dict[int, str | None]

    def __init__(self, family: int, kind: int) -> None:
        self.answer = self.answers[family]
        assert kind == socket.SOCK_DGRAM

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def connect(self, address: tuple[str, int]) -> None:
        """
        Fail if there is no route.
        """
        if self.answer is None:
            raise OSError(101, "Network is unreachable")

    def getsockname(self) -> tuple[str | None, int]:
        """
        Return the source address that the kernel selects.
        """
        return self.answer, 40000


class LocalAddressesTests(SynchronousTestCase):
    """
    Tests for L{local_addresses}.
    """

    def addresses(self, ipv4: str | None, ipv6: str | None) -> tuple[str, ...]:
        """
        Return the local addresses, given the kernel's answers.
        """
        answers = {socket.AF_INET: ipv4, socket.AF_INET6: ipv6}
        fake = type("Fake", (FakeSocket,), {"answers": answers})
        self.patch(socket, "socket", fake)
        return local_addresses()

    def test_both_families(self) -> None:
        """
        IPv4 comes before IPv6.
        """
        self.assertEqual(self.addresses("192.0.2.1", "2001:db8::1"), ("192.0.2.1", "2001:db8::1"))

    def test_no_network(self) -> None:
        """
        Without a route there is no address.
        """
        self.assertEqual(self.addresses(None, None), ())

    def test_useless_addresses(self) -> None:
        """
        Loopback, link-local and unspecified addresses are excluded.
        """
        self.assertEqual(self.addresses("127.0.0.1", "fe80::1%eth0"), ())
        self.assertEqual(self.addresses("0.0.0.0", "::1"), ())
