"""
Multicast datagrams in the local network.

Method: for each address family there are two sockets.  One is bound to the port of the
group, shared with other processes of this machine, and has joined the group on all
interfaces.  The other one sends to the group, on each interface, and receives the answers.  Datagrams have a
TTL of 1, so no router forwards them.

A simulated machine, whose reactor has a method C{open_multicast}, does the same in memory.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.protocol import DatagramProtocol

#: Called with a datagram, and the IP literal and the port of its sender.  A link-local IPv6
#: address is without its zone, which Twisted leaves out: such a sender can't be answered, since
#: nothing says on which interface it is (RFC 4007 section 6).
Received = Callable[[bytes, str, int], object]

#: Datagrams to a group stay in the local network.
_TTL: Final = 1


class MulticastSocket(Protocol):
    """
    The sockets of one address family.
    """

    def search(self, data: bytes) -> None:
        """
        Send to the group, on all interfaces.
        """

    def answer(self, data: bytes, host: str, port: int) -> None:
        """
        Send to a host that has sent to the group.
        """

    def close(self) -> Deferred[None]:
        """
        Close both sockets.
        """


class _Receiver(DatagramProtocol):
    noisy = False

    def __init__(self, received: Received) -> None:
        self._received = received

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(datagram, addr[0], addr[1])

    def logPrefix(self) -> str:
        return "search of the local network"


def open_multicast(
    reactor: Any, group: str, port: int, searched: Received, answered: Received
) -> MulticastSocket | None:
    """
    Open the sockets for a group.

    @param reactor: provides IReactorSocket, or has a method C{open_multicast} with the
        other parameters of this function.
    @param group: the IP literal of a multicast group.
    @param port: the port of the group.
    @param searched: called with datagrams that were sent to the group.
    @param answered: called with the answers.
    @return: C{None} if this machine has no multicast.
    """
    simulated: Callable[..., MulticastSocket | None] | None = getattr(reactor, "open_multicast", None)
    if simulated is not None:
        return simulated(group, port, searched, answered)
    if not IReactorSocket.providedBy(reactor):
        return None
    try:
        return _Sockets(reactor, group, port, searched, answered)
    except OSError:
        return None


class _Sockets:
    """
    The real sockets of one address family.
    """

    def __init__(self, reactor: Any, group: str, port: int, searched: Received, answered: Received) -> None:
        """
        @raise OSError: this machine has no multicast of this family.
        """
        self._group = group
        self._port = port
        self._family = family = socket.AF_INET6 if ":" in group else socket.AF_INET
        self._interfaces: Sequence[int] = [index for index, _ in socket.if_nameindex()]
        with (
            socket.socket(family, socket.SOCK_DGRAM) as listening,
            socket.socket(family, socket.SOCK_DGRAM) as sending,
        ):
            for name in ("SO_REUSEADDR", "SO_REUSEPORT"):
                with suppress(OSError, AttributeError):
                    listening.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 1)
            for each in (listening, sending):
                each.setblocking(False)
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((group, port))
            self._join(listening)
            self._limit(sending)
            sending.bind(("", 0))
            # The reactor has its own copies.
            self._listening = reactor.adoptDatagramPort(listening.fileno(), family, _Receiver(searched))
            try:
                self._sending = reactor.adoptDatagramPort(sending.fileno(), family, _Receiver(answered))
            except OSError:
                self._listening.stopListening()
                raise

    def search(self, data: bytes) -> None:
        sending = self._socket
        if sending is None:
            return
        for index in self._interfaces:
            # An interface may have gone, or has no network.
            with suppress(OSError):
                if self._family == socket.AF_INET6:
                    sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                else:
                    sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _mreqn("0.0.0.0", index))
                sending.sendto(data, (self._group, self._port))

    def answer(self, data: bytes, host: str, port: int) -> None:
        sending = self._socket
        if sending is not None:
            with suppress(OSError):
                sending.sendto(data, (host, port))

    def close(self) -> Deferred[None]:
        stopped = maybeDeferred(self._listening.stopListening)
        return stopped.addCallback(lambda _: self._sending.stopListening())

    @property
    def _socket(self) -> socket.socket | None:
        """
        The socket that sends; C{None} once it is closed.
        """
        # A port has no such attribute after its end.
        found: socket.socket | None = getattr(self._sending, "socket", None)
        return found

    def _join(self, listening: socket.socket) -> None:
        joined = 0
        for index in self._interfaces:
            with suppress(OSError):
                if self._family == socket.AF_INET6:
                    request = socket.inet_pton(socket.AF_INET6, self._group) + struct.pack("@I", index)
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                else:
                    request = _mreqn(self._group, index)
                    listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                joined += 1
        if not joined:
            raise OSError("no interface has multicast")

    def _limit(self, sending: socket.socket) -> None:
        if self._family == socket.AF_INET6:
            sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _TTL)
        else:
            sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)


def _mreqn(group: str, index: int) -> bytes:
    """
    Return a struct ip_mreqn: a group, and an interface by its index.
    """
    return socket.inet_aton(group) + bytes(4) + struct.pack("@i", index)
