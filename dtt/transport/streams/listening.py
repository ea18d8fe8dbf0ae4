"""
Listening on TCP.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorSocket

#: Connections that wait to be accepted (Twisted's default).
_BACKLOG = 50


def listen_beside_ipv4(reactor: Any, port: int, factory: Any, host: str) -> Any:
    """
    Listen on a TCP port of IPv6 that may be bound on IPv4, too: on all addresses, a socket
    would else receive IPv4 connections as well.

    @param reactor: provides C{IReactorTCP}.
    @param port: the port; 0: the system chooses one.
    @param host: an IPv6 literal.
    @return: an C{IListeningPort}.
    @raise CannotListenError: the address can't be bound.
    """
    if host != "::" or not IReactorSocket.providedBy(reactor):
        return reactor.listenTCP(port, factory, interface=host)
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as bound:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setblocking(False)
            bound.bind((host, port))
            bound.listen(_BACKLOG)
            return reactor.adoptStreamPort(bound.fileno(), socket.AF_INET6, factory)
    except OSError as error:
        raise CannotListenError(host, port, error) from error
