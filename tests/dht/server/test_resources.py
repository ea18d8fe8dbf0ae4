"""
Tests for L{dtt.dht.server.resources}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.resources import Resources
from dtt.dht.server.storage import MAX_ITEMS, MAX_ITEMS_OF_NETWORK, MAX_PEERS_OF_NETWORK


class ResourcesTests(SynchronousTestCase):
    """
    What a node gives to one network.
    """

    def fill(self, resources: Resources, count: int) -> tuple[int, int]:
        for number in range(count):
            key = number.to_bytes(20)
            resources.items.put(key, b"value", b"net", 0.0)
            resources.peers.announce(key, b"peer99", b"net", 0.0)
        return len(resources.items), len(resources.peers)

    def test_share(self) -> None:
        """
        Outside closed networks, one network has its share of the stores, and of the
        upload.
        """
        resources = Resources.create(bytes(20), upload_rate=1000.0)
        self.assertEqual(
            self.fill(resources, MAX_PEERS_OF_NETWORK + 1), (MAX_ITEMS_OF_NETWORK, MAX_PEERS_OF_NETWORK)
        )
        resources.limits.charge(b"\x0a\0\0\1", 1_000_000, 0.0)
        self.assertFalse(resources.limits.allows(b"\x50\0\0\1", 0.0))

    def test_closed(self) -> None:
        """
        In a closed network it may fill the stores, and there is no limit.
        """
        resources = Resources.create(bytes(20), closed=True, upload_rate=1000.0)
        count = MAX_PEERS_OF_NETWORK + 1
        self.assertEqual(self.fill(resources, count), (MAX_ITEMS, count))
        resources.limits.charge(b"\x0a\0\0\1", 1_000_000, 0.0)
        self.assertTrue(resources.limits.allows(b"\x0a\0\0\1", 0.0))
