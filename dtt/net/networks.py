"""
What an IP address says about where it is: its scope, and the network that it
shares with others.  Pure.

Rules:
  - One operator has a whole /24 of IPv4, or a /64 of IPv6, at least; limits and
    places are per network, not per address.
  - In local networks (BEP42, "Security Consideration of Local Network") there is
    one operator anyway, so each address counts as a network of its own.
  - An IPv4-mapped IPv6 address has the scope of its IPv4 address.
"""

from __future__ import annotations

import ipaddress
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# BEP42's local networks: the first byte of an IPv4 address, or the first two;
# and the prefixes of IPv6.
_LOCAL_FIRST = frozenset(("10", "127"))
_LOCAL_SECOND = frozenset((("192", "168"), ("169", "254"), *(("172", str(byte)) for byte in range(16, 32))))
_LOCAL6 = tuple(map(ipaddress.ip_network, ("::1/128", "fe80::/10", "fc00::/7")))

# Not ipaddress.is_private: it changes between Python releases, and also counts
# networks for documentation, which harm nobody.
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598, between a provider's NAT and its customers
        "fc00::/7",  # RFC 4193
        "fec0::/10",  # RFC 3879, deprecated site-local addresses
    )
)
# "This network" (RFC 1122 3.2.1.3), reserved with the broadcast address (RFC
# 1112 4), and IPv4-compatible IPv6 (RFC 4291 2.5.5.1): no peer lives there.
_NOWHERE = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/8", "240.0.0.0/4", "::/96"))


class Scope(Enum):
    """
    From where an address can be reached.
    """

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    GLOBAL = "global"
    NEVER = "never"


def canonical(host: str) -> IPAddress | None:
    """
    An IP literal as an address, IPv4-mapped ones as IPv4; L{None} for anything
    else.
    """
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def scope_of(ip: IPAddress) -> Scope:
    """
    The scope of an address that is L{canonical}.
    """
    if ip.is_loopback:
        return Scope.LOOPBACK
    if ip.is_multicast or any(ip in network for network in _NOWHERE):
        return Scope.NEVER
    if ip.is_link_local:
        return Scope.LINK_LOCAL
    if any(ip in network for network in _PRIVATE):
        return Scope.PRIVATE
    return Scope.GLOBAL


def scope(host: str) -> Scope:
    """
    The scope of an IP literal; anything else is L{Scope.NEVER}.
    """
    ip = canonical(host)
    return Scope.NEVER if ip is None else scope_of(ip)


def is_loopback(ip: str) -> bool:
    """
    Is this our own machine, where many nodes share an address?

    @param ip: an IP literal.
    """
    return ip.startswith("127.") or ip == "::1"


def is_exempt(ip: str) -> bool:
    """
    Is an address in one of BEP42's local networks?

    @param ip: an IP literal.
    """
    # One answer may name 32 addresses that were never seen: with ipaddress
    # they would take half a millisecond.
    if ":" not in ip:
        first, second, _ = ip.split(".", 2)
        return first in _LOCAL_FIRST or (first, second) in _LOCAL_SECOND
    return _is_exempt6(ip)


@lru_cache(maxsize=1024)
def _is_exempt6(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address in network for network in _LOCAL6)


@lru_cache(maxsize=4096)
def site(ip: str) -> str:
    """
    What one host can't have many of: of IPv4 the address, of IPv6 its network
    (/64), in which a host may take any address it likes.

    @param ip: an IP literal.
    """
    if ":" not in ip:
        return ip
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(ip)) >> 64 << 64)) + "/64"


@lru_cache(maxsize=4096)
def subnet(ip: str) -> str:
    """
    What one operator can't have many of: the /24 of a public IPv4 address, the
    /64 of an IPv6 address; in local networks (L{is_exempt}), the address.

    @param ip: an IP literal.
    """
    return site(ip) if ":" in ip or is_exempt(ip) else ip.rpartition(".")[0]


def packed_network(ip: bytes) -> bytes:
    """
    The /24 or /64 of a packed address: 3 of its 4 bytes, or 8 of its 16.
    """
    return ip[:3] if len(ip) == 4 else ip[:8]


def network_of(host: str) -> str | None:
    """
    The /24 or /64 that C{host} is in; L{None} for loopback.

    @param host: an IP literal, with or without a zone.
    @raise ValueError: it is something else.
    """
    ip = canonical(host.partition("%")[0])
    if ip is None:
        raise ValueError(f"not an IP literal: {host!r}")
    if ip.is_loopback:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 64), strict=False))
