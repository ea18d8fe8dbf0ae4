"""
What a node has counted, as one flat mapping for status pages and metrics.

Nothing is computed before somebody asks: counting is all that a datagram
costs.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtt.dht.family import Side


def statistics(sides: Iterable[Side]) -> dict[str, float]:
    """
    For each family, C{ipv4.} and C{ipv6.} before

      - the counters of L{KRPCProtocol<dtt.krpc.protocol.KRPCProtocol>}: queries
        by kind (C{sent.ping}, C{received.get}, ...), C{responses}, C{errors.203},
        C{dropped.REASON}, ...;
      - C{answer.} and those of L{Responder<dtt.dht.server.responder.Responder>}:
        C{answer.error.301}, C{answer.limited}, C{answer.stored}, ...;
      - C{nodes.alive}, C{nodes.bad}: the routing table;
      - C{transactions}: queries without an answer so far;
      - C{round trip}, C{soft timeout}: seconds, smoothed;

    and of both C{items}, C{peers}, C{info hashes}: what is stored.
    """
    found: dict[str, float] = {}
    for side in sides:
        prefix = side.family.name.lower()
        neighbourhood = side.neighbourhood
        table, responder = neighbourhood.table, neighbourhood.responder
        for name, count in responder.counters.items():
            found[f"{prefix}.answer.{name}"] = count
        found[f"{prefix}.nodes.alive"] = len(table)
        found[f"{prefix}.nodes.bad"] = table.bad
        found["items"] = len(responder.items)
        found["peers"] = len(responder.peers)
        found["info hashes"] = responder.peers.info_hashes
        if not side.bound:
            continue
        krpc = neighbourhood.krpc
        for name, count in krpc.counters.items():
            found[f"{prefix}.{name}"] = count
        found[f"{prefix}.transactions"] = krpc.transactions
        found[f"{prefix}.soft timeout"] = krpc.soft_timeout
        if krpc.round_trip is not None:
            found[f"{prefix}.round trip"] = krpc.round_trip
    return found
