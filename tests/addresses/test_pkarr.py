"""
Tests for L{dtt.addresses.pkarr}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.dns_texts import read_texts
from dtt.addresses.pkarr import (
    MAX_READ,
    MAX_WRITTEN,
    Packet,
    check,
    read_payload,
    relay_payload,
    write_dns,
)
from dtt.errors import DecodeError
from dtt.identity import PeerKey, z32_encode
from dtt.wire.addresses import IROH, MAX_ADDRESSES, STREAMS, Address, PeerAddress, RelayAddress
from tests.addresses.common import texts

#: See docs/protocol/interop.md section 2: C{_iroh} signed packets of iroh-dns 1.4.1.
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "pkarr.json").read_text("ascii")
)

KEY = PeerKey.from_seed(b"k" * 32)
ZONE = z32_encode(KEY.peer_id).encode("ascii")
OWNER = b"\x05_iroh\x34" + ZONE + b"\x00"
A = PeerAddress(IROH, "192.0.2.1", 1)
B = PeerAddress(STREAMS, "2001:db8::1", 65535)
RELAY = RelayAddress("https://relay.example./")


def iroh_address(text: str) -> PeerAddress:
    """
    Parse an address as written in the vectors.
    """
    host, _, port = text.rpartition(":")
    return PeerAddress(IROH, host.strip("[]"), int(port))


def addresses_in(dns_packet: bytes, key: PeerKey = KEY) -> tuple[Address, ...]:
    """
    The addresses that a reader finds.
    """
    return Packet(key.peer_id, 1, dns_packet).addresses()


class VectorTests(SynchronousTestCase):
    """
    The packets made by iroh.
    """

    def test_written(self) -> None:
        """
        The same addresses and time give the same bytes as iroh's.
        """
        for vector in VECTORS:
            key = PeerKey.from_seed(bytes.fromhex(vector["seed"]))
            addresses: list[Address] = [*map(iroh_address, vector["addrs"])]
            if vector["relay"] is not None:
                addresses.append(RelayAddress(vector["relay"]))
            written = write_dns(key.peer_id, addresses, vector["user_data"])
            self.assertEqual(written.hex(), vector["dns"])
            payload = relay_payload(key, Packet(key.peer_id, vector["timestamp_us"], written))
            self.assertEqual(payload.hex(), vector["relay_payload"])
            self.assertEqual((key.peer_id + payload).hex(), vector["signed_packet"])

    def test_read(self) -> None:
        """
        The packets verify, and contain the values that iroh wrote.
        """
        self.assertGreaterEqual(len(VECTORS), 4)
        for vector in VECTORS:
            public_key = bytes.fromhex(vector["public_key"])
            packet = read_payload(public_key, bytes.fromhex(vector["relay_payload"]))
            self.assertEqual((packet.seq, packet.dns.hex()), (vector["timestamp_us"], vector["dns"]))
            owner = f"_iroh.{vector['z32']}".encode()
            self.assertEqual(read_texts(packet.dns), [(owner, text) for text in vector["txt"]])
            expected: list[Address] = [*map(iroh_address, vector["addrs"])]
            if vector["relay"] is not None:
                expected.append(RelayAddress(vector["relay"]))
            self.assertEqual(packet.addresses(), tuple(expected))

    def test_changed(self) -> None:
        """
        A packet with any bit changed, or with another key, is invalid.
        """
        vector = VECTORS[0]
        public_key, payload = (bytes.fromhex(vector[name]) for name in ("public_key", "relay_payload"))
        for place in range(len(payload)):
            changed = bytearray(payload)
            changed[place] ^= 1 << place % 8
            self.assertRaises(DecodeError, read_payload, public_key, bytes(changed))
        self.assertRaises(DecodeError, read_payload, KEY.peer_id, payload)


class WriteTests(SynchronousTestCase):
    """
    Writing packets.
    """

    def test_both_names(self) -> None:
        """
        Streams addresses are under C{_dtt}, where iroh does not look, all others under
        C{_iroh}, relay first; each name is written once.
        """
        written = write_dns(KEY.peer_id, [B, A, RELAY], "hello")
        self.assertEqual(
            read_texts(written),
            [
                (b"_iroh." + ZONE, "relay=https://relay.example./"),
                (b"_iroh." + ZONE, "addr=192.0.2.1:1"),
                (b"_iroh." + ZONE, "user-data=hello"),
                (b"_dtt." + ZONE, "streams=[2001:db8::1]:65535"),
            ],
        )
        self.assertEqual(written.count(ZONE), 1)
        self.assertEqual(addresses_in(written), (A, B, RELAY))

    def test_too_many(self) -> None:
        """
        Only the first twelve addresses and the first relay are written.
        """
        many = [PeerAddress(number % 2, "192.0.2.1", number + 1) for number in range(20)]
        written = write_dns(KEY.peer_id, [*many, RELAY, RelayAddress("https://other.example/")])
        self.assertEqual(set(addresses_in(written)), {*many[:MAX_ADDRESSES], RELAY})

    def test_trimmed(self) -> None:
        """
        Entries that do not fit into a DHT item are dropped, beginning at the end.
        """
        long = [PeerAddress(IROH, f"2001:db8:1111:2222:3333:4444:5555:666{n}", 60000) for n in range(8)]
        relay = RelayAddress("https://" + "r" * 240 + "/")
        self.assertEqual(len(addresses_in(write_dns(KEY.peer_id, [*long, relay]))), 9)
        written = write_dns(KEY.peer_id, [*long, relay], "u" * 245)
        self.assertLessEqual(len(written), MAX_WRITTEN)
        self.assertEqual(addresses_in(written), (*long[:6], relay))

    def test_nothing_iroh_would_misread(self) -> None:
        """
        Texts with an equals sign, which iroh cuts short, and texts that are too long are
        dropped.
        """
        for url in ("https://relay.example/?a=b", "https://" + "x" * 300, ""):
            self.assertEqual(read_texts(write_dns(KEY.peer_id, [RelayAddress(url)])), [])
        for text in ("a=b", "x" * 246, "\u00fc" * 123, ""):
            self.assertEqual(read_texts(write_dns(KEY.peer_id, [], text)), [])

    @given(
        st.lists(
            st.one_of(
                st.builds(
                    PeerAddress,
                    st.sampled_from((STREAMS, IROH)),
                    st.ip_addresses().map(str).filter(lambda host: "%" not in host),
                    st.integers(1, 65535),
                ),
                st.builds(RelayAddress, texts(300)),
            ),
            max_size=12,
        ),
        st.none() | texts(300),
    )
    def test_any(self, addresses: list[Address], user_data: str | None) -> None:
        """
        Any list of addresses gives a packet that fits, and that reads as a subset of the
        list.
        """
        written = write_dns(KEY.peer_id, addresses, user_data)
        self.assertLessEqual(len(written), MAX_WRITTEN)
        self.assertTrue(set(addresses_in(written)) <= set(addresses))


class PacketTests(SynchronousTestCase):
    """
    Keys, sizes and sequence numbers.
    """

    def test_sizes(self) -> None:
        """
        A payload shorter than its parts or longer than a packet is refused.
        """
        for payload, reason in (
            (bytes(71), "pkarr: too short"),
            (bytes(64 + 8 + MAX_READ + 1), "pkarr: too large"),
        ):
            error = self.assertRaises(DecodeError, read_payload, KEY.peer_id, payload)
            self.assertEqual(str(error), reason)

    def test_seq(self) -> None:
        """
        A sequence number that is impossible in the DHT is refused; the largest possible
        one is accepted.
        """
        written = write_dns(KEY.peer_id, [A])
        high = Packet(KEY.peer_id, 2**63 - 1, written)
        self.assertEqual(read_payload(KEY.peer_id, relay_payload(KEY, high)), high)
        error = self.assertRaises(
            DecodeError, read_payload, KEY.peer_id, relay_payload(KEY, Packet(KEY.peer_id, 2**63, written))
        )
        self.assertEqual(str(error), "pkarr: bad seq")

    def test_keys(self) -> None:
        """
        Packets of invalid ids are refused.
        """
        for public_key in (bytes(32), b"\x01" + bytes(31), b"\x02" + bytes(31), b"short"):
            error = self.assertRaises(DecodeError, check, Packet(public_key, 1, write_dns(KEY.peer_id, [A])))
            self.assertEqual(str(error), "pkarr: bad key")

    def test_version(self) -> None:
        """
        Packets are ordered by sequence number, then by the bytes of the DNS packet.
        """
        packets = [Packet(KEY.peer_id, 2, b"a"), Packet(KEY.peer_id, 1, b"b"), Packet(KEY.peer_id, 1, b"c")]
        self.assertEqual(max(packets, key=Packet.version), packets[0])
        self.assertEqual(max(packets[1:], key=Packet.version), packets[2])
