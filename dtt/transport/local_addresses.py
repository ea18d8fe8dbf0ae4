"""
Which address this machine has.

Rule: a UDP socket is "connected" to an address that nobody has; nothing is
sent, but the kernel picks the address that it would send from.  That names
the interface of the default route of each family, which is the one that others
can reach if any; the standard library can't list interfaces portably.
"""

from __future__ import annotations

import ipaddress
import socket

#: Documentation addresses (RFC 5737, RFC 3849): global, and nobody's.
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def local_addresses() -> tuple[str, ...]:
    """
    IP literals of this machine, IPv4 before IPv6, without loopback, link-local
    and unspecified ones; none without a network.
    """
    found = []
    for family, probe in _PROBES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probing:
                probing.connect((probe, 9))
                host = probing.getsockname()[0]
        except OSError:
            continue
        address = ipaddress.ip_address(host.partition("%")[0])
        if not (address.is_loopback or address.is_unspecified or address.is_link_local):
            found.append(str(address))
    return tuple(found)
