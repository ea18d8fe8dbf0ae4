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
from collections.abc import Callable, Iterable, Sequence

from dtt.net.networks import Scope, scope

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


def interfaces_of(reactor: object) -> Callable[[], Sequence[str]]:
    """
    Return a function that returns the IP literals of the machine of a reactor:
    L{local_addresses}, unless the reactor has a method of this name, as a simulated
    machine does.
    """
    found: Callable[[], Sequence[str]] | None = getattr(reactor, "local_addresses", None)
    return found or local_addresses


def ipv6_interface(setting: str, bind: str, interfaces: Sequence[str]) -> str | None:
    """
    Return the IPv6 address to listen on, in addition to the IPv4 address C{bind}; C{None}: none.

    @param setting: C{"auto"}: all, if the machine has a global IPv6 address or has only
        IPv6, and C{bind} stands for all addresses; C{"off"}: none; or an IPv6 literal.
    @param bind: an IPv4 literal; C{""} or C{"0.0.0.0"}: all addresses.
    @param interfaces: the IP literals of this machine.
    """
    if setting not in ("auto", "off"):
        return setting
    if setting == "off" or bind not in ("", "0.0.0.0"):
        return None
    is_global = any(":" in host and scope(host) is Scope.GLOBAL for host in interfaces)
    return "::" if is_global or only_ipv6(interfaces) else None


def only_ipv6(interfaces: Sequence[str]) -> bool:
    """
    Return whether this machine has IPv6 addresses and no IPv4 address. There, listen on
    IPv6.

    @param interfaces: the IP literals of this machine.
    """
    return bool(interfaces) and all(":" in host for host in interfaces)


def why_unreachable(bound: Iterable[str], interfaces: Sequence[str]) -> str:
    """
    Return why there is no address at which others can dial our listening sockets.

    @param bound: the IP literals that they are bound to.
    @param interfaces: the IP literals of this machine.
    """
    hosts = [host for host in bound if not ipaddress.ip_address(host).is_loopback]
    if not hosts:
        return "it listens on loopback addresses only"
    if not interfaces:
        return "this machine has no default route"
    here, there = ("IPv6", "IPv4") if only_ipv6(interfaces) else ("IPv4", "IPv6")
    return f"it listens on {there} only, and this machine has only {here}"


def listening_addresses(
    bound: Iterable[tuple[str, int]],
    external_host: str | None,
    interfaces: Sequence[str],
    *,
    loopback: bool = True,
) -> list[tuple[str, int]]:
    """
    Return the addresses at which others should dial our listening sockets
    (docs/protocol/addresses.md section 3).

    A specific bound address is returned unchanged.  A wildcard address stands for the
    external address and those of the interfaces, of its family, or for loopback on a
    machine without any address. Loopback addresses are returned only if there are no
    others.

    @param bound: (IP literal, port) of each socket.
    @param external_host: our external address as others see it, or C{None}.
    @param interfaces: the IP literals of this machine.
    @param loopback: whether others may be on this machine: otherwise, loopback
        addresses are never returned.
    """
    found: dict[tuple[str, int], None] = {}
    for host, port in bound:
        address = ipaddress.ip_address(host)
        if not address.is_unspecified:
            found[host, port] = None
            continue
        known = (*([external_host] if external_host else []), *interfaces)
        same_family = [h for h in known if ipaddress.ip_address(h).version == address.version]
        if not known:
            same_family = ["127.0.0.1" if address.version == 4 else "::1"]
        for each in same_family:
            found[each, port] = None
    public = [pair for pair in found if not ipaddress.ip_address(pair[0]).is_loopback]
    return public or (list(found) if loopback else [])
