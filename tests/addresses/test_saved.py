"""
Tests for L{dtt.addresses.saved}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.saved import MAX_REACHED, ReachedPeer, from_json, to_json
from dtt.identity import PeerKey
from dtt.wire.addresses import MAX_ADDRESSES, STREAMS, PeerAddress, RelayAddress
from tests.addresses.common import A, texts

PEER = PeerKey.from_seed(b"p" * 32).peer_id
REACHED = ReachedPeer(
    PEER, (A, PeerAddress(STREAMS, "2001:db8::1", 65535), RelayAddress("https://relay.example./")), 17.5
)


class SavedTests(SynchronousTestCase):
    """
    Writing and reading the saved addresses.
    """

    def test_roundtrip(self) -> None:
        """
        A round trip through JSON changes nothing.
        """
        self.assertEqual(from_json(json.loads(json.dumps(to_json([REACHED])))), [REACHED])
        self.assertEqual(from_json(to_json([])), [])

    def test_format(self) -> None:
        """
        The format of the file is fixed.
        """
        self.assertEqual(
            to_json([REACHED]),
            {
                "version": 1,
                "peers": [
                    {
                        "id": PEER.hex(),
                        "reached_at": 17.5,
                        "addresses": [
                            ["iroh", "192.0.2.1", 1],
                            ["streams", "2001:db8::1", 65535],
                            ["relay", "https://relay.example./"],
                        ],
                    }
                ],
            },
        )

    def test_unusable(self) -> None:
        """
        Anything else is refused.
        """
        good = {"id": PEER.hex(), "reached_at": 1, "addresses": []}
        for value in (
            {},
            {"version": 2, "peers": []},
            {"version": 1},
            {"version": 1, "peers": 5},
            {"version": 1, "peers": [5]},
            {"version": 1, "peers": [{}]},
            {"version": 1, "peers": [{**good, "id": "ab"}]},
            {"version": 1, "peers": [{**good, "id": 5}]},
            {"version": 1, "peers": [{**good, "reached_at": "now"}]},
            {"version": 1, "peers": [{**good, "reached_at": float("nan")}]},
            {"version": 1, "peers": [{**good, "reached_at": 10**400}]},
            {"version": 1, "peers": [{**good, "addresses": 5}]},
            {"version": 1, "peers": [{**good, "addresses": [["iroh", "name.example", 1]]}]},
            {"version": 1, "peers": [{**good, "addresses": [["iroh", "192.0.2.1", 0]]}]},
            {"version": 1, "peers": [{**good, "addresses": [["iroh", "fe80::1%eth0", 1]]}]},
            {"version": 1, "peers": [{**good, "addresses": [["other", "192.0.2.1", 1]]}]},
            {"version": 1, "peers": [{**good, "addresses": [["relay", "x" * 250]]}]},
        ):
            self.assertRaises(ValueError, from_json, value)

    def test_too_much(self) -> None:
        """
        Of too long a list only the beginning counts.
        """
        value = to_json([REACHED] * (MAX_REACHED + 5))
        value["peers"][0]["addresses"] *= 20
        peers = from_json(value)
        self.assertEqual((len(peers), len(peers[0].addresses)), (MAX_REACHED, MAX_ADDRESSES + 1))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | texts(5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(("id", "reached_at", "addresses")), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    def test_any(self, peers: Any) -> None:
        """
        Any file can be read or is refused.
        """
        try:
            from_json({"version": 1, "peers": peers})
        except ValueError:
            return
