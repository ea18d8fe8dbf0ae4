"""
An in-memory DHT of realistic size, and the latencies between its nodes.

The Mainline DHT has millions of nodes, tens of milliseconds apart, many of which never
answer. L{VastDHT} has up to 2^24 nodes. A node is computed when it is queried, so it
needs no memory except for what is stored on it. L{Links} gives the latencies. Both are
deterministic: the same seed gives the same bytes on any machine.
"""

from dtt.testing.vast.dht import VastDHT
from dtt.testing.vast.links import Links
from dtt.testing.vast.places import MEMBERS, member_host

__all__ = ["MEMBERS", "Links", "VastDHT", "member_host"]
