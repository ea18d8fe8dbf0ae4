"""
Tests for L{dtt.addresses.pkarr}.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.names import dns
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


def header(answers: int, *, flags: int = 0x8000, questions: int = 0) -> bytes:
    """
    The header of a DNS packet.
    """
    numbers = (0, flags, questions, answers, 0, 0)
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def rdata(data: bytes, kind: int = dns.TXT, cls: int = dns.IN) -> bytes:
    """
    The fields of a resource record after its name.
    """
    return kind.to_bytes(2, "big") + cls.to_bytes(2, "big") + bytes(4) + len(data).to_bytes(2, "big") + data


def string(text: bytes) -> bytes:
    """
    A DNS character-string.
    """
    return bytes((len(text),)) + text


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


class ReadTests(SynchronousTestCase):
    """
    Reading packets.
    """

    def assert_refused(self, packet: bytes, reason: str) -> None:
        """
        Assert that a packet is malformed, for the given reason.
        """
        error = self.assertRaises(DecodeError, read_texts, packet)
        self.assertEqual(str(error), reason)

    def test_unknown(self) -> None:
        """
        Unknown keys, other names, types and classes, values that are not supported
        addresses, and texts that are not UTF-8 are skipped.
        """
        texts = (
            b"addr=192.0.2.1:1",
            b"addr=192.0.2.1:0",
            b"addr=192.0.2.1:65536",
            b"addr=192.0.2.1",
            b"addr=2001:db8::1:5",
            b"addr=[192.0.2.1]:5",
            b"addr=[fe80::1%3]:5",
            b"addr=1_a1b2c3d4e5f6",
            b"addr=",
            b"addr",
            b"",
            b"relay=",
            b"relay=" + b"x" * 249 + b"",
            b"future=thing",
            b"addr=\xff",
        )
        records = [OWNER + rdata(string(text)) for text in texts]
        records += [
            OWNER + rdata(string(b"addr=192.0.2.9:1"), kind=dns.NULL),
            OWNER + rdata(string(b"addr=192.0.2.9:1"), cls=3),
            b"\x05_iroh\x00" + rdata(string(b"addr=192.0.2.9:1")),
            b"\x05_iron\xc0\x12" + rdata(string(b"addr=192.0.2.9:1")),
            b"\xc0\x12" + rdata(string(b"addr=192.0.2.9:1")),
        ]
        packet = header(len(records)) + b"".join(records)
        self.assertEqual(addresses_in(packet), (A, RelayAddress("x" * 249)))

    def test_strings_are_joined(self) -> None:
        """
        A text split into several strings is joined, as DNS specifies.
        """
        packet = header(1) + OWNER + rdata(string(b"addr=192.") + string(b"") + string(b"0.2.1:1"))
        self.assertEqual(addresses_in(packet), (A,))

    def test_at_most_twelve_of_each(self) -> None:
        """
        Only the first twelve addresses of each kind count; duplicates count once.
        """
        texts = [b"addr=192.0.2.1:%d" % (number // 2 + 1) for number in range(40)]
        packet = header(40) + b"".join(
            (b"\xc0\x0c" if n else OWNER) + rdata(string(t)) for n, t in enumerate(texts)
        )
        self.assertEqual(
            addresses_in(packet), tuple(PeerAddress(IROH, "192.0.2.1", n + 1) for n in range(12))
        )

    def test_no_answer(self) -> None:
        """
        A query, and a packet with questions, is refused.
        """
        self.assert_refused(header(0, flags=0), "dns: no answer")
        self.assert_refused(header(0, questions=1), "dns: no answer")

    def test_truncated(self) -> None:
        """
        A packet cut at any position, or with too large a count, is malformed.
        """
        packet = write_dns(KEY.peer_id, [A, B, RELAY])
        for size in range(len(packet)):
            self.assert_refused(packet[:size], "dns: truncated")
        self.assert_refused(header(65535) + packet[12:], "dns: truncated")
        self.assert_refused(header(1) + OWNER + rdata(b"\x09short"), "dns: truncated")

    def test_loops(self) -> None:
        """
        Names that point at themselves, at each other, or forwards without end are
        refused.
        """
        for name in (b"\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\x01a\xc0\x0c", b"\xff\xff"):
            packet = header(1) + name + rdata(string(b"addr=192.0.2.1:1"))
            self.assertRaises(DecodeError, read_texts, packet)
        self.assert_refused(header(1) + b"\xc0\x0c", "dns: compression loop")
        self.assert_refused(header(1) + b"\x3f" + b"a" * 63 + b"\xc0\x0c", "dns: name too long")

    def test_long_labels(self) -> None:
        """
        Labels and names beyond the limits of DNS are refused.
        """
        self.assert_refused(header(1) + b"\x40" + b"a" * 64 + b"\x00", "dns: name too long")
        self.assert_refused(header(1) + (b"\x3f" + b"a" * 63) * 4 + b"\x00", "dns: name too long")

    def test_bounded_time(self) -> None:
        """
        The most expensive known packets take a few milliseconds: as many names as fit,
        each with a chain of pointers over labels of one byte.
        """
        chain = b"".join((12 + 2 + 2 * n).to_bytes(2, "big").replace(b"\x00", b"\xc0", 1) for n in range(14))
        labels = b"\x01a" * 126 + b"\x00"
        body = b"".join(b"\xc0\x0c" + rdata(b"") for _ in range(58))
        for packet in (
            header(65535) + chain + labels + body,
            header(65535) + labels + rdata(b"") + body,
            header(65535) + b"\x00" * (MAX_READ - 12),
            header(65535) + b"\xc0" * (MAX_READ - 12),
        ):
            self.assertLessEqual(len(packet), MAX_READ)
            begin = time.process_time()
            self.assertRaises(DecodeError, read_texts, packet)
            self.assertLess(time.process_time() - begin, 0.25)

    @given(st.binary(max_size=300), st.integers(0, 65535), st.booleans())
    def test_any_bytes(self, data: bytes, count: int, ours: bool) -> None:
        """
        Any bytes after a header can be read, or raise L{DecodeError}.
        """
        try:
            addresses_in(header(count) + (OWNER if ours else b"") + data)
        except DecodeError as error:
            self.assertTrue(str(error).startswith("dns: "))

    @given(st.data())
    def test_any_change(self, data: st.DataObject) -> None:
        """
        A valid packet with a few bytes changed can be read, or raises L{DecodeError}.
        """
        packet = bytearray(write_dns(KEY.peer_id, [A, B, RELAY], "x"))
        for place in data.draw(st.lists(st.integers(0, len(packet) - 1), max_size=4)):
            packet[place] = data.draw(st.integers(0, 255))
        try:
            addresses_in(bytes(packet))
        except DecodeError as error:
            self.assertTrue(str(error).startswith("dns: "))


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
            error = self.assertRaises(DecodeError, check, Packet(public_key, 1, header(0)))
            self.assertEqual(str(error), "pkarr: bad key")

    def test_version(self) -> None:
        """
        Packets are ordered by sequence number, then by the bytes of the DNS packet.
        """
        packets = [Packet(KEY.peer_id, 2, b"a"), Packet(KEY.peer_id, 1, b"b"), Packet(KEY.peer_id, 1, b"c")]
        self.assertEqual(max(packets, key=Packet.version), packets[0])
        self.assertEqual(max(packets[1:], key=Packet.version), packets[2])
