"""
Tests for L{dtt.wire.address_json}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.wire.address_json import address_from_json, address_to_json
from dtt.wire.addresses import IROH, MAX_RELAY_URL, QUIC, STREAMS, Address, PeerAddress, RelayAddress


class AddressJSONTests(SynchronousTestCase):
    """
    Tests for L{address_to_json} and L{address_from_json}.
    """

    def test_both_ways(self) -> None:
        """
        Addresses of each kind are written to JSON, and read from it unchanged.
        """
        url = "https://relay.example/"
        cases: tuple[tuple[Address, list[Any]], ...] = (
            (PeerAddress(STREAMS, "192.0.2.1", 1), ["streams", "192.0.2.1", 1]),
            (PeerAddress(IROH, "2001:db8::1", 4433), ["iroh", "2001:db8::1", 4433]),
            (PeerAddress(QUIC, "192.0.2.1", 65535), ["quic", "192.0.2.1", 65535]),
            (RelayAddress(url), ["relay", url]),
            (RelayAddress("x" * MAX_RELAY_URL), ["relay", "x" * MAX_RELAY_URL]),
        )
        for address, value in cases:
            self.assertEqual(address_to_json(address), value)
            self.assertEqual(address_from_json(json.loads(json.dumps(value))), address)

    def test_normal_form(self) -> None:
        """
        An IPv6 address is read in its usual form, so that equal addresses are equal.
        """
        address = address_from_json(["quic", "2001:DB8:0:0:0:0:0:1", 1])
        self.assertEqual(address, PeerAddress(QUIC, "2001:db8::1", 1))

    def test_refused(self) -> None:
        """
        Anything else is an error, also what an address of today may not contain.
        """
        for value in (
            None,
            "relay",
            [],
            {"relay": "https://relay.example/"},
            ["relay"],
            ["relay", 5],
            ["relay", "x" * (MAX_RELAY_URL + 1)],
            ["relay", "https://relay.example/", 1],
            ["tcp", "192.0.2.1", 1],
            [1, "192.0.2.1", 1],
            ["quic", "192.0.2.1"],
            ["quic", "192.0.2.1", 1, 2],
            ["quic", "192.0.2.1", "1"],
            ["quic", "192.0.2.1", 1.0],
            ["quic", "192.0.2.1", True],
            ["quic", "192.0.2.1", 0],
            ["quic", "192.0.2.1", 65536],
            ["quic", "192.0.2.256", 1],
            ["quic", "host.example", 1],
            ["quic", "", 1],
            ["quic", 3221225985, 1],
            ["quic", "fe80::1%eth0", 1],
        ):
            self.assertRaises(ValueError, address_from_json, value)
