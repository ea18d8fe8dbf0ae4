"""
Tests for L{dtt.addresses.dns_texts}.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.dns_texts import read_texts
from dtt.addresses.pkarr import (
    MAX_READ,
    Packet,
    write_dns,
)
from dtt.errors import DecodeError
from dtt.identity import PeerKey, z32_encode
from dtt.wire.addresses import IROH, STREAMS, Address, PeerAddress, RelayAddress

KEY = PeerKey.from_seed(b"k" * 32)


ZONE = z32_encode(KEY.peer_id).encode("ascii")


OWNER = b"\x05_iroh\x34" + ZONE + b"\x00"


A = PeerAddress(IROH, "192.0.2.1", 1)


B = PeerAddress(STREAMS, "2001:db8::1", 65535)


RELAY = RelayAddress("https://relay.example./")


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
