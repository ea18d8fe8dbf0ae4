"""
Bootstrap hosts that behave as the real ones (arvidn/bootstrap-dht, main.cpp).

Rules:
  - C{ping}, C{find_node}, C{get_peers} and C{get} are answered with the next nodes of a
    ring buffer, whatever the target; C{ping} without nodes.
  - The ring contains nodes with a valid id (BEP42) that answered once; some have gone
    silent since.
  - A client that has asked recently gets three nodes.
  - A second query directly after the first is dropped, unless it is from a read-only node
    (BEP43).
  - There are no tokens, no peers, no items and no C{v}.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_128
from random import Random
from struct import unpack
from typing import Final

from dtt.dht.routing.ids import generate
from dtt.krpc.compact import encode_address
from dtt.krpc.messages import Query
from dtt.testing.vast.answers import encode_reply
from dtt.testing.vast.places import BOOTSTRAP, Place

#: Nodes in a reply (C{nodes_in_response}), and in a reply to a client that has asked recently.
NODES: Final = 16
FEW_NODES: Final = 3

#: Seconds for which a query counts as recent. The source clears all clients together every 10 minutes;
#: here each has its own 10 minutes.
RECENT: Final = 600.0

#: Seconds within which two queries count as back to back. In the source: until another client asks.
#: Guess; on a busy host it is less.
BACK_TO_BACK: Final = 1.0

#: The number of clients remembered; 4 million in the source. Guess.
MAX_REMEMBERED: Final = 65536

#: The port of the public hosts.
PORT: Final = 6881

# Draws for each node in a reply: nodes with an invalid id are skipped.
_DRAWS = 32

_ANSWERED = frozenset((b"ping", b"find_node", b"get_peers", b"get"))


class BootstrapHosts:
    """
    All bootstrap hosts.

    @ivar addresses: hosts and ports.
    """

    def __init__(self, count: int, bits: int, key: bytes, place: Callable[[int], Place]) -> None:
        """
        @param count: the number of hosts, at most 256.
        @param bits: there are 2^bits nodes.
        @param key: the key of the random draws.
        @param place: returns a node by its number.
        """
        self.addresses = tuple((f"{BOOTSTRAP}.{index}.0.1", PORT) for index in range(count))
        self._key = key
        self._mask = (1 << bits) - 1
        self._place = place
        self._ids = {host: _node_id(key, host) for host, _ in self.addresses}
        self._cursors = dict.fromkeys(self._ids, 0)
        # The time of each client's last query, by host and client.
        self._asked: dict[tuple[str, str], float] = {}

    def answer(self, query: Query, host: str, source: tuple[str, int], now: float) -> bytes | None:
        """
        The reply of a host; C{None}: no reply.

        @param host: the address of the bootstrap host.
        @param source: the client's address and port.
        @param now: seconds.
        """
        entries = self._entries(query, host, source[0], now)
        if entries is None:
            return None
        return encode_reply(query, b"", encode_address(*source), node_id=self._ids[host], entries=entries)

    def _entries(self, query: Query, host: str, asker: str, now: float) -> bytes | None:
        """
        The entries that follow the id in the reply.
        """
        if query.method not in _ANSWERED or not query.node_id:
            return None
        last = self._asked.pop((host, asker), None)
        if last is not None and now - last < BACK_TO_BACK and not query.read_only:
            self._asked[host, asker] = last
            return None
        if len(self._asked) >= MAX_REMEMBERED:
            del self._asked[next(iter(self._asked))]
        self._asked[host, asker] = now
        if query.method == b"ping":
            return b""
        few = last is not None and now - last < RECENT
        nodes = b"".join(self._next(host, FEW_NODES if few else NODES))
        return b"5:nodes%d:%b" % (len(nodes), nodes)

    def _next(self, host: str, count: int) -> list[bytes]:
        cursor = self._cursors[host]
        self._cursors[host] += 1
        stream = shake_128(b"%b %b %d" % (self._key, host.encode("ascii"), cursor))
        chosen: list[bytes] = []
        draws = count * _DRAWS
        for word in unpack(f"<{draws}I", stream.digest(4 * draws)):
            place = self._place(word & self._mask)
            if place.secure:
                chosen.append(place.compact)
                if len(chosen) == count:
                    break
        return chosen


def _node_id(key: bytes, host: str) -> bytes:
    return generate(host, Random(key + host.encode("ascii")))
