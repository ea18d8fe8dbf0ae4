"""
Signed pkarr packets: the addresses that a peer publishes about itself.

Contract: docs/protocol/addresses.md section 1.  A packet consists of a public
key, a signature, a sequence number (microseconds since the epoch) and a DNS
packet.  The signature covers what BEP44 signs for an item without salt whose
value is the DNS packet, so that the same signature is valid in the DHT and at
relays.

The DNS packet has only answers: TXT records of one string, C{key=value}.  The
name C{_iroh.<z32>} has C{relay}, C{addr} and C{user-data}, in this order, for
iroh, which rejects the whole set if it contains another key, and truncates a
value at its second C{=}.  The name C{_dtt.<z32>}, which iroh ignores, has
C{streams=<ip:port>}, an address of dtt's streams transport.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import chain

from attrs import field, frozen

from dtt.addresses.dns_texts import MAX_STRING, read_texts, write_texts
from dtt.errors import DecodeError
from dtt.identity import SIGNATURE_BYTES, PeerKey, is_valid_peer_id, verify, z32_encode
from dtt.krpc.items import MAX_SEQ, MAX_STRING_SIZE, MAX_VALUE_SIZE, signature_buffer
from dtt.wire.addresses import (
    IROH,
    MAX_ADDRESSES,
    MAX_RELAY_URL,
    QUIC,
    STREAMS,
    TRANSPORT_NAMES,
    TRANSPORT_NUMBERS,
    Address,
    PeerAddress,
    RelayAddress,
)

#: The maximum size of a DNS packet that is read, in bytes (iroh-dns, pkarr.rs).
MAX_READ = MAX_VALUE_SIZE

#: The maximum size of a DNS packet that is written, in bytes: as a bencoded string it
#: must fit into a BEP44 item.
MAX_WRITTEN = MAX_STRING_SIZE

#: The maximum size of a relay payload in bytes: signature, sequence number, DNS packet.
MAX_PAYLOAD = SIGNATURE_BYTES + 8 + MAX_READ


@frozen(slots=True)
class Packet:
    """
    A packet that the owner of a key has signed.

    @ivar public_key: the key, 32 bytes.
    @ivar seq: the sequence number: the time of signing in microseconds since the
        epoch, by the signer's clock; 0..2^63-1.
    @ivar dns: the DNS packet, at most L{MAX_READ} bytes.
    """

    public_key: bytes
    seq: int
    dns: bytes = field(repr=False)

    def version(self) -> tuple[int, bytes]:
        """
        Return the version: of two packets of one key, the one with the greater
        version takes precedence.
        """
        return self.seq, self.dns

    def addresses(self) -> tuple[Address, ...]:
        """
        Return the addresses in the packet, each once: those of iroh, of streams and
        of quic, then the relay; at most
        L{MAX_ADDRESSES<dtt.wire.addresses.MAX_ADDRESSES>} of each transport.

        @raise DecodeError: the DNS packet is malformed.
        """
        iroh_owner, dtt_owner = (owner.encode("ascii") for owner in _owners(self.public_key))
        iroh: dict[PeerAddress, None] = {}
        ours: dict[int, dict[PeerAddress, None]] = {STREAMS: {}, QUIC: {}}
        relays: dict[RelayAddress, None] = {}
        for name, text in read_texts(self.dns):
            key, _, value = text.partition("=")
            if name == iroh_owner and key == "addr" and (address := _read_address(IROH, value)):
                iroh[address] = None
            elif name == iroh_owner and key == "relay" and 0 < len(value) <= MAX_RELAY_URL:
                relays[RelayAddress(value)] = None
            elif (
                name == dtt_owner
                and (number := TRANSPORT_NUMBERS.get(key)) in ours
                and (address := _read_address(number, value))
            ):
                ours[number][address] = None
        direct = (list(found)[:MAX_ADDRESSES] for found in (iroh, *ours.values()))
        return (*chain.from_iterable(direct), *[*relays][:1])


def _owners(public_key: bytes) -> tuple[str, str]:
    """
    Return the owner names of iroh's and of dtt's TXT records.
    """
    zone = z32_encode(public_key)
    return f"_iroh.{zone}", f"_dtt.{zone}"


# Signatures


def relay_payload(key: PeerKey, packet: Packet) -> bytes:
    """
    Sign C{packet}, and encode it as the payload that relays accept and serve.

    @return: at most L{MAX_PAYLOAD} bytes.
    """
    return key.sign(_signed(packet)) + packet.seq.to_bytes(8, "big") + packet.dns


def read_payload(public_key: bytes, payload: bytes) -> Packet:
    """
    Decode and verify a relay payload.

    @param public_key: the key that must have signed it, 32 bytes.
    @param payload: the bytes from the relay.
    @raise DecodeError: the size, key, sequence number, signature or DNS packet is
        invalid.
    """
    if len(payload) < SIGNATURE_BYTES + 8:
        raise DecodeError("pkarr: too short")
    if len(payload) > MAX_PAYLOAD:
        raise DecodeError("pkarr: too large")
    signature, rest = payload[:SIGNATURE_BYTES], payload[SIGNATURE_BYTES:]
    packet = Packet(public_key, int.from_bytes(rest[:8], "big"), rest[8:])
    if not verify(public_key, _signed(packet), signature):
        raise DecodeError("pkarr: bad signature")
    check(packet)
    return packet


def check(packet: Packet) -> None:
    """
    Check everything but the signature of a packet.

    @raise DecodeError: the size, key, sequence number or DNS packet is invalid.
    """
    if len(packet.dns) > MAX_READ:
        raise DecodeError("pkarr: too large")
    if not is_valid_peer_id(packet.public_key):
        raise DecodeError("pkarr: bad key")
    if not 0 <= packet.seq <= MAX_SEQ:
        raise DecodeError("pkarr: bad seq")
    packet.addresses()


def _signed(packet: Packet) -> bytes:
    return signature_buffer(b"", packet.seq, b"%d:%b" % (len(packet.dns), packet.dns))


# Writing


def write_dns(public_key: bytes, addresses: Iterable[Address], user_data: str | None = None) -> bytes:
    """
    Encode the addresses of a peer as a DNS packet: the first relay, and the first
    L{MAX_ADDRESSES<dtt.wire.addresses.MAX_ADDRESSES>} other addresses.  What does
    not fit into L{MAX_WRITTEN} bytes is omitted: the last address first, then the
    user data, then the relay.

    @param public_key: the peer's key, 32 bytes.
    @param addresses: its addresses.
    @param user_data: text for applications; omitted if it contains C{=}, which
        iroh can't read back.
    """
    listed = list(addresses)
    relays = [a.url for a in listed if isinstance(a, RelayAddress) and _fits("relay", a.url)][:1]
    others = [a for a in listed if isinstance(a, PeerAddress)][:MAX_ADDRESSES]
    texts = [user_data] if user_data is not None and _fits("user-data", user_data) else []
    while len(packet := _write(public_key, relays, others, texts)) > MAX_WRITTEN:
        (others or texts or relays).pop()
    return packet


def _fits(key: str, value: str) -> bool:
    return bool(value) and "=" not in value and len(f"{key}={value}".encode()) <= MAX_STRING


def _write(
    public_key: bytes, relays: Sequence[str], others: Sequence[PeerAddress], texts: Sequence[str]
) -> bytes:
    iroh_owner, dtt_owner = _owners(public_key)
    return write_texts(
        [
            *((iroh_owner, f"relay={url}") for url in relays),
            *((iroh_owner, f"addr={address}") for address in others if address.transport == IROH),
            *((iroh_owner, f"user-data={text}") for text in texts),
            *(
                (dtt_owner, f"{TRANSPORT_NAMES[address.transport]}={address}")
                for address in others
                if address.transport != IROH
            ),
        ]
    )


def _read_address(transport: int, text: str) -> PeerAddress | None:
    """
    Parse C{ip:port}, with IPv6 addresses in brackets.

    @return: the address; C{None} for anything else, for example iroh's custom
        addresses.
    """
    host, _, port = text.rpartition(":")
    if len(port) > 5 or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or "%" in host:
        return None
    try:
        if host.startswith("[") and host.endswith("]"):
            return PeerAddress(transport, str(ipaddress.IPv6Address(host[1:-1])), int(port))
        return PeerAddress(transport, str(ipaddress.IPv4Address(host)), int(port))
    except ValueError:
        return None
