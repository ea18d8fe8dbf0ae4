"""
What the tests against real peers share.

They run when the environment says C{DTT_INTEROP=1}: they need the libtorrent
wheel, and minutes instead of seconds.  All is on loopback, on ports that the
system chooses, on the real reactor; every test has a time-out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, islice, repeat
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.events import Event
from dtt.interfaces import GossipMessage, IGossipObserver
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

LOOPBACK = "127.0.0.1"

#: Why a test here is skipped, or L{None}.
NO_INTEROP = None if os.environ.get("DTT_INTEROP") == "1" else "runs only with DTT_INTEROP=1"

#: The same for those that need libtorrent.
NO_LIBTORRENT = NO_INTEROP or (
    None if find_spec("libtorrent") else "libtorrent can't be imported (pip install libtorrent)"
)

#: The same for those that need the bindings of iroh.
NO_IROH = NO_INTEROP or (None if find_spec("iroh") else "iroh can't be imported (pip install '.[iroh]')")

Address = tuple[str, int]


async def until(reactor: Any, condition: Callable[[], object]) -> None:
    """
    Wait until C{condition} holds; the test's time-out is the limit.
    """
    while not condition():
        await deferLater(reactor, 0.01)


@implementer(IGossipObserver)
class Listener:
    """
    Collects what members say.

    @ivar contents: of the messages, in their order.
    """

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Nothing.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Nothing.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Keep it.
        """
        self.contents.append(message.content)

    async def heard(self, reactor: Any, count: int) -> None:
        """
        Wait until C{count} contents have come.
        """
        await until(reactor, lambda: len(self.contents) >= count)


class Member:
    """
    A tracker with one topic.

    @ivar topic: that topic.
    @ivar node: the tracker's DHT node.
    @ivar events: what the tracker told.
    @ivar listener: what was said.
    """

    def __init__(
        self,
        reactor: Any,
        bootstrap: list[Address],
        name: str,
        secret: bytes,
        host: str = LOOPBACK,
        transport: str = "streams",
    ) -> None:
        self.events: list[Event] = []
        self.listener = Listener()
        config = Config(
            transport=transport, listen=(host, 0), dht=DHTConfig(bind=host, bootstrap=tuple(bootstrap))
        )
        self.tracker = Tracker(reactor, config, self.events.append)
        self.node: DHTNode = self.tracker.getServiceNamed("dht")
        self.topic: TopicService = self.tracker.join(name, secret)
        self.topic.subscribe(self.listener)

    def start(self, deaf: bool = False) -> None:
        """
        @param deaf: as L{make_deaf}.
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
    Let no query reach a node, as a NAT does: it keeps nothing for others.
    (libtorrent remembers whoever puts with a valid token, C{ro} or not.)
    """
    node.responder.answer = lambda query, host, port: None  # type: ignore[method-assign]


async def dtt_swarm(reactor: Any, count: int, ports: Sequence[int] = ()) -> list[DHTNode]:
    """
    A DHT of our own nodes; the first one is the others' bootstrap node.

    @param ports: of the first nodes.
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
