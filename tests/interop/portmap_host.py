"""
A machine that maps ports, for L{tests.interop.test_portmap}: C{python -m
tests.interop.portmap_host LIFETIME} asks for mappings of LIFETIME seconds for a UDP and a
TCP port, which answer what they get with C{heard}.  It waits for answers for a shorter
time than usual, and renews mappings after half of their lifetime, however short that is.

It prints C{ready} and the UDP port, and executes the commands on its standard input:
C{NUMBER mappings}: of each mapping, the transport, the address and port outside, the
method, and how often the router has granted one; C{NUMBER stop}: removes them.
"""

from __future__ import annotations

import sys
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react

from dtt.net.local import local_addresses
from dtt.portmap import mapper, upnp
from dtt.portmap.gateway import find_gateway
from dtt.portmap.mapper import Mapping, PortMapper
from dtt.portmap.wire import Transport
from tests.interop.host_node import HostProgram

HEARD = b"heard "


class Datagrams(DatagramProtocol):
    """
    Answers datagrams.
    """

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Answer.
        """
        assert self.transport is not None
        self.transport.write(HEARD + datagram, addr)


class Bytes(Protocol):
    """
    Answers what comes over a connection.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        assert self.transport is not None
        self.transport.write(HEARD + data)


class CountingMapper(PortMapper):
    """
    Counts what the router grants.
    """

    granted = 0

    async def _map(self, wanted: Any) -> Mapping | None:
        mapping = await super()._map(wanted)
        self.granted += mapping is not None
        return mapping


class MappingHost(HostProgram):
    """
    Maps its ports.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        further = upnp.UPnP(reactor) if upnp.is_installed() else None
        self._mapper = CountingMapper(reactor, SystemRandom(), self._router, lambda *_: None, further)
        self.port = reactor.listenUDP(0, Datagrams()).getHost().port
        self._mapper.want(Transport.UDP, self.port)
        tcp = reactor.listenTCP(0, Factory.forProtocol(Bytes)).getHost().port
        self._mapper.want(Transport.TCP, tcp)
        self._mapper.startService()

    def _router(self) -> tuple[str, str] | None:
        own = next((host for host in local_addresses() if ":" not in host), None)
        router = find_gateway(own)
        return None if own is None or router is None else (router, own)

    async def do_mappings(self) -> str:
        """
        The mappings.
        """
        words = [
            f"{each.transport.name},{each.host},{each.external},{each.method},{self._mapper.granted}"
            for each in self._mapper.mappings()
        ]
        return " ".join(words) or "-"

    async def do_stop(self) -> str:
        """
        Remove them.
        """
        await maybeDeferred(self._mapper.stopService)
        return "-"


def main(reactor: Any, lifetime: str) -> Deferred[None]:
    """
    Run the command.
    """
    changed = {"LIFETIME": int(lifetime), "MIN_RENEWAL": 1.0, "ATTEMPTS": (0.25, 0.5)}
    for name, value in changed.items():
        setattr(mapper, name, value)
    host = MappingHost(reactor)
    StandardIO(host, reactor=reactor)
    return host.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
