"""
Decides which addresses may be dialled.  Pure.

Rules (docs/protocol/addresses.md section 4): never dial an unspecified, multicast
or broadcast address, nor one of our own; dial loopback, link-local and private
addresses only if we have an address of that scope ourselves, because otherwise
any member could make us probe our private network; or hosts that have answered a search
in the local network.  An IPv4-mapped address is
treated as the IPv4 address.  A relay is treated like the host in its URL, which all programs must parse
identically; a host name must be one that the public DNS can contain.  Our own relay permits relays of its
scope, but no addresses.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from dtt.net.networks import Scope, canonical, scope, scope_of
from dtt.wire.addresses import MAX_ADDRESSES, MAX_RELAY_URL, Address, PeerAddress, RelayAddress

# Scopes of which no host is in a local network.
_NEVER_HERE = (Scope.NEVER, Scope.LOOPBACK)

# Characters of a host name, without backslashes, percent signs and others that
# browsers and iroh parse differently from urllib.
_NAME_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-._")


def _relay_scope(url: str) -> Scope:
    """
    Return the scope from which a relay can be reached; C{Scope.NEVER} if C{url} is
    not a relay URL.
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


def dialable(
    addresses: Iterable[Address], own: Sequence[Address], is_here: Callable[[str], bool] = lambda host: False
) -> tuple[Address, ...]:
    """
    Return those of C{addresses} that may be dialled, in order, each once and in
    canonical form; at most L{MAX_ADDRESSES<dtt.wire.addresses.MAX_ADDRESSES>} and
    one relay.

    @param addresses: the addresses of a peer.
    @param own: our own addresses (docs/protocol/addresses.md section 3).
    @param is_here: returns whether a host is known to be in our local network: it may be
        dialled even if we have no address of its scope.
    """
    own_host_ports = set()
    allowed, allowed_relays = {Scope.GLOBAL}, set()
    for address in own:
        if isinstance(address, RelayAddress):
            allowed_relays.add(_relay_scope(address.url))
        elif (ip := canonical(address.host)) is not None:
            own_host_ports.add((str(ip), address.port))
            allowed.add(scope_of(ip))
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
        ip = canonical(address.host)
        if ip is None or not 0 < address.port < 65536:
            continue
        host = str(ip)
        if scope_of(ip) not in allowed and (scope_of(ip) in _NEVER_HERE or not is_here(host)):
            continue
        canonical_address = PeerAddress(address.transport, host, address.port)
        if (
            (host, address.port) not in own_host_ports
            and canonical_address not in found
            and direct < MAX_ADDRESSES
        ):
            found[canonical_address] = None
            direct += 1
    return tuple(found)
