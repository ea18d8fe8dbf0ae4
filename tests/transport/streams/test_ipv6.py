"""
Tests for streams on IPv4 and IPv6 together.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.testing.net.machines import MachineNetwork
from dtt.transport.streams.listening import listen_beside_ipv4
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress

from .test_transport import ALICE, BOB, StreamsTestCase


class BrokenTests(StreamsTestCase):
    """
    Addresses of one family that never answer.
    """

    def test_dial(self) -> None:
        """
        However many addresses of one family never answer, one of the other family is
        tried after 250 ms.
        """
        for dead, own in (("2a00::{}", "10.0.0.2"), ("80.0.0.{}", "2a00::1")):
            network = MachineNetwork(self.clock)
            transports = [
                StreamsTransport(network.reactor(host, host6), key)
                for key, host, host6 in ((ALICE, "10.0.0.1", "2a00::9"), (BOB, own, None))
            ]
            transports[1].listen("::" if ":" in own else "0.0.0.0", 4433)
            silent = [dead.format(number) for number in range(10, 14)]
            network.unplug(*silent)
            addresses = [PeerAddress(STREAMS, host, 4433) for host in (*silent, own)]
            dialled = transports[0].dial(BOB.peer_id, addresses)
            network.advance(0.25 + 0.1)
            self.successResultOf(dialled)
            for transport in transports:
                transport.stop()
            network.advance(2)


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
