"""
Whether members are one swarm.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def components(neighbors: Mapping[T, Iterable[T]]) -> list[set[T]]:
    """
    Return the connected components of a graph, as sets of its nodes.

    @param neighbors: the neighbours of each node.  A link in one direction connects both nodes; links to
        unknown nodes are ignored.
    """
    parts: list[set[T]] = []
    for node, others in neighbors.items():
        linked = {node, *others} & neighbors.keys()
        touched = [part for part in parts if part & linked]
        parts = [part for part in parts if not part & linked]
        parts.append(linked.union(*touched))
    return parts
