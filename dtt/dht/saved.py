"""
What a DHT node keeps over restarts.

Rules: a file is replaced as a whole or not at all (L{dtt.state}); one that is
damaged, or of another version, is put aside with a warning, and the node
starts without it.
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

from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import ID_SIZE
from dtt.errors import StateError
from dtt.interfaces import Contact
from dtt.state import StateDirectory

#: The file in the state directory, and its format; another one is not read.
FILE: Final = "dht.json"
VERSION: Final = 1

#: Seconds between two writes.  Guess: what a crash costs is an old list of nodes.
SAVE_INTERVAL: Final = 300.0

_log = Logger()


@frozen(slots=True)
class SavedNode:
    """
    @ivar node_id: 20 bytes; L{None} before the first run.
    @ivar nodes: nodes that were good, the best first.
    @ivar external_host: the IP address that others saw us at, or L{None}.
    """

    node_id: bytes | None = None
    nodes: tuple[Contact, ...] = ()
    external_host: str | None = None

    @classmethod
    def of(cls, node: DHTNode) -> SavedNode:
        """
        What there is to be kept of a node.
        """
        return cls(node.node_id, tuple(node.known_nodes()), node.external_host)

    def to_json(self) -> dict[str, Any]:
        """
        The object that is written.
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
        What L{to_json} gave.

        @raise ValueError: it is something else.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        try:
            node_id, host = value["node_id"], value["external_host"]
            return cls(
                None if node_id is None else _id(node_id),
                tuple(Contact(_id(id_), _host(host_), _port(port)) for id_, host_, port in value["nodes"]),
                None if host is None else _host(host),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"unusable: {error!r}") from None


def _id(value: str) -> bytes:
    node_id = bytes.fromhex(value)
    if len(node_id) != ID_SIZE:
        raise ValueError(f"not a node id: {value!r}")
    return node_id


def _host(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"not an address: {value!r}")
    return str(ipaddress.ip_address(value))


def _port(value: Any) -> int:
    if type(value) is not int or not 0 < value < 0x10000:
        raise ValueError(f"not a port: {value!r}")
    return value


def load(directory: StateDirectory) -> SavedNode:
    """
    What the last run has left.

    @raise StateError: the file can't be read.
    """
    value = directory.read_json(FILE)
    if value is None:
        return SavedNode()
    try:
        return SavedNode.from_json(value)
    except ValueError as error:
        directory.put_aside(FILE, str(error))
        return SavedNode()


def save(directory: StateDirectory, node: DHTNode) -> None:
    """
    Write the state of a node; what goes wrong is logged.

    @param directory: locked.
    """
    try:
        directory.write_json(FILE, SavedNode.of(node).to_json())
    except StateError as error:
        _log.error("The state was not written: {error}", error=error)


class Saver(Service):
    """
    Writes the state of a node now and then, and at the end; to be stopped
    before the node is.
    """

    def __init__(self, reactor: Any, node: DHTNode, directory: StateDirectory) -> None:
        """
        @param directory: locked.
        """
        self._save = partial(save, directory, node)
        self._saving = LoopingCall(self._save)
        self._saving.clock = reactor

    def startService(self) -> None:
        """
        Begin.
        """
        super().startService()
        self._saving.start(SAVE_INTERVAL)

    def stopService(self) -> None:
        """
        The last time.
        """
        super().stopService()
        self._saving.stop()
        self._save()
