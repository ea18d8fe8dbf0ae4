"""
Compact addresses and node info (BEP5, "Contact Encoding"; BEP32 for IPv6). Pure.

Rules: an address is 4 or 16 bytes of IP and 2 bytes of port, big-endian. A node is its
20-byte id followed by its address. As in libtorrent, an incomplete node at the end of a
list of nodes, and a peer of another size, are skipped. So are addresses that can't be
sent to: port 0, IPv4-mapped IPv6 addresses, which a socket would format differently, and
addresses outside the scopes that the caller allows (L{dtt.dht.reach}).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Any, Final

from attrs import frozen

from dtt.errors import DecodeError
from dtt.interfaces import Contact
from dtt.net.networks import Scope, packed_scope

#: Bytes of an address, and of a node.
ADDRESS_SIZE: Final = 6
ADDRESS6_SIZE: Final = 18
NODE_SIZE: Final = 26
NODE6_SIZE: Final = 38

#: The scopes of addresses that can be sent to at all.
USABLE: Final = frozenset(Scope) - {Scope.NEVER}

_ID_SIZE = 20
_MAPPED = bytes(10) + b"\xff\xff"


@frozen(slots=True)
class Family:
    """
    An address family. By BEP32, each has its own DHT.

    @ivar name: for display.
    @ivar ip_size: bytes of an IP address: 4 or 16.
    @ivar nodes: the key of this family's nodes in a response.
    @ivar loopback: the loopback address.
    """

    name: str
    ip_size: int
    nodes: bytes
    loopback: str

    def has(self, host: str) -> bool:
        """
        Return whether the IP literal C{host} is of this family.
        """
        return (":" in host) == (self.ip_size == 16)


IPV4: Final = Family("IPv4", 4, b"nodes", "127.0.0.1")
IPV6: Final = Family("IPv6", 16, b"nodes6", "::1")


# The only spellings of the numbers in an IPv4 literal.
_OCTETS = {str(number): number for number in range(256)}


# Parsing and formatting IPv6 takes 10 us, several times per datagram and for the same few
# hosts.  Guess: the nodes of a full table and of some lookups.
_CACHED = 4096


@lru_cache(maxsize=_CACHED)
def _pack6(host: str) -> bytes:
    return ipaddress.IPv6Address(host).packed


@lru_cache(maxsize=_CACHED)
def _unpack6(packed: bytes) -> str:
    return str(ipaddress.IPv6Address(packed))


def encode_address(host: str, port: int) -> bytes:
    """
    Encode an address and a port as 6 or 18 bytes.

    @param host: an IP literal; a zone (C{%eth0}) is left out.
    @raise ValueError: C{host} is not an IP literal, or C{port} is not 0..65535.
    """
    if ":" in host:
        packed = _pack6(host)
    else:
        # Much faster than ipaddress; every reply contains an address.
        try:
            packed = bytes(map(_OCTETS.__getitem__, host.split(".")))
        except KeyError:
            packed = b""
        if len(packed) != 4:
            raise ValueError("not an IP address")
    if not 0 <= port < 0x10000:
        raise ValueError("a port must be within 0..65535")
    return packed + port.to_bytes(2, "big")


def decode_address(data: bytes) -> tuple[str, int]:
    """
    Decode an address.

    @return: the host, formatted as a socket formats it, and the port, 0..65535.
    @raise DecodeError: C{data} has neither 6 nor 18 bytes.
    """
    if len(data) == ADDRESS_SIZE:
        return f"{data[0]}.{data[1]}.{data[2]}.{data[3]}", data[4] << 8 | data[5]
    if len(data) == ADDRESS6_SIZE:
        return _unpack6(data[:16]), data[16] << 8 | data[17]
    raise DecodeError("bad compact address")


def _is_sendable(address: bytes, scopes: Container[Scope]) -> bool:
    return (
        address[-2:] != b"\x00\x00"
        and not address.startswith(_MAPPED)
        and packed_scope(address[:-2]) in scopes
    )


def encode_nodes(contacts: Iterable[Contact]) -> bytes:
    """
    Encode C{contacts}, all of one family, as C{nodes} or C{nodes6}.
    """
    return b"".join(contact.node_id + encode_address(contact.host, contact.port) for contact in contacts)


def _decode_nodes(data: Any, size: int, scopes: Container[Scope]) -> list[Contact]:
    if type(data) is not bytes:
        raise DecodeError("bad compact nodes")
    contacts = []
    for start in range(0, len(data) - size + 1, size):
        address = data[start + _ID_SIZE : start + size]
        if _is_sendable(address, scopes):
            contacts.append(Contact(data[start : start + _ID_SIZE], *decode_address(address)))
    return contacts


def decode_nodes(data: Any, scopes: Container[Scope] = USABLE) -> list[Contact]:
    """
    Decode the IPv4 nodes in C{nodes}, 26 bytes each, in order.

    @param scopes: nodes at addresses of other scopes are skipped.
    @raise DecodeError: C{data} is not a byte string.
    """
    return _decode_nodes(data, NODE_SIZE, scopes)


def decode_nodes6(data: Any, scopes: Container[Scope] = USABLE) -> list[Contact]:
    """
    Decode the IPv6 nodes in C{nodes6}, 38 bytes each, in order.

    @param scopes: nodes at addresses of other scopes are skipped.
    @raise DecodeError: C{data} is not a byte string.
    """
    return _decode_nodes(data, NODE6_SIZE, scopes)


def decode_peers(values: Any, scopes: Container[Scope] = USABLE) -> list[tuple[str, int]]:
    """
    Decode the C{values} of a C{get_peers} response.

    @param scopes: peers at addresses of other scopes are skipped.
    @return: (host, port) pairs.
    @raise DecodeError: C{values} is not a list.
    """
    if type(values) is not list:
        raise DecodeError("bad compact peers")
    return [
        decode_address(value)
        for value in values
        if type(value) is bytes
        and len(value) in (ADDRESS_SIZE, ADDRESS6_SIZE)
        and _is_sendable(value, scopes)
    ]
