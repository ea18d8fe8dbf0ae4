"""
The addresses of this machine, and those that others should dial.

Method: connect a UDP socket to an address that belongs to no host. Nothing is sent, but
the kernel selects the source address it would use: that of the interface of the default
route, for each address family, which is the one most likely reachable from outside. The
standard library can't list interfaces portably.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

#: Documentation addresses (RFC 5737, RFC 3849): global, and assigned to no host.
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def local_addresses() -> tuple[str, ...]:
    """
    Return the IP literals of this machine, IPv4 before IPv6.

    @return: at most one address of each family, never loopback, link-local or
        unspecified; none without a network.
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


def listening_addresses(
    bound: Iterable[tuple[str, int]], external_host: str | None, interfaces: Sequence[str]
) -> list[tuple[str, int]]:
    """
    Return the addresses at which others should dial our listening sockets
    (docs/protocol/addresses.md section 3).

    A specific bound address is returned as it is. A wildcard address stands for the
    external address and those of the interfaces, of its family. Loopback addresses are
    returned only if there are no others.

    @param bound: (IP literal, port) of each socket.
    @param external_host: our external address as others see it, or C{None}.
    @param interfaces: the IP literals of this machine.
    """
    found: dict[tuple[str, int], None] = {}
    for host, port in bound:
        address = ipaddress.ip_address(host)
        if not address.is_unspecified:
            found[host, port] = None
            continue
        known = (*([external_host] if external_host else []), *interfaces)
        same_family = [h for h in known if ipaddress.ip_address(h).version == address.version]
        for each in same_family or ["127.0.0.1" if address.version == 4 else "::1"]:
            found[each, port] = None
    public = [pair for pair in found if not ipaddress.ip_address(pair[0]).is_loopback]
    return public or list(found)
