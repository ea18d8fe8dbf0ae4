"""
Tests for L{dtt.net.local}.
"""

from __future__ import annotations

import socket
from typing import Self

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.net.local import (
    interfaces_of,
    ipv6_interface,
    listening_addresses,
    local_addresses,
    only_ipv6,
    why_unreachable,
)
from dtt.testing.net.machines import MachineNetwork


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


class ListeningAddressesTests(SynchronousTestCase):
    """
    L{listening_addresses} and L{why_unreachable}.
    """

    def check(
        self, bound: list[str], interfaces: tuple[str, ...], expected: list[str], reason: str | None
    ) -> None:
        """
        Check the hosts that are listed, and why there are none.
        """
        pairs = [(host, 1) for host in bound]
        listed = listening_addresses(pairs, None, interfaces, loopback=False)
        self.assertEqual(listed, [(host, 1) for host in expected])
        if reason is not None:
            self.assertEqual(why_unreachable(bound, interfaces), reason)

    def test_listed(self) -> None:
        """
        A wildcard address stands for addresses of its family only; loopback is listed
        only if others may be on this machine.
        """
        both = ("80.0.0.1", "2a00::1")
        self.check(["0.0.0.0"], both, ["80.0.0.1"], None)
        self.check(["::"], both, ["2a00::1"], None)
        self.check(
            ["0.0.0.0"],
            ("2a00::1",),
            [],
            "it listens on IPv4 only, and this machine has only IPv6",
        )
        self.check(["::"], ("80.0.0.1",), [], "it listens on IPv6 only, and this machine has only IPv4")
        self.check(["0.0.0.0", "::"], (), [], "this machine has no default route")
        self.check(["127.0.0.1", "::1"], both, [], "it listens on loopback addresses only")
        self.check(["127.0.0.1", "80.0.0.1"], both, ["80.0.0.1"], None)

    def test_on_this_machine(self) -> None:
        """
        In a network on this machine, loopback is listed if there is nothing else; but
        not in place of a family that the machine lacks.
        """
        for host, interfaces, expected in (
            ("127.0.0.1", ("80.0.0.1",), ["127.0.0.1"]),
            ("0.0.0.0", (), ["127.0.0.1"]),
            ("::", (), ["::1"]),
            ("0.0.0.0", ("2a00::1",), []),
        ):
            listed = listening_addresses([(host, 1)], None, interfaces)
            self.assertEqual(listed, [(each, 1) for each in expected])

    def test_only_ipv6(self) -> None:
        """
        A machine without any address may get one of any family.
        """
        self.assertTrue(only_ipv6(("2a00::1", "fd00::1")))
        self.assertFalse(only_ipv6(("2a00::1", "80.0.0.1")))
        self.assertFalse(only_ipv6(("80.0.0.1",)))
        self.assertFalse(only_ipv6(()))

    def test_ipv6_interface(self) -> None:
        """
        By default IPv6 is used on machines with a global address of it, and on those that
        have nothing else, unless an IPv4 address is given.
        """
        for setting, bind, interfaces, expected in (
            ("auto", "", ("80.0.0.1", "2a00::1"), "::"),
            ("auto", "0.0.0.0", ("192.168.1.2", "2a00::1"), "::"),
            ("auto", "", ("80.0.0.1", "fd00::1"), None),
            ("auto", "", ("80.0.0.1",), None),
            ("auto", "", (), None),
            ("auto", "", ("fd00::1",), "::"),
            ("auto", "127.0.0.1", ("80.0.0.1", "2a00::1"), None),
            ("off", "", ("80.0.0.1", "2a00::1"), None),
            ("off", "", ("2a00::1",), None),
            ("::", "127.0.0.1", (), "::"),
            ("2a00::1", "", (), "2a00::1"),
        ):
            self.assertEqual(ipv6_interface(setting, bind, interfaces), expected, (setting, bind, interfaces))

    def test_interfaces_of(self) -> None:
        """
        A simulated machine knows its addresses; for any other reactor the system is asked.
        """
        self.assertIs(interfaces_of(object()), local_addresses)
        machine = MachineNetwork(Clock()).reactor("80.0.0.1", "2a00::1")
        self.assertEqual(interfaces_of(machine)(), ("80.0.0.1", "2a00::1"))
