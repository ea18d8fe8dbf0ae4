"""
The state that a DHT node keeps across restarts.

Rules: the file is replaced atomically (L{dtt.state}). A file that is damaged or of
another version is set aside with a warning, and the node starts without it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtt.dht.node import MAX_KNOWN_NODES, DHTNode
from dtt.dht.routing.ids import ID_SIZE
from dtt.interfaces import Contact
from dtt.net.networks import Scope, scope
from dtt.state import StateDirectory, StateFile

#: The file in the state directory, and its format version; no other version is read.
FILE: Final = "dht.json"
VERSION: Final = 1

#: Seconds between writes. Guess: a crash costs only a slightly outdated list of nodes.
SAVE_INTERVAL: Final = 300.0

_log = Logger()


@frozen(slots=True)
class SavedNode:
    """
    The saved state of a node.

    @ivar node_id: 20 bytes; C{None} before the first run.
    @ivar nodes: nodes that were good, the best first; at most
        L{MAX_KNOWN_NODES<dtt.dht.node.MAX_KNOWN_NODES>}.
    @ivar external_host: our external IP address, a global one, or C{None}.
    """

    node_id: bytes | None = None
    nodes: tuple[Contact, ...] = ()
    external_host: str | None = None

    @classmethod
    def of(cls, node: DHTNode) -> SavedNode:
        """
        Return the state of a node that should be saved.
        """
        return cls(node.node_id, tuple(node.known_nodes()), node.external_host)

    def to_json(self) -> dict[str, Any]:
        """
        Return the JSON object to write.
        """
        return {
            "version": VERSION,
            "node_id": None if self.node_id is None else self.node_id.hex(),
            "nodes": [[node.node_id.hex(), node.host, node.port] for node in self.nodes],
            "external_host": self.external_host,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SavedNode:
        """
        Parse the result of L{to_json}.

        @raise ValueError: C{value} is malformed or of another version.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        try:
            node_id, host = value["node_id"], value["external_host"]
            return cls(
                None if node_id is None else _id(node_id),
                tuple(
                    Contact(_id(id_), _host(host_), _port(port))
                    for id_, host_, port in value["nodes"][:MAX_KNOWN_NODES]
                ),
                # Earlier versions may have saved a local address.
                None if host is None or scope(_host(host)) is not Scope.GLOBAL else _host(host),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"malformed: {error!r}") from None


def _id(value: str) -> bytes:
    node_id = bytes.fromhex(value)
    if len(node_id) != ID_SIZE:
        raise ValueError(f"not a node id: {value!r}")
    return node_id


def _host(value: Any) -> str:
    if type(value) is not str or "%" in value:  # a zone of IPv6
        raise ValueError(f"not an address: {value!r}")
    return str(ipaddress.ip_address(value))


def _port(value: Any) -> int:
    if type(value) is not int or not 0 < value < 0x10000:
        raise ValueError(f"not a port: {value!r}")
    return value


def load(directory: StateDirectory) -> SavedNode:
    """
    Load the state of the last run; an empty state if there is none or it is unusable.

    @raise StateError: the file can't be read.
    """
    return _file(directory).load() or SavedNode()


def save(directory: StateDirectory, node: DHTNode) -> None:
    """
    Write the state of a node. A failure is logged, not raised.

    @param directory: the state directory, locked.
    """
    _file(directory).save(SavedNode.of(node))


def _file(directory: StateDirectory) -> StateFile[SavedNode]:
    return StateFile(directory, FILE, SavedNode.from_json, SavedNode.to_json)


class Saver(Service):
    """
    Saves the state of a node periodically and when it stops. Stop it before the node.
    """

    def __init__(self, reactor: Any, node: DHTNode, directory: StateDirectory) -> None:
        """
        @param reactor: the clock.
        @param node: the node whose state is saved.
        @param directory: the state directory, locked.
        """
        self._save = partial(save, directory, node)
        self._saving = LoopingCall(self._save)
        self._saving.clock = reactor

    def startService(self) -> None:
        """
        Save now, and then every L{SAVE_INTERVAL} seconds.
        """
        super().startService()
        self._saving.start(SAVE_INTERVAL)

    def stopService(self) -> None:
        """
        Save a last time.
        """
        super().stopService()
        self._saving.stop()
        self._save()
