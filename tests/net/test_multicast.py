"""
Tests for L{dtt.net.multicast}: what is asked of the system.  Machines in memory are in
L{tests.testing.net.test_multicast}.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.net import multicast
from dtt.net.multicast import MulticastSocket, open_multicast

GROUP, GROUP6, PORT = "239.192.152.143", "ff15::efc0:988f", 6771


class FakeSocket:
    """
    A socket that keeps what is asked of it.

    @ivar options: the options that were set.
    @ivar sent: the datagrams, each with its destination and the interface.
    @ivar refused: options, by name, and destinations that the system refuses.
    """

    def __init__(self, system: System, family: int) -> None:
        self.system = system
        self.family = family
        self.options: list[tuple[int, int, Any]] = []
        self.bound: Any = None
        self.is_closed = False
        self.sent: list[tuple[bytes, Any]] = []
        system.sockets.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def setblocking(self, flag: bool) -> None:
        """Ignore it."""

    def fileno(self) -> int:
        """The place among all sockets."""
        return self.system.sockets.index(self)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Keep it, or refuse it."""
        if (option, value) in self.system.refused:
            raise OSError(19, "No such device")
        self.options.append((level, option, value))

    def bind(self, address: Any) -> None:
        """Keep it."""
        if self.system.taken:
            raise OSError(98, "Address already in use")
        self.bound = address

    def sendto(self, data: bytes, address: Any) -> None:
        """Keep it, or refuse it."""
        if self.system.unreachable:
            raise OSError(101, "Network is unreachable")
        self.sent.append((data, address))


class Port:
    """
    A port of the reactor.
    """

    def __init__(self, adopted: FakeSocket, protocol: Any) -> None:
        self.socket = adopted
        self.protocol = protocol
        self.stopped = 0

    def stopListening(self) -> Deferred[None]:
        """As the real one does, forget the socket."""
        self.stopped += 1
        if self.stopped == 1:
            del self.socket
        return succeed(None)


@implementer(IReactorSocket)
class Reactor:
    """
    Adopts sockets.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.ports: list[Port] = []
        self.room = 2

    def adoptDatagramPort(
        self,
        fileDescriptor: int,  # noqa: N803 - Twisted's names
        addressFamily: int,  # noqa: N803
        protocol: Any,
        maxPacketSize: int = 8192,  # noqa: N803
    ) -> Any:
        """Adopt one."""
        if len(self.ports) >= self.room:
            raise OSError(24, "Too many open files")
        self.ports.append(Port(self.system.sockets[fileDescriptor], protocol))
        return self.ports[-1]

    def adoptStreamPort(self, *arguments: Any) -> Any:
        """Do nothing."""

    def adoptStreamConnection(self, *arguments: Any) -> Any:
        """Do nothing."""


class System:
    """
    Stands for the module C{socket}, on a machine with two interfaces.
    """

    def __init__(self) -> None:
        self.sockets: list[FakeSocket] = []
        self.refused: list[tuple[int, Any]] = []
        self.taken = self.unreachable = False

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, family: int, kind: int) -> FakeSocket:
        """Make one."""
        assert kind == socket.SOCK_DGRAM
        return FakeSocket(self, family)

    def if_nameindex(self) -> list[tuple[int, str]]:
        """The interfaces."""
        return [(1, "lo"), (7, "eth0")]


def member(group: str, index: int) -> bytes:
    """
    The membership of a group on an interface.
    """
    if ":" in group:
        return socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
    return socket.inet_aton(group) + bytes(4) + struct.pack("@i", index)


class MulticastTests(SynchronousTestCase):
    """
    Tests for L{open_multicast}.
    """

    def setUp(self) -> None:
        self.system = System()
        self.reactor = Reactor(self.system)
        self.patch(multicast, "socket", self.system)
        self.got: list[tuple[str, bytes, str, int]] = []

    def open(self, group: str = GROUP) -> MulticastSocket | None:
        """
        Open the sockets of a group.
        """
        return open_multicast(
            self.reactor,
            group,
            PORT,
            lambda *arguments: self.got.append(("searched", *arguments)),
            lambda *arguments: self.got.append(("answered", *arguments)),
        )

    def test_sockets(self) -> None:
        """
        One socket is bound to the group and shares its port; it has joined on all interfaces.  The other one
        has any port, and datagrams that no router forwards.  Those that the reactor did not adopt are closed.
        """
        for group, family, join, limit in (
            (
                GROUP,
                socket.AF_INET,
                (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP),
                (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1),
            ),
            (
                GROUP6,
                socket.AF_INET6,
                (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP),
                (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1),
            ),
        ):
            self.setUp()
            self.assertIsNotNone(self.open(group))
            listening, sending = self.system.sockets
            self.assertEqual((listening.family, sending.family), (family, family))
            self.assertEqual((listening.bound, sending.bound), ((group, PORT), ("", 0)))
            self.assertIn((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), listening.options)
            for index in (1, 7):
                self.assertIn((*join, member(group, index)), listening.options)
            self.assertIn(limit, sending.options)
            self.assertTrue(listening.is_closed and sending.is_closed)

    def test_received(self) -> None:
        """
        What arrives at either socket is told apart.
        """
        self.open()
        listening, sending = self.reactor.ports
        listening.protocol.datagramReceived(b"a", ("192.168.1.2", 5))
        sending.protocol.datagramReceived(b"b", ("fd00::1", 6))
        self.assertEqual(self.got, [("searched", b"a", "192.168.1.2", 5), ("answered", b"b", "fd00::1", 6)])

    def test_search(self) -> None:
        """
        A search leaves on each interface, also if one of them has gone.
        """
        gone = (socket.IP_MULTICAST_IF, member("0.0.0.0", 1))
        for refused, count in (([], 2), ([gone], 1)):
            self.setUp()
            self.system.refused = refused
            opened = self.open()
            assert opened is not None
            opened.search(b"hello")
            sending = self.reactor.ports[1].socket
            self.assertEqual(sending.sent, [(b"hello", (GROUP, PORT))] * count)
            chosen = [value for _, option, value in sending.options if option == socket.IP_MULTICAST_IF]
            self.assertEqual(chosen, [member("0.0.0.0", index) for index in (1, 7)][-count:])

    def test_search_ipv6(self) -> None:
        """
        The same with IPv6.
        """
        opened = self.open(GROUP6)
        assert opened is not None
        opened.search(b"hello")
        sending = self.reactor.ports[1].socket
        chosen = [value for _, option, value in sending.options if option == socket.IPV6_MULTICAST_IF]
        self.assertEqual((chosen, sending.sent), ([1, 7], [(b"hello", (GROUP6, PORT))] * 2))

    def test_answer(self) -> None:
        """
        An answer goes to its host by the socket that sends; without a network it is lost.
        """
        opened = self.open()
        assert opened is not None
        opened.answer(b"hi", "192.168.1.2", 5)
        self.assertEqual(self.reactor.ports[1].socket.sent, [(b"hi", ("192.168.1.2", 5))])
        self.system.unreachable = True
        opened.answer(b"hi", "192.168.1.2", 5)
        opened.search(b"hello")
        self.assertEqual(len(self.reactor.ports[1].socket.sent), 1)

    def test_closed(self) -> None:
        """
        Both sockets are closed, possibly twice; what is sent afterwards is lost.
        """
        opened = self.open()
        assert opened is not None
        for _ in range(2):
            self.successResultOf(opened.close())
        self.assertEqual([port.stopped for port in self.reactor.ports], [2, 2])
        opened.search(b"hello")
        opened.answer(b"hi", "192.168.1.2", 5)

    def test_some_interfaces(self) -> None:
        """
        An interface without multicast does not matter; without any other one there are no sockets.
        """
        self.system.refused = [(socket.IP_ADD_MEMBERSHIP, member(GROUP, 1))]
        self.assertIsNotNone(self.open())
        self.setUp()
        self.system.refused = [(socket.IP_ADD_MEMBERSHIP, member(GROUP, index)) for index in (1, 7)]
        self.assertIsNone(self.open())
        self.assertTrue(all(each.is_closed for each in self.system.sockets))

    def test_none(self) -> None:
        """
        There are no sockets if the port is taken, with a reactor that has no sockets, and without
        descriptors; nothing stays open.
        """
        self.system.taken = True
        self.assertIsNone(self.open())
        self.assertTrue(all(each.is_closed for each in self.system.sockets))
        self.assertIsNone(open_multicast(Clock(), GROUP, PORT, lambda *_: None, lambda *_: None))
        for room in (0, 1):
            self.setUp()
            self.reactor.room = room
            self.assertIsNone(self.open())
            self.assertEqual([port.stopped for port in self.reactor.ports], [1] * room)
