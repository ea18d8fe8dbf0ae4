"""
Classification of IP addresses: their scope, and the network they belong to. Pure.

Rules:
  - One operator controls at least a whole IPv4 /24 or IPv6 /64. Limits and table places
    are therefore per network, not per address.
  - In local networks (BEP42, "Security Consideration of Local Network") all addresses
    have one operator anyway, so each address counts as its own network.
  - An IPv4-mapped IPv6 address has the scope of its IPv4 address.
"""

from __future__ import annotations

import ipaddress
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# BEP42's local networks: the first byte or the first two bytes of an IPv4 address, and
# IPv6 prefixes.
_LOCAL_FIRST = frozenset(("10", "127"))
_LOCAL_SECOND = frozenset((("192", "168"), ("169", "254"), *(("172", str(byte)) for byte in range(16, 32))))
_LOCAL6 = tuple(map(ipaddress.ip_network, ("::1/128", "fe80::/10", "fc00::/7")))

# Not ipaddress.is_private: it differs between Python releases and includes the
# documentation networks, which are harmless.
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598, carrier-grade NAT
        "fc00::/7",  # RFC 4193
        "fec0::/10",  # RFC 3879, deprecated site-local addresses
    )
)
# "This network" (RFC 1122 3.2.1.3), reserved including the broadcast address (RFC 1112
# 4), and IPv4-compatible IPv6 (RFC 4291 2.5.5.1): never the address of a peer.
_UNUSABLE = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/8", "240.0.0.0/4", "::/96"))


class Scope(Enum):
    """
    From where an address is reachable. L{NEVER}: from nowhere.
    """

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    GLOBAL = "global"
    NEVER = "never"


def canonical(host: str) -> IPAddress | None:
    """
    Parse an IP literal; an IPv4-mapped IPv6 address becomes IPv4.

    @return: C{None} if C{host} is not an IP literal.
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
    Return the scope of an address.

    @param ip: as returned by L{canonical}.
    """
    if ip.is_loopback:
        return Scope.LOOPBACK
    if ip.is_multicast or any(ip in network for network in _UNUSABLE):
        return Scope.NEVER
    if ip.is_link_local:
        return Scope.LINK_LOCAL
    if any(ip in network for network in _PRIVATE):
        return Scope.PRIVATE
    return Scope.GLOBAL


def scope(host: str) -> Scope:
    """
    Return the scope of an IP literal; L{Scope.NEVER} for anything else.
    """
    ip = canonical(host)
    return Scope.NEVER if ip is None else scope_of(ip)


def is_loopback(ip: str) -> bool:
    """
    Return whether an IP literal is a loopback address, which many nodes on this machine
    may share.

    @param ip: an IP literal.
    """
    return ip.startswith("127.") or ip == "::1"


def is_exempt(ip: str) -> bool:
    """
    Return whether an address is in one of BEP42's local networks.

    @param ip: an IP literal.
    """
    # One response may contain 32 new addresses; parsing them with ipaddress would take
    # half a millisecond.
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
    Return the unit of which one host has few: the IPv4 address, or the IPv6 /64, in
    which a host may use any address.

    @param ip: an IP literal.
    """
    if ":" not in ip:
        return ip
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(ip)) >> 64 << 64)) + "/64"


@lru_cache(maxsize=4096)
def subnet(ip: str) -> str:
    """
    Return the unit of which one operator has few: the /24 of a public IPv4 address, the
    /64 of an IPv6 address, or, in local networks (L{is_exempt}), the address itself.

    @param ip: an IP literal.
    """
    return site(ip) if ":" in ip or is_exempt(ip) else ip.rpartition(".")[0]


def packed_network(ip: bytes) -> bytes:
    """
    Return the /24 or /64 of a packed address: the first 3 of 4 bytes, or the first 8 of
    16.
    """
    return ip[:3] if len(ip) == 4 else ip[:8]


def network_of(host: str) -> str | None:
    """
    Return the /24 or /64 of C{host}; C{None} for loopback.

    @param host: an IP literal, with or without a zone.
    @raise ValueError: C{host} is not an IP literal.
    """
    ip = canonical(host.partition("%")[0])
    if ip is None:
        raise ValueError(f"not an IP literal: {host!r}")
    if ip.is_loopback:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 64), strict=False))
