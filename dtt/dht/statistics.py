"""
The statistics of a node as one flat mapping, for status pages and metrics.

Nothing is computed until requested: a datagram costs only the increment of its
counters.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtt.dht.family import Side


def statistics(sides: Iterable[Side]) -> dict[str, float]:
    """
    Collect the statistics of a node.

    For each family there are, with the prefix C{ipv4_} or C{ipv6_}:

      - the counters of L{KRPCProtocol<dtt.krpc.protocol.KRPCProtocol>}: queries by
        method (C{sent_ping}, C{received_get}, ...), C{responses}, C{errors_203},
        C{dropped_REASON}, ...;
      - with a further C{answer_}, those of
        L{Responder<dtt.dht.server.responder.Responder>}: C{answer_errors_301},
        C{answer_limited}, C{answer_stored}, ...;
      - C{nodes_alive}, C{nodes_bad}: nodes in the routing table;
      - C{transactions}: open queries;
      - C{round_trip} (smoothed), C{soft_timeout}: seconds.

    C{items}, C{peers} and C{info_hashes} count what is stored, for both families.
    """
    found: dict[str, float] = {}
    for side in sides:
        prefix = side.family.name.lower()
        neighbourhood = side.neighbourhood
        table, responder = neighbourhood.table, neighbourhood.responder
        for name, count in responder.counters.items():
            found[f"{prefix}_answer_{name}"] = count
        found[f"{prefix}_nodes_alive"] = len(table)
        found[f"{prefix}_nodes_bad"] = table.bad
        found["items"] = len(responder.items)
        found["peers"] = len(responder.peers)
        found["info_hashes"] = responder.peers.info_hashes
        if not side.bound:
            continue
        krpc = neighbourhood.krpc
        for name, count in krpc.counters.items():
            found[f"{prefix}_{name}"] = count
        found[f"{prefix}_transactions"] = krpc.transactions
        found[f"{prefix}_soft_timeout"] = krpc.soft_timeout
        if krpc.round_trip is not None:
            found[f"{prefix}_round_trip"] = krpc.round_trip
    return found
