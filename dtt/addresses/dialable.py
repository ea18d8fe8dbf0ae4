"""
Which addresses may be dialled.  Pure.

Rules (specs/addresses.md section 4): never an unspecified, multicast or broadcast
address, nor one of our own; loopback, link-local and private ones only when
we list one of that kind ourselves, or any member could have us knock on the
doors of our own network.  An IPv4 address inside an IPv6 one is judged, and
given back, as what it is.  A relay is judged by the host in its URL, which must
be spelled so that all programs read the same one; a name must be one that the
public DNS could know.  A relay of ours allows relays of its kind, no addresses.
"""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Iterable, Sequence
from enum import Enum
from urllib.parse import urlsplit

from dtt.hints import MAX_ADDRESSES, MAX_RELAY_URL, Address, PeerAddress, RelayAddress


class Scope(Enum):
    """
    From where an address can be reached.
    """

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    GLOBAL = "global"
    NEVER = "never"


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
        "fec0::/10",  # RFC 3879, the site-local addresses of before
    )
)
# "This network" (RFC 1122 3.2.1.3), reserved with the broadcast address (RFC
# 1112 4), and IPv4-compatible IPv6 (RFC 4291 2.5.5.1): no peer lives there.
_NOWHERE = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/8", "240.0.0.0/4", "::/96"))


# Of a name: not the backslashes, percent signs and so on that browsers and iroh
# read in another way than urllib.
_NAME_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-._")


def _canonical(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _scope(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Scope:
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
    ip = _canonical(host)
    return Scope.NEVER if ip is None else _scope(ip)


def _relay_scope(url: str) -> Scope:
    """
    From where a relay can be reached; L{Scope.NEVER} for what is no URL of one.
    """
    if len(url) > MAX_RELAY_URL or not url.isascii() or not url.isprintable() or " " in url:
        return Scope.NEVER
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Scope.NEVER
    if parts.scheme not in ("http", "https") or not host or port == 0 or parts.username is not None:
        return Scope.NEVER
    if ":" in host:
        return scope(host)
    if not _NAME_CHARACTERS.issuperset(host):
        return Scope.NEVER
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
        return Scope.LOOPBACK
    last_label = name.rpartition(".")[2]
    if last_label.isdigit() or last_label.startswith("0x"):
        return scope(host)
    return Scope.GLOBAL if "." in name else Scope.PRIVATE


def dialable(addresses: Iterable[Address], own: Sequence[Address]) -> tuple[Address, ...]:
    """
    Those of C{addresses} that may be dialled, in their order, each once and in
    canonical form, at most L{MAX_ADDRESSES} and one relay.

    @param own: what we list ourselves (specs/addresses.md section 3).
    """
    own_places = set()
    allowed, allowed_relays = {Scope.GLOBAL}, set()
    for address in own:
        if isinstance(address, RelayAddress):
            allowed_relays.add(_relay_scope(address.url))
        elif (ip := _canonical(address.host)) is not None:
            own_places.add((str(ip), address.port))
            allowed.add(_scope(ip))
    allowed.discard(Scope.NEVER)
    allowed_relays = (allowed | allowed_relays) - {Scope.NEVER}

    found: dict[Address, None] = {}
    direct = relays = 0
    for address in addresses:
        if address in found:
            continue
        if isinstance(address, RelayAddress):
            if relays < 1 and _relay_scope(address.url) in allowed_relays:
                found[address] = None
                relays += 1
            continue
        ip = _canonical(address.host)
        if ip is None or not 0 < address.port < 65536 or _scope(ip) not in allowed:
            continue
        host = str(ip)
        canonical = PeerAddress(address.transport, host, address.port)
        if (host, address.port) not in own_places and canonical not in found and direct < MAX_ADDRESSES:
            found[canonical] = None
            direct += 1
    return tuple(found)
