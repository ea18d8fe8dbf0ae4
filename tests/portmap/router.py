"""
A router that maps ports, for tests.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from dtt.portmap.wire import SERVER_PORT, Transport
from dtt.testing.net.nat import NAT
from dtt.testing.net.udp import MemoryUDPNetwork

ROUTER, OWN, OUTSIDE = "192.168.1.1", "192.168.1.2", "203.0.113.7"
UDP, TCP = Transport.UDP, Transport.TCP


class Router(DatagramProtocol):
    """
    A router that speaks PCP, NAT-PMP, both or none.

    @ivar mapped: the ports outside, by transport and inside port.
    @ivar outside: its address outside.
    @ivar change: changes each answer before it is sent.
    """

    def __init__(
        self, network: MemoryUDPNetwork, *, pcp: bool = True, nat_pmp: bool = True, nat: NAT | None = None
    ) -> None:
        self.network = network
        self.nat = nat
        self.outside = OUTSIDE if nat is None else nat.host
        self.pcp, self.nat_pmp = pcp, nat_pmp
        self.mapped: dict[tuple[Transport, int], int] = {}
        self.asked: list[bytes] = []
        self.started = network.clock.seconds()
        self.lifetime = 7200
        self.result = 0
        self.change: Callable[[bytes], bytes] = lambda answer: answer
        network.reactor(ROUTER).listenUDP(SERVER_PORT, self)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Answer a request.
        """
        self.asked.append(datagram)
        epoch = int(self.network.clock.seconds() - self.started)
        transport: Any = self.transport
        if datagram[0] == 2:
            if self.pcp:
                answer = self.answer_pcp(datagram, epoch)
            elif self.nat_pmp:
                answer = struct.pack("!BBHI", 0, 0x80, 1, epoch)
            else:
                return
        elif self.nat_pmp:
            answer = self.answer_nat_pmp(datagram, epoch)
        else:
            return
        transport.write(self.change(answer), addr)

    def answer_pcp(self, datagram: bytes, epoch: int) -> bytes:
        """
        Answer a MAP request.
        """
        (lifetime,) = struct.unpack_from("!I", datagram, 4)
        protocol, port, _ = struct.unpack_from("!BxxxHH", datagram, 36)
        external = self.set(UDP if protocol == 17 else TCP, port, lifetime)
        head = struct.pack("!BBBBII12x", 2, 0x81, 0, self.result, min(lifetime, self.lifetime), epoch)
        outside = bytes(10) + b"\xff\xff" + bytes(map(int, self.outside.split(".")))
        return head + datagram[24:40] + struct.pack("!HH", port, external) + outside

    def answer_nat_pmp(self, datagram: bytes, epoch: int) -> bytes:
        """
        Answer an address or a mapping request.
        """
        if datagram[1] == 0:
            outside = bytes(map(int, self.outside.split(".")))
            return struct.pack("!BBHI", 0, 0x80, self.result, epoch) + outside
        _, opcode, _, port, _, lifetime = struct.unpack("!BBHHHI", datagram)
        external = self.set(UDP if opcode == 1 else TCP, port, lifetime)
        return struct.pack("!BBHIHHI", 0, 0x80 | opcode, self.result, epoch, port, external, lifetime)

    def set(self, transport: Transport, port: int, lifetime: int) -> int:
        """
        Map or unmap, and return the port outside.
        """
        if not lifetime:
            external = self.mapped.pop((transport, port), None)
            if self.nat is not None and external is not None:
                self.nat.forwarded.pop(external, None)
            return 0
        external = self.mapped.setdefault((transport, port), port + 1000)
        if self.nat is not None:
            self.nat.forwarded[external] = (OWN, port)
        return external
