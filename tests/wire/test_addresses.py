"""
Tests for L{dtt.wire.addresses}.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis.strategies import binary, builds, integers, ip_addresses, lists, sampled_from
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.wire.addresses import (
    IROH,
    MAX_ADDRESSES,
    MAX_RELAY_URL,
    QUIC,
    STREAMS,
    Address,
    PeerAddress,
    RelayAddress,
    alternate_families,
    decode_extension,
    decode_peer_data,
    encode_extension,
    encode_peer_data,
    kinds_of,
)

EXTENSIONS = json.loads((Path(__file__).parents[1] / "vectors" / "records.json").read_text())["extension"]

V4 = PeerAddress(STREAMS, "127.0.0.1", 4433)
V6 = PeerAddress(IROH, "2001:db8::1", 65535)
RELAY = RelayAddress("https://relay.example./")

addresses = lists(
    builds(PeerAddress, sampled_from((STREAMS, IROH, QUIC)), ip_addresses().map(str), integers(0, 65535)),
    max_size=MAX_ADDRESSES + 4,
)


class KindsTests(SynchronousTestCase):
    """
    Tests for L{kinds_of}.
    """

    def test_kinds(self) -> None:
        """
        Each kind is named once, in the order of the addresses.
        """
        addresses: list[Address] = [
            PeerAddress(STREAMS, "80.1.2.3", 1),
            PeerAddress(QUIC, "10.0.0.1", 1),
            PeerAddress(QUIC, "10.0.0.2", 2),
            RelayAddress("https://relay.example/"),
            PeerAddress(IROH, "2a01::1", 1),
            PeerAddress(STREAMS, "127.0.0.1", 1),
        ]
        self.assertEqual(
            kinds_of(addresses),
            ("streams global", "quic private", "iroh relay", "iroh global", "streams loopback"),
        )
        self.assertEqual(kinds_of(()), ())


class PeerAddressTests(SynchronousTestCase):
    """
    Tests for L{PeerAddress}.
    """

    def test_str(self) -> None:
        """
        The text of an address is what users type, with IPv6 in brackets.
        """
        self.assertEqual(str(V4), "127.0.0.1:4433")
        self.assertEqual(str(V6), "[2001:db8::1]:65535")
        self.assertEqual(str(RELAY), "https://relay.example./")


class ExtensionTests(SynchronousTestCase):
    """
    Tests for L{encode_extension} and L{decode_extension}.
    """

    def test_vector(self) -> None:
        """
        The well-formed extension that Rust peers carried encodes and decodes streams
        127.0.0.1:4433; the other vectors yield no address.
        """
        well_formed = bytes.fromhex(EXTENSIONS[1]["extension"])
        self.assertEqual(decode_extension(well_formed), (V4,))
        self.assertEqual(encode_extension([V4]), well_formed)
        for case in (EXTENSIONS[0], *EXTENSIONS[2:]):
            self.assertEqual(decode_extension(bytes.fromhex(case["extension"])), ())

    @given(addresses)
    def test_round_trip(self, given_addresses: list[PeerAddress]) -> None:
        """
        The first L{MAX_ADDRESSES} addresses survive a round trip, in order, grouped by transport.
        """
        limited = given_addresses[:MAX_ADDRESSES]
        decoded = decode_extension(encode_extension(given_addresses) + b"what follows is ignored")
        for transport in (STREAMS, IROH):
            self.assertEqual(
                [address for address in decoded if address.transport == transport],
                [address for address in limited if address.transport == transport],
            )
        self.assertEqual(len(decoded), len(limited))

    def test_none(self) -> None:
        """
        Without addresses there is no extension.
        """
        self.assertEqual(encode_extension([]), b"")
        self.assertEqual(decode_extension(b""), ())

    def test_unknown_transport(self) -> None:
        """
        An unknown transport is skipped; the next one is read.
        """
        group = bytes.fromhex("01007f000001d122")
        self.assertEqual(decode_extension(b"dtt1\x02\x07" + group + b"\x00" + group), (V4,))

    def test_truncated(self) -> None:
        """
        A malformed extension counts as absent, wherever it breaks off.
        """
        whole = encode_extension([V4, V6])
        for end in range(len(whole)):
            self.assertEqual(decode_extension(whole[:end]), ())

    def test_at_most_twelve(self) -> None:
        """
        At most twelve addresses are read, however many transports there are.
        """
        many = b"\x05" + bytes.fromhex("007f000001d122") * 5
        self.assertEqual(
            len(decode_extension(b"dtt1\x03" + b"".join(bytes((t,)) + many for t in (0, 1, 0)))), 12
        )

    @given(binary(max_size=80))
    def test_garbage(self, data: bytes) -> None:
        """
        Garbage yields some addresses or none, never an error.
        """
        decode_extension(b"dtt1" + data)


class PeerDataTests(SynchronousTestCase):
    """
    Tests for L{encode_peer_data} and L{decode_peer_data}.
    """

    def test_empty(self) -> None:
        """
        Empty PeerData has no addresses.
        """
        self.assertEqual(decode_peer_data(b""), ())

    def test_rust_reads_addr_info(self) -> None:
        """
        AddrInfo with the iroh addresses comes first, for Rust peers; the extension with
        all transports follows.
        """
        data = encode_peer_data([V4, RELAY, V6])
        addr_info = (
            b"\x01\x17https://relay.example./"
            + b"\x01\x01"
            + bytes.fromhex("20010db8" + "00" * 11 + "01ffff03")
        )
        self.assertEqual(data, addr_info + encode_extension([V4, V6]))
        self.assertEqual(decode_peer_data(data), (V4, V6, RELAY))
        self.assertEqual(decode_peer_data(addr_info), (V6, RELAY))

    def test_relay_besides_eight(self) -> None:
        """
        Eight addresses leave room for a relay; a relay with too long a URL is ignored.
        """
        eight = tuple(PeerAddress(IROH, "192.0.2.1", port) for port in range(1, 9))
        self.assertEqual(decode_peer_data(encode_peer_data([RELAY, *eight])), (*eight, RELAY))
        too_long = RelayAddress("https://" + "r" * (MAX_RELAY_URL - 7))
        self.assertEqual(decode_peer_data(encode_peer_data([too_long, V6])), (V6,))

    def test_malformed_extension(self) -> None:
        """
        AddrInfo counts even if it is not followed by an extension.
        """
        self.assertEqual(decode_peer_data(encode_peer_data([V6])[:25]), (V6,))

    @given(addresses)
    def test_round_trip(self, given_addresses: list[PeerAddress]) -> None:
        """
        Each of the first L{MAX_ADDRESSES} addresses is decoded once.
        """
        decoded = decode_peer_data(encode_peer_data(given_addresses))
        self.assertEqual(set(decoded), set(given_addresses[:MAX_ADDRESSES]))
        self.assertEqual(len(decoded), len(set(decoded)))

    @given(binary(min_size=1, max_size=80))
    def test_garbage(self, data: bytes) -> None:
        """
        Garbage is decoded or rejected, never another error.
        """
        with contextlib.suppress(DecodeError):
            decode_peer_data(data)


class FamiliesTests(SynchronousTestCase):
    """
    Tests for L{alternate_families}.
    """

    def test_alternate(self) -> None:
        """
        The families alternate, the first one first; the order within each stays.
        """
        hosts = ["2a00::1", "2a00::2", "2a00::3", "80.0.0.1", "80.0.0.2"]
        mixed = alternate_families(PeerAddress(STREAMS, host, 1) for host in hosts)
        self.assertEqual(
            [address.host for address in mixed], ["2a00::1", "80.0.0.1", "2a00::2", "80.0.0.2", "2a00::3"]
        )
        self.assertEqual(alternate_families(()), [])
