"""
Shared by the tests with real peers.

They run if the environment variable C{DTT_INTEROP=1} is set: they require the libtorrent
wheel, and take minutes instead of seconds. Everything is on loopback, on ports chosen by
the system, with the real reactor; every test has a timeout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, islice, repeat
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from dtt.config import Config, DHTConfig, DiscoveryConfig
from dtt.dht.node import DHTNode
from dtt.events import Event
from dtt.interfaces import GossipMessage
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

LOOPBACK = "127.0.0.1"

#: The reason to skip a test here; C{None} to run it.
NO_INTEROP = None if os.environ.get("DTT_INTEROP") == "1" else "runs only with DTT_INTEROP=1"

#: The same for tests that need libtorrent.
NO_LIBTORRENT = NO_INTEROP or (
    None if find_spec("libtorrent") else "libtorrent can't be imported (pip install libtorrent)"
)

#: The same for tests that need the iroh bindings.
NO_IROH = NO_INTEROP or (None if find_spec("iroh") else "iroh can't be imported (pip install '.[iroh]')")

Address = tuple[str, int]


async def until(reactor: Any, condition: Callable[[], object]) -> None:
    """
    Wait until C{condition} holds; the limit is the test's timeout.
    """
    while not condition():
        await deferLater(reactor, 0.01)


class Listener:
    """
    Collects messages.

    @ivar contents: their contents, in order.
    """

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Record the content.
        """
        self.contents.append(message.content)

    async def heard(self, reactor: Any, count: int) -> None:
        """
        Wait until C{count} contents have arrived.
        """
        await until(reactor, lambda: len(self.contents) >= count)


class Member:
    """
    A tracker with one topic.

    @ivar topic: the topic.
    @ivar node: the tracker's DHT node.
    @ivar events: the tracker's events.
    @ivar listener: collects the messages.
    """

    def __init__(
        self,
        reactor: Any,
        bootstrap: list[Address],
        name: str,
        secret: bytes,
        host: str = LOOPBACK,
        transport: str = "streams",
        discovery: DiscoveryConfig | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.listener = Listener()
        config = Config(
            transport=transport,
            listen=(host, 0),
            dht=DHTConfig(bind=host, bootstrap=tuple(bootstrap)),
            discovery=discovery or DiscoveryConfig(),
        )
        self.tracker = Tracker(reactor, config, self.events.append)
        self.node: DHTNode = self.tracker.getServiceNamed("dht")
        self.topic: TopicService = self.tracker.join(name, secret)
        self.topic.subscribe(self.listener)

    def start(self, deaf: bool = False) -> None:
        """
        Start the tracker.

        @param deaf: call L{make_deaf}.
        """
        self.tracker.privilegedStartService()
        if deaf:
            make_deaf(self.node)
        self.tracker.startService()

    def stop(self) -> Deferred[None]:
        """
        Leave and close everything.
        """
        return maybeDeferred(self.tracker.stopService)


def make_deaf(node: DHTNode) -> None:
    """
    Drop all queries to a node, as a NAT does, so that it stores nothing for others.
    (libtorrent adds any node that puts with a valid token to its table, with C{ro} or
    without.)
    """
    node.responder.answer = lambda query, host, port: None  # type: ignore[method-assign]


async def dtt_swarm(reactor: Any, count: int, ports: Sequence[int] = ()) -> list[DHTNode]:
    """
    A DHT of dtt nodes; the first one is the others' bootstrap node.

    @param ports: the ports of the first nodes.
    """
    nodes: list[DHTNode] = []
    for port in islice(chain(ports, repeat(0)), count):
        bootstrap = [(LOOPBACK, nodes[0].port)] if nodes else []
        node = DHTNode(reactor, port=port, interface=LOOPBACK, closed=True, bootstrap=bootstrap)
        node.privilegedStartService()
        node.startService()
        nodes.append(node)
    for node in nodes[1:]:
        await node.when_ready()
    return nodes


async def stop_all(nodes: list[DHTNode]) -> None:
    """
    Stop nodes.
    """
    for node in nodes:
        await maybeDeferred(node.stopService)
