"""
Print the destinations of a host's packets: C{python -m tests.interop.sniffer PORT}, in
the namespace of the bridge, where C{PORT} is the bridge port of the host. It prints
C{ready}, and then C{sent} once for each distinct packet, as JSON lines: C{protocol}
(C{udp}, C{tcp}, or numbers), C{to} (an IP address, C{None} if it is not IPv4) and
C{port}.
"""

from __future__ import annotations

import socket
import struct
import sys

from tests.interop.actors import emit

_ALL, _IPV4, _OUTGOING = 0x0003, 0x0800, 4
_PROTOCOLS = {socket.IPPROTO_UDP: "udp", socket.IPPROTO_TCP: "tcp"}


def parse(frame: bytes) -> tuple[str, str | None, int | None]:
    """
    The protocol, destination and destination port of an Ethernet frame.
    """
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    if ethertype != _IPV4:
        return f"ethernet {ethertype:#06x}", None, None
    packet = frame[14:]
    header, protocol, to = (packet[0] & 15) * 4, packet[9], socket.inet_ntoa(packet[16:20])
    if protocol not in _PROTOCOLS:
        return f"ip {protocol}", to, None
    return _PROTOCOLS[protocol], to, struct.unpack_from("!H", packet, header + 2)[0]


def main(interface: str) -> None:
    """
    Run the command.
    """
    # In network byte order, as the system requires.
    sniffing = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    sniffing.bind((interface, 0))
    emit("ready")
    seen = set()
    while True:
        frame, (_, _, kind, *_) = sniffing.recvfrom(2048)
        if kind == _OUTGOING:
            continue
        parsed = parse(frame)
        if parsed not in seen:
            seen.add(parsed)
            protocol, to, port = parsed
            emit("sent", protocol=protocol, to=to, port=port)


if __name__ == "__main__":
    main(sys.argv[1])
