"""
A server that only echoes datagrams: the lower bound of a round trip. C{echo_server.py
twisted|epoll} prints C{ready PORT} and serves, with a Twisted protocol or with a bare
loop, until its standard input is closed.
"""

from __future__ import annotations

import select
import socket
import sys
from typing import Any

LOOPBACK = "127.0.0.1"


def by_twisted() -> None:
    """
    Echo with the same shortcut as dtt's node, which bypasses the C{write} of its port.
    """
    from twisted.internet import reactor as _reactor
    from twisted.internet.protocol import DatagramProtocol, Protocol
    from twisted.internet.stdio import StandardIO
    from twisted.python.failure import Failure

    reactor: Any = _reactor

    class Echo(DatagramProtocol):
        def startProtocol(self) -> None:
            transport: Any = self.transport
            self._send = transport.getHandle().sendto

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self._send(datagram, addr)

    class UntilClosed(Protocol):
        def connectionLost(self, reason: Failure | None = None) -> None:
            reactor.stop()

    print("ready", reactor.listenUDP(0, Echo(), interface=LOOPBACK).getHost().port, flush=True)
    StandardIO(UntilClosed(), reactor=reactor)
    reactor.run()


def by_epoll() -> None:
    """
    Echo with a bare epoll loop: the cost of Python itself.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo, select.epoll() as poller:
        echo.bind((LOOPBACK, 0))
        echo.setblocking(False)
        poller.register(echo, select.EPOLLIN)
        poller.register(sys.stdin, select.EPOLLIN)
        print("ready", echo.getsockname()[1], flush=True)
        while not any(event & select.EPOLLHUP for _, event in poller.poll()):
            try:
                while True:
                    echo.sendto(*echo.recvfrom(8192))
            except BlockingIOError:
                continue


if __name__ == "__main__":
    {"twisted": by_twisted, "epoll": by_epoll}[sys.argv[1]]()
