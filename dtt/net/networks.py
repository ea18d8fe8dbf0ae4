"""
Classification of IP addresses: their scope, and the network they belong to. Pure.

Rules:
  - One operator controls at least a whole IPv4 /24 or IPv6 /64. Limits and table places
    are therefore per network, not per address.
  - In local networks (BEP42, "Security Consideration of Local Network") all addresses
    have one operator anyway, so each address counts as its own network.
  - An IPv4-mapped IPv6 address has the scope of its IPv4 address. Any other IPv6 address
    that contains an IPv4 address (NAT64, 6to4, Teredo) leads to it: it is global if that
    address is, and otherwise never the address of a peer (RFC 6052 section 3.1).
  - Of IPv6, only 2000::/3 is global (RFC 4291 section 2.4).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from typing import TypeAlias, TypeVar

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")

# BEP42's local networks: the first byte or the first two bytes of an IPv4 address, and
# IPv6 prefixes.
_LOCAL_FIRST = frozenset(("10", "127"))
_LOCAL_SECOND = frozenset((("192", "168"), ("169", "254"), *(("172", str(byte)) for byte in range(16, 32))))
_LOCAL6 = tuple(map(ipaddress.ip_network, ("::1/128", "fe80::/10", "fc00::/7")))


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


# Address blocks and their scopes; the first that matches counts. Not ipaddress.is_private:
# it differs between Python releases and includes the documentation networks, which are
# harmless.
_BLOCKS4 = (
    ("0.0.0.0/8", Scope.NEVER),  # "this network", RFC 1122 section 3.2.1.3
    ("10.0.0.0/8", Scope.PRIVATE),  # RFC 1918
    ("100.64.0.0/10", Scope.PRIVATE),  # RFC 6598, carrier-grade NAT
    ("127.0.0.0/8", Scope.LOOPBACK),
    ("169.254.0.0/16", Scope.LINK_LOCAL),
    ("172.16.0.0/12", Scope.PRIVATE),
    ("192.0.0.0/24", Scope.PRIVATE),  # RFC 6890, RFC 7335
    ("192.168.0.0/16", Scope.PRIVATE),
    ("224.0.0.0/3", Scope.NEVER),  # multicast; reserved, including broadcast (RFC 1112 section 4)
    ("0.0.0.0/0", Scope.GLOBAL),
)
_BLOCKS6 = (
    ("::1/128", Scope.LOOPBACK),
    ("fe80::/10", Scope.LINK_LOCAL),
    ("fc00::/7", Scope.PRIVATE),  # RFC 4193
    ("fec0::/10", Scope.PRIVATE),  # RFC 3879, deprecated site-local addresses
    ("64:ff9b:1::/48", Scope.PRIVATE),  # RFC 8215, local NAT64
    ("2000::/3", Scope.GLOBAL),
    ("::/0", Scope.NEVER),  # among others multicast, unspecified and IPv4-compatible addresses
)
# Blocks of IPv6 addresses that contain an IPv4 address, and how many bits follow it.
_EMBEDDING = (
    ("64:ff9b::/96", 0),  # RFC 6052, NAT64
    ("2002::/16", 80),  # RFC 3056, 6to4
    ("2001::/32", 64),  # RFC 4380, Teredo: the server
)
_MAPPED = 0xFFFF
_TEREDO = 0x20010000


def _mask(block: str) -> tuple[int, int]:
    network = ipaddress.ip_network(block)
    return int(network.network_address), int(network.netmask)


_RULES4 = tuple((*_mask(block), scope) for block, scope in _BLOCKS4)
_RULES6 = tuple((*_mask(block), scope) for block, scope in _BLOCKS6)
_EMBEDDED = tuple((*_mask(block), shift) for block, shift in _EMBEDDING)

# The first bytes of IPv4 addresses that are all global.
_GLOBAL_FIRST = frozenset(range(1, 224)) - {10, 100, 127, 169, 172, 192}


def _scope4(number: int) -> Scope:
    return next(scope for value, mask, scope in _RULES4 if number & mask == value)


def _scope6(number: int) -> Scope:
    if number >> 32 == _MAPPED:
        return _scope4(number & 0xFFFFFFFF)
    for value, mask, shift in _EMBEDDED:
        if number & mask == value:
            inner = [_scope4(number >> shift & 0xFFFFFFFF)]
            if number >> 96 == _TEREDO:
                inner.append(_scope4(~number & 0xFFFFFFFF))  # the client, inverted
            return Scope.GLOBAL if set(inner) == {Scope.GLOBAL} else Scope.NEVER
    return next(scope for value, mask, scope in _RULES6 if number & mask == value)


_scope6_cached = lru_cache(maxsize=4096)(_scope6)


def packed_scope(ip: bytes) -> Scope:
    """
    Return the scope of a packed address.

    @param ip: 4 or 16 bytes.
    """
    if len(ip) == 4:
        return Scope.GLOBAL if ip[0] in _GLOBAL_FIRST else _scope4(int.from_bytes(ip))
    return _scope6_cached(int.from_bytes(ip))


def scope_of(ip: IPAddress) -> Scope:
    """
    Return the scope of an address.
    """
    return _scope4(int(ip)) if ip.version == 4 else _scope6(int(ip))


@lru_cache(maxsize=4096)
def scope(host: str) -> Scope:
    """
    Return the scope of an IP literal, with or without a zone; L{Scope.NEVER} for
    anything else.
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


@lru_cache(maxsize=4096)
def line(ip: str) -> str:
    """
    Return what one customer has at most: the /24 of a public IPv4 address, the /48 of a
    public IPv6 address (RFC 6177), or, in local networks (L{is_exempt}), the same as
    L{subnet}.

    @param ip: an IP literal.
    """
    if ":" not in ip or is_exempt(ip):
        return subnet(ip)
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(ip)) >> 80 << 80)) + "/48"


def packed_line(ip: bytes) -> bytes:
    """
    Return the /24 or /48 of a packed address: the first 3 of 4 bytes, or the first 6 of
    16.
    """
    return ip[:3] if len(ip) == 4 else ip[:6]


def packed_network(ip: bytes) -> bytes:
    """
    Return the /24 or /64 of a packed address: the first 3 of 4 bytes, or the first 8 of
    16.
    """
    return ip[:3] if len(ip) == 4 else ip[:8]


def networks_of(host: str) -> tuple[str, ...]:
    """
    Return the networks of which C{host} is part and that one operator may control, each
    within the one before: the /24 of an IPv4 address; the /48, the /56 and the /64 of
    an IPv6 address; C{"loopback"}.

    @param host: an IP literal, with or without a zone.
    @raise ValueError: C{host} is not an IP literal.
    """
    ip = canonical(host.partition("%")[0])
    if ip is None:
        raise ValueError(f"not an IP literal: {host!r}")
    if ip.is_loopback:
        return ("loopback",)
    lengths = (24,) if ip.version == 4 else (48, 56, 64)
    return tuple(str(ipaddress.ip_network((ip, length), strict=False)) for length in lengths)


def most_dispensable(entries: Iterable[T], networks: Callable[[T], tuple[str, ...]]) -> T:
    """
    Return the one of C{entries} that makes room for another: the oldest of the network
    with most of them.

    @param entries: at least one, the oldest first.
    @param networks: returns the networks of an entry, each within the one before, as
        L{networks_of} does.
    """
    left = [(networks(entry), entry) for entry in entries]
    level = 0
    while True:
        sizes = Counter(names[level] for names, _ in left if level < len(names))
        if not sizes:
            return left[0][1]
        # Of several networks of the same size, the one that holds the oldest entry.
        largest = max(sizes, key=sizes.__getitem__)
        left = [(names, entry) for names, entry in left if names[level : level + 1] == (largest,)]
        level += 1
