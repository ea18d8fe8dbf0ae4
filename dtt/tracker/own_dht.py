"""
The DHT node of a tracker: its own, or one of the application.

Rule: a node of the application is bound if necessary, and used.  The application starts and stops it,
configures it, and stores its state.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dtt.arguments import check_reactor, kind_of
from dtt.config import DHTConfig
from dtt.dht.node import DHTNode
from dtt.dht.saved import SavedNode
from dtt.errors import WrongType
from dtt.identity import PeerKey
from dtt.net.local import interfaces_of, ipv6_interface


def make_dht(reactor: Any, rng: Random, config: DHTConfig, known: SavedNode) -> DHTNode:
    """
    Create a node for a tracker.

    @param reactor: see L{DHTNode}.
    @param rng: the source of ids and tokens, which must be unpredictable.
    @param config: the settings.
    @param known: the saved state of an earlier run.
    """
    return DHTNode(
        reactor,
        port=config.port,
        interface=config.bind,
        interface6=ipv6_interface(config.bind6, config.bind, interfaces_of(reactor)()),
        needs_ipv6=config.bind6 != "auto",
        bootstrap=config.bootstrap,
        upload_rate=config.upload_rate,
        known_nodes=known.nodes,
        node_id=known.node_id,
        external_host=known.external_host,
        rng=rng,
    )


def check_parts(reactor: object, key: object, dht: object) -> None:
    """
    Check the objects that an application passes; C{None}: it passes no key or no node.

    @raise WrongType: the reactor has no clock, the key is not a L{PeerKey}, or the node is not a L{DHTNode}.
    """
    check_reactor("the first argument", reactor)
    if key is not None and not isinstance(key, PeerKey):
        raise WrongType(f"key must be a PeerKey, such as PeerKey.from_seed(seed), not {kind_of(key)}")
    if dht is not None and not isinstance(dht, DHTNode):
        raise WrongType(f"dht must be a DHTNode, not {kind_of(dht)}")
