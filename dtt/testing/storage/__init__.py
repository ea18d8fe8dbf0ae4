"""
A DHT of some hundred or thousand light hosts, whose every node can be inspected.

L{StorageDHT} answers as libtorrent, mainline, bittorrent-dht, dtt and jech do, with
libtorrent's upload limit and ban. Nodes can be replaced while it runs, and attackers can
be among them. L{dtt.testing.vast} is larger, but its nodes never change.
"""

from dtt.testing.storage.dht import StorageDHT
from dtt.testing.storage.nodes import MIX, StorageNode

__all__ = ["MIX", "StorageDHT", "StorageNode"]
