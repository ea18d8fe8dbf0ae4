"""
Peer addresses as carried in records and in PeerData. Pure.

Formats: docs/protocol/addresses.md section 3 (the extension that follows a record's
content) and section 5 (PeerData: iroh's AddrInfo followed by the same extension). Rust
peers ignore the extension. A malformed extension is treated as absent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import ClassVar, TypeAlias

from attrs import frozen

from dtt.errors import DecodeError
from dtt.net.networks import scope
from dtt.wire.postcard import Reader, encode_bytes, encode_option, encode_varint

#: Transport numbers on the wire.
STREAMS = 0
IROH = 1
QUIC = 2

#: Their names in settings, files and messages.
TRANSPORT_NAMES = {STREAMS: "streams", IROH: "iroh", QUIC: "quic"}
TRANSPORT_NUMBERS = {name: number for number, name in TRANSPORT_NAMES.items()}

#: The most direct addresses written, read or dialled for one peer. One relay may
#: accompany them (docs/protocol/gossip.md Q10).
MAX_ADDRESSES = 12

#: The most characters of a relay URL: with the prefix C{relay=} it must fit into one
#: string of a DNS TXT record (docs/protocol/addresses.md section 1).
MAX_RELAY_URL = 249

_MAGIC = b"dtt1"


@frozen(slots=True)
class PeerAddress:
    """
    A socket address at which a transport may reach a peer.

    @ivar transport: L{STREAMS}, L{IROH} or L{QUIC}.
    @ivar host: an IP literal.
    @ivar port: 0..65535.
    """

    transport: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen(slots=True)
class RelayAddress:
    """
    An iroh relay through which a peer can be reached by its peer id.

    @ivar url: the URL as iroh writes it, for instance C{https://relay.example/}; at
        most L{MAX_RELAY_URL} characters.
    """

    url: str
    transport: ClassVar[int] = IROH

    def __str__(self) -> str:
        return self.url


Address: TypeAlias = PeerAddress | RelayAddress


def alternate(addresses: Iterable[PeerAddress]) -> tuple[PeerAddress, ...]:
    """
    Return at most L{MAX_ADDRESSES} of C{addresses}: those of the transports alternate,
    in their order, so that none is cut off entirely.
    """
    by_transport: dict[int, list[PeerAddress]] = {}
    for address in addresses:
        by_transport.setdefault(address.transport, []).append(address)
    mixed = chain.from_iterable(zip_longest(*by_transport.values()))
    return tuple(address for address in mixed if address is not None)[:MAX_ADDRESSES]


def alternate_families(addresses: Iterable[PeerAddress]) -> list[PeerAddress]:
    """
    Return C{addresses} so that IPv4 and IPv6 alternate, the family of the first one first
    (RFC 8305 section 4): if one family is broken, the other one is next.
    """
    by_family: dict[bool, list[PeerAddress]] = {}
    for address in addresses:
        by_family.setdefault(":" in address.host, []).append(address)
    mixed = chain.from_iterable(zip_longest(*by_family.values()))
    return [address for address in mixed if address is not None]


def direct_addresses(addresses: Iterable[Address], transport: int) -> list[PeerAddress]:
    """
    Return those of C{addresses} that C{transport} can dial without a relay.
    """
    return [a for a in addresses if isinstance(a, PeerAddress) and a.transport == transport]


def _encode_socket_address(host: str, port: int) -> bytes:
    ip = ipaddress.ip_address(host)
    return (b"\x00" if ip.version == 4 else b"\x01") + ip.packed + encode_varint(port)


def encode_sockets(addresses: Sequence[tuple[str, int]]) -> bytes:
    """
    Encode IP literals and ports as a sequence of SocketAddr.
    """
    return encode_varint(len(addresses)) + b"".join(_encode_socket_address(*each) for each in addresses)


def _encode_socket_addresses(addresses: Sequence[PeerAddress]) -> bytes:
    return encode_sockets([(address.host, address.port) for address in addresses])


def read_sockets(reader: Reader) -> list[tuple[str, int]]:
    """
    Read a sequence of SocketAddr: IP literals and ports.

    @raise DecodeError: it is malformed.
    """
    return reader.sequence(lambda: _read_socket_address(reader))


def _read_socket_address(reader: Reader) -> tuple[str, int]:
    match reader.varint(32):
        case 0:
            host = str(ipaddress.IPv4Address(reader.raw(4)))
        case 1:
            host = str(ipaddress.IPv6Address(reader.raw(16)))
        case _:
            raise DecodeError("bad socket address")
    return host, reader.varint(16)


def _direct(addresses: Iterable[Address]) -> list[PeerAddress]:
    """
    Return the first L{MAX_ADDRESSES} of C{addresses} that are not relays.
    """
    return [address for address in addresses if isinstance(address, PeerAddress)][:MAX_ADDRESSES]


def kinds_of(addresses: Iterable[Address]) -> tuple[str, ...]:
    """
    Return the kinds of addresses in words, each once: the transport and the scope, for
    example C{"streams global"} or C{"quic private"}, and C{"iroh relay"}.
    """
    return tuple(
        dict.fromkeys(
            "iroh relay"
            if isinstance(address, RelayAddress)
            else f"{TRANSPORT_NAMES[address.transport]} {scope(address.host).value}"
            for address in addresses
        )
    )


def encode_extension(addresses: Iterable[Address]) -> bytes:
    """
    Encode the first L{MAX_ADDRESSES} direct addresses as an extension.

    @return: the extension, or C{b""} if there are no direct addresses. Relays are left
        out: the format has no field for them.
    """
    by_transport: dict[int, list[PeerAddress]] = {}
    for address in _direct(addresses):
        by_transport.setdefault(address.transport, []).append(address)
    if not by_transport:
        return b""
    return (
        _MAGIC
        + encode_varint(len(by_transport))
        + b"".join(
            bytes((transport,)) + _encode_socket_addresses(group) for transport, group in by_transport.items()
        )
    )


def decode_extension(data: bytes) -> tuple[PeerAddress, ...]:
    """
    Decode the addresses in an extension.

    @return: at most L{MAX_ADDRESSES} addresses; none if C{data} is not a well-formed
        extension. Addresses of unknown transports are skipped.
    """
    if not data.startswith(_MAGIC):
        return ()
    reader = Reader(data, len(_MAGIC))

    def read_group() -> list[PeerAddress]:
        transport = reader.u8()
        pairs = read_sockets(reader)
        return [PeerAddress(transport, host, port) for host, port in pairs]

    try:
        groups = reader.sequence(read_group)
    except DecodeError:
        return ()
    known = [a for group in groups for a in group if a.transport in TRANSPORT_NAMES]
    return tuple(known[:MAX_ADDRESSES])


def encode_peer_data(addresses: Sequence[Address]) -> bytes:
    """
    Encode PeerData for gossip: an AddrInfo with the first relay and the iroh addresses,
    followed by the extension with the addresses of all transports.
    """
    limited = _direct(addresses)
    iroh = direct_addresses(limited, IROH)
    relay = next((address.url for address in addresses if isinstance(address, RelayAddress)), None)
    return (
        encode_option(None if relay is None else encode_bytes(relay.encode("utf-8")))
        + _encode_socket_addresses(iroh)
        + encode_extension(limited)
    )


def decode_peer_data(data: bytes) -> tuple[Address, ...]:
    """
    Decode PeerData from gossip.

    @return: the distinct direct addresses of all transports, at most L{MAX_ADDRESSES},
        followed by the relay if there is one with a URL of at most L{MAX_RELAY_URL}
        characters.
    @raise DecodeError: the AddrInfo is malformed.
    """
    if not data:
        return ()
    reader = Reader(data)
    relay_url = reader.option(reader.text)
    pairs = read_sockets(reader)
    extension = decode_extension(reader.raw(reader.remaining()))
    iroh = [PeerAddress(IROH, host, port) for host, port in pairs]
    direct = tuple(dict.fromkeys((*extension, *iroh)))[:MAX_ADDRESSES]
    if relay_url is None or len(relay_url) > MAX_RELAY_URL:
        return direct
    return (*direct, RelayAddress(relay_url))
