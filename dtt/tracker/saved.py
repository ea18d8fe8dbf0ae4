"""
What a tracker remembers over restarts, besides its key.  Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from dtt.interfaces import Contact

#: The format of the file; another one is not read.
VERSION = 1


@frozen(slots=True)
class SavedNode:
    """
    Ports, and the DHT node.

    @ivar dht_port: UDP; 0: none yet.
    @ivar listen_port: TCP of the streams transport; 0: none yet.
    @ivar iroh_port: UDP of the iroh transport; 0: none yet.
    @ivar node_id: 20 bytes, or L{None}.
    @ivar nodes: DHT nodes that were good, the best first.
    """

    dht_port: int = 0
    listen_port: int = 0
    iroh_port: int = 0
    node_id: bytes | None = None
    nodes: tuple[Contact, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """
        The object that is written.
        """
        return {
            "version": VERSION,
            "dht_port": self.dht_port,
            "listen_port": self.listen_port,
            "iroh_port": self.iroh_port,
            "node_id": None if self.node_id is None else self.node_id.hex(),
            "nodes": [[node.node_id.hex(), node.host, node.port] for node in self.nodes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SavedNode:
        """
        What L{to_json} gave.

        @raise ValueError: it is something else.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        try:
            node_id = value["node_id"]
            return cls(
                _port(value["dht_port"]),
                _port(value["listen_port"]),
                _port(value["iroh_port"]),
                None if node_id is None else _node_id(node_id),
                tuple(
                    Contact(_node_id(id_), str(ipaddress.ip_address(host)), _port(port, 1))
                    for id_, host, port in value["nodes"]
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"unusable: {error!r}") from None


def _port(value: Any, lowest: int = 0) -> int:
    if type(value) is not int or not lowest <= value < 65536:
        raise ValueError(f"not a port: {value!r}")
    return value


def _node_id(value: str) -> bytes:
    node_id = bytes.fromhex(value)
    if len(node_id) != 20:
        raise ValueError(f"not a node id: {value!r}")
    return node_id
