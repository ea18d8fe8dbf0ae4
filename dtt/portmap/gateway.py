"""
The router of this machine.

Method: the default route, which Linux lists in C{/proc/net/route}.  Elsewhere, and if
there is none, the first address of our own network is tried, which most home routers
have.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

#: Where Linux lists its IPv4 routes, and the most of it that is read.
ROUTES = Path("/proc/net/route")
_MAX_ROUTES = 256 * 1024

_GATEWAY_FLAG = 0x2


def parse_routes(text: str) -> str | None:
    """
    Return the gateway of the default route with the lowest metric in the format of
    C{/proc/net/route}; C{None} if there is none.
    """
    found: list[tuple[int, str]] = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            destination, gateway, flags = (int(fields[n], 16) for n in (1, 2, 3))
            metric, mask = int(fields[6]), int(fields[7], 16)
            if destination == mask == 0 and flags & _GATEWAY_FLAG and gateway:
                found.append((metric, str(ipaddress.IPv4Address(gateway.to_bytes(4, "little")))))
        except (IndexError, ValueError, OverflowError):
            continue
    return min(found)[1] if found else None


def find_gateway(local: str | None) -> str | None:
    """
    Return the IPv4 address of the router, an IP literal.

    @param local: our own IPv4 address, or C{None} if we have none.
    @return: C{None} without a network.
    """
    try:
        with ROUTES.open() as file:
            gateway = parse_routes(file.read(_MAX_ROUTES))
    except OSError:
        gateway = None
    if gateway is not None or local is None:
        return gateway
    first = ipaddress.IPv4Address(int(ipaddress.IPv4Address(local)) & ~0xFF | 1)
    return None if str(first) == local else str(first)
