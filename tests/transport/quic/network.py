"""
Transports over QUIC on an in-memory UDP network.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.internet.task import Clock

from dtt.identity import PeerKey
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.net.udp import Datagram, MemoryUDPNetwork
from dtt.transport.quic.socket import listen
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import QUIC

#: Sorted by peer id.
KEYS = sorted((PeerKey.from_seed(bytes((n,)) * 32) for n in range(24)), key=lambda key: key.peer_id)

#: A topic that all transports of a L{QuicNetwork} can send probes for.
PROBED, SECRET = b"p" * 32, b"s" * 32


class QuicNetwork:
    """
    Hosts with one L{StreamsTransport} each, which uses QUIC alone.

    @ivar sent: the datagrams of each host.
    """

    def __init__(self, clock: Clock | None = None, seed: int = 0) -> None:
        self.clock = HeapClock() if clock is None else clock
        self.udp = MemoryUDPNetwork(self.clock, rng=Random(seed))
        self.tcp = MemoryTCPNetwork(self.clock)
        self.sent: Counter[str] = Counter()
        self.udp.observers.append(self._count)
        self._seed = seed

    def _count(self, datagram: Datagram) -> None:
        self.sent[datagram.source[0]] += 1

    def transport(self, n: int, *, tcp: bool = False, probed: bool = True) -> StreamsTransport:
        """
        Return a transport on the host 10.0.0.n with the key C{KEYS[n]}.
        """
        host = f"10.0.0.{n}"
        transport = StreamsTransport(
            self.tcp.reactor(host),
            KEYS[n],
            tcp=tcp,
            quic_rng=Random(f"{self._seed} {n}"),
            interface_addresses=lambda: (host,),
        )
        transport.listen(host, 0)
        listen(self.udp.reactor(host), transport, host)
        if probed:
            assert transport.quic is not None
            transport.quic.traversal.probes.open_topic(PROBED, SECRET)
        return transport

    def advance(self, seconds: float) -> None:
        """
        Advance the clock, event by event.
        """
        self.udp.advance(seconds)


def quic_addresses(transport: StreamsTransport) -> list[tuple[str, int]]:
    """
    Return the hosts and ports of its QUIC addresses.
    """
    return [(a.host, a.port) for a in transport.addresses() if a.transport == QUIC]
