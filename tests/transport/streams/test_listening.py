"""
Tests for L{dtt.transport.streams.listening}.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.streams.listening import listen_beside_ipv4


@implementer(IReactorSocket)
class SocketReactor:
    """
    Keeps the sockets that it adopts.
    """

    def __init__(self) -> None:
        self.adopted: list[socket.socket] = []

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Factory) -> Any:  # noqa: N803
        """Keep a duplicate of the socket, as a reactor does."""
        self.adopted.append(socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM))

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Factory) -> Any:  # noqa: N803
        """Do nothing."""

    def adoptDatagramPort(self, *arguments: Any, **options: Any) -> Any:
        """Do nothing."""


class ListeningTests(SynchronousTestCase):
    """
    Tests for L{listen_beside_ipv4}.
    """

    def test_both(self) -> None:
        """
        The same port can be used on IPv4 and on IPv6; a port that is taken is an error.
        """
        if not socket.has_ipv6:
            self.skipTest("no IPv6")
        reactor = SocketReactor()
        with socket.socket() as four:
            four.bind(("0.0.0.0", 0))
            four.listen()
            port = four.getsockname()[1]
            try:
                listen_beside_ipv4(reactor, port, Factory(), "::")
            except CannotListenError as error:
                self.skipTest(f"no IPv6: {error}")
            (six,) = reactor.adopted
            with six:
                self.assertEqual(six.getsockname()[:2], ("::", port))
                self.assertEqual(six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 1)
                self.assertRaises(CannotListenError, listen_beside_ipv4, reactor, port, Factory(), "::")

    def test_one_address(self) -> None:
        """
        A single address, and a reactor without sockets, need no socket of our own.
        """
        memory = MemoryReactor()
        listen_beside_ipv4(memory, 4433, Factory(), "2001:db8::1")
        self.assertEqual([(port, host) for port, _, _, host in memory.tcpServers], [(4433, "2001:db8::1")])
        network = MemoryTCPNetwork(Clock())
        listen_beside_ipv4(network.reactor("2001:db8::1"), 4433, Factory(), "::")
        self.assertEqual(network.addresses(), [("2001:db8::1", 4433)])
