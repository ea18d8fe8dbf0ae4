"""
A UDP socket of QUIC's own, for a DHT that can't share its socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from dtt.errors import ListenError
from dtt.net.buffers import enlarge_receive_buffer
from dtt.transport.quic.connector import QuicConnector
from dtt.transport.streams.transport import StreamsTransport


class QuicSocket(DatagramProtocol):
    """
    Carries the datagrams of one transport.
    """

    def __init__(self, connector: QuicConnector) -> None:
        """
        @param connector: receives the datagrams.
        """
        self._connector = connector
        self._sendto: Callable[[bytes, tuple[str, int]], object] | None = None

    def startProtocol(self) -> None:
        """
        Prepare to send.
        """
        # Port.write validates each address, and those that we send to came from a socket
        # or were checked when a hint was read.
        handle = getattr(self.transport, "getHandle", None)
        self._sendto = None if handle is None else handle().sendto
        enlarge_receive_buffer(self.transport)

    def stopProtocol(self) -> None:
        """
        The port is closed.
        """
        self._sendto = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Pass a datagram on.
        """
        self._connector.datagram_received(datagram, *addr[:2])

    def send(self, datagram: bytes, host: str, port: int) -> None:
        """
        Send a datagram; one that can't be sent counts as lost in transit.
        """
        transport: IUDPTransport | None = self.transport
        if transport is None:
            return
        try:
            (self._sendto or transport.write)(datagram, (host, port))
        except (OSError, ValueError, OverflowError):
            self._connector.counters["write_failed"] += 1


def listen(reactor: Any, transport: StreamsTransport, host: str, port: int = 0) -> tuple[int, IListeningPort]:
    """
    Bind a UDP port, and use it for the QUIC connections of a transport.

    @param reactor: provides C{IReactorUDP}.
    @param host: an IP literal; C{"0.0.0.0"} for all IPv4 addresses.
    @param port: the port; 0: the system chooses one.
    @return: the port that is bound, and what to close at the end.
    @raise ListenError: the address can't be bound.
    """
    assert transport.quic is not None
    protocol = QuicSocket(transport.quic)
    try:
        listening = reactor.listenUDP(port, protocol, interface=host)
    except CannotListenError as error:
        raise ListenError.of(f"UDP {host} port {port}", error.socketError) from None
    bound: int = listening.getHost().port
    transport.attach(protocol.send, [(host, bound)])
    return bound, listening
