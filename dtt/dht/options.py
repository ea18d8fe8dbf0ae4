"""
The options that the parts of a node share.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from attrs import frozen

from dtt.dht.reach import Reach
from dtt.interfaces import Contact


@frozen(slots=True, kw_only=True)
class NodeOptions:
    """
    The options of a node that apply to all of its families; see
    L{dtt.dht.node.DHTNode}.

    @ivar rng: the source of ids, tokens and transaction ids; must be unpredictable.
    @ivar node_id: our 20-byte id at first.
    @ivar bootstrap: (name or IP literal, port) pairs.
    @ivar known_nodes: nodes of any family known from an earlier run.
    @ivar reach: decides to which addresses the node sends.
    @ivar closed: as in L{RoutingTable<dtt.dht.routing.table.RoutingTable>}.
    @ivar always_serves: never announce ourselves as read-only.
    @ivar upload_rate: the most bytes per second sent in answers.
    @ivar external_host: our external IP address in an earlier run, or C{None}; used only
        in its own family.
    """

    rng: Random
    node_id: bytes
    bootstrap: Sequence[tuple[str, int]]
    known_nodes: Sequence[Contact]
    reach: Reach
    closed: bool
    always_serves: bool
    upload_rate: float
    external_host: str | None
