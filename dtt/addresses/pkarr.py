"""
Signed packets of pkarr: what a peer says of its own addresses.

Contract: docs/protocol/addresses.md section 1.  A packet is a public key, a signature,
a sequence number (microseconds since the epoch) and a DNS packet; signed is
what BEP44 signs for an item without salt whose value is the DNS packet, so
the same signature serves the DHT and relays.

The DNS packet has answers only: TXT records of one string, C{key=value}.
Under C{_iroh.<z32>} stand C{relay}, C{addr} and C{user-data}, in that order,
for iroh, which refuses the whole set if it finds another key and cuts a value
at its second C{=}.  Under C{_dtt.<z32>}, which iroh does not look at, stands
C{streams=<ip:port>}, an address of dtt's streams transport.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from dtt.addresses.dns_texts import MAX_STRING, read_texts, write_texts
from dtt.errors import DecodeError
from dtt.identity import SIGNATURE_BYTES, PeerKey, is_valid_peer_id, verify, z32_encode
from dtt.krpc.items import MAX_SEQ, MAX_STRING_SIZE, MAX_VALUE_SIZE, signature_buffer
from dtt.wire.addresses import IROH, MAX_ADDRESSES, MAX_RELAY_URL, STREAMS, Address, PeerAddress, RelayAddress

#: Bytes of the largest DNS packet that is read (iroh-dns, pkarr.rs).
MAX_READ = MAX_VALUE_SIZE

#: Bytes of the largest one that is written: as a bencoded string it must fit
#: an item of BEP44.
MAX_WRITTEN = MAX_STRING_SIZE

#: Bytes of the largest relay payload: signature, sequence number, DNS packet.
MAX_PAYLOAD = SIGNATURE_BYTES + 8 + MAX_READ


@frozen(slots=True)
class Packet:
    """
    What a key has signed.

    @ivar public_key: whose it is, 32 bytes.
    @ivar seq: microseconds since the epoch when it was signed, by the signer's
        clock; 0..2^63-1.
    @ivar dns: the DNS packet, at most L{MAX_READ} bytes.
    """

    public_key: bytes
    seq: int
    dns: bytes = field(repr=False)

    def version(self) -> tuple[int, bytes]:
        """
        Of two packets of one key that with the greater version counts.
        """
        return self.seq, self.dns

    def addresses(self) -> tuple[Address, ...]:
        """
        The addresses in it, each once, those of iroh before those of streams,
        the relay last; at most L{MAX_ADDRESSES} of each transport.

        @raise DecodeError: the DNS packet is malformed.
        """
        of_iroh, of_dtt = (owner.encode("ascii") for owner in _owners(self.public_key))
        iroh: dict[PeerAddress, None] = {}
        streams: dict[PeerAddress, None] = {}
        relays: dict[RelayAddress, None] = {}
        for name, text in read_texts(self.dns):
            key, _, value = text.partition("=")
            if name == of_iroh and key == "addr" and (address := _read_address(IROH, value)):
                iroh[address] = None
            elif name == of_iroh and key == "relay" and 0 < len(value) <= MAX_RELAY_URL:
                relays[RelayAddress(value)] = None
            elif name == of_dtt and key == "streams" and (address := _read_address(STREAMS, value)):
                streams[address] = None
        return (*[*iroh][:MAX_ADDRESSES], *[*streams][:MAX_ADDRESSES], *[*relays][:1])


def _owners(public_key: bytes) -> tuple[str, str]:
    """
    The names of iroh's and of our own records.
    """
    zone = z32_encode(public_key)
    return f"_iroh.{zone}", f"_dtt.{zone}"


# Signatures


def relay_payload(key: PeerKey, packet: Packet) -> bytes:
    """
    C{packet} of C{key}, signed, as relays take and give it: at most
    L{MAX_PAYLOAD} bytes.
    """
    return key.sign(_signed(packet)) + packet.seq.to_bytes(8, "big") + packet.dns


def read_payload(public_key: bytes, payload: bytes) -> Packet:
    """
    The packet in a relay payload, verified.

    @param public_key: whose it must be, 32 bytes.
    @raise DecodeError: wrong size, key, sequence number, signature or DNS packet.
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
    Is it a packet that we take, if its signature holds?

    @raise DecodeError: wrong size, key, sequence number or DNS packet.
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
    The DNS packet with C{addresses} of C{public_key}: the first relay, and the
    first L{MAX_ADDRESSES} others.  What does not fit into L{MAX_WRITTEN} bytes
    is left out, the last address first, then user data, then the relay.

    @param user_data: for whoever reads it; not with C{=} in it, which iroh
        can't read back.
    """
    listed = list(addresses)
    relays = [a.url for a in listed if isinstance(a, RelayAddress) and _is_text("relay", a.url)][:1]
    others = [a for a in listed if isinstance(a, PeerAddress)][:MAX_ADDRESSES]
    users = [user_data] if user_data is not None and _is_text("user-data", user_data) else []
    while len(packet := _write(public_key, relays, others, users)) > MAX_WRITTEN:
        (others or users or relays).pop()
    return packet


def _is_text(key: str, value: str) -> bool:
    return bool(value) and "=" not in value and len(f"{key}={value}".encode()) <= MAX_STRING


def _write(
    public_key: bytes, relays: Sequence[str], others: Sequence[PeerAddress], users: Sequence[str]
) -> bytes:
    of_iroh, of_dtt = _owners(public_key)
    return write_texts(
        [
            *((of_iroh, f"relay={url}") for url in relays),
            *((of_iroh, f"addr={address}") for address in others if address.transport == IROH),
            *((of_iroh, f"user-data={text}") for text in users),
            *((of_dtt, f"streams={address}") for address in others if address.transport == STREAMS),
        ]
    )


def _read_address(transport: int, text: str) -> PeerAddress | None:
    """
    C{ip:port}, an IPv6 address in brackets; anything else, as iroh's custom
    addresses, is no address of ours.
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
