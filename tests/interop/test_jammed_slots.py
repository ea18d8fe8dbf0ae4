"""
Record slots jammed by a squatter, on a DHT of libtorrent clients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dtt.config import DiscoveryConfig
from dtt.dht.node import DHTNode
from dtt.events import RecordFound
from dtt.interfaces import IPlacement, MutableRead, NodeAnswer
from dtt.records.topic import Slot, TopicId, unix_minute
from tests.interop.support import NO_LIBTORRENT, Member, until

if NO_LIBTORRENT is None:
    from tests.interop.libtorrent_swarm import LibtorrentSwarm

#: The number of libtorrent nodes: all of them are among the candidates of a slot.
NODES = 30

#: The minutes, from the current one on, whose slots are jammed ahead.
AHEAD = 2

#: How often the squatter reads and writes a slot at once, until it is full.
TRIES = 4

#: Seconds in which members that know only the record slots would have met several times.
CONTROL = 15.0


@implementer(IPlacement)
class Everywhere:
    """
    The placement of a squatter: a copy on each node.
    """

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        Put on each node that is free.
        """
        return [[answer] for answer in read.answers if answer.value is None and answer.token is not None]

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Overwrite nothing: libtorrent does not do that.
        """
        return []


#: The squatter does not always fill as many nodes as it should, and members that it leaves room meet in
#: the record slots: the judge of sealed slots is the simulation C{jam-100}.
BY_HAND = "its outcome depends on luck: set DTT_BY_HAND=1 to run it"


class Squatter:
    """
    Fills the record slots of a topic, of which it knows the name only.

    @ivar stored: the number of nodes that hold its junk, by minute.
    """

    def __init__(self, reactor: Any, node: DHTNode, name: str) -> None:
        self.stored: dict[int, int] = {}
        self._reactor = reactor
        self._node = node
        self._topic = TopicId.from_name(name)
        self._loop = LoopingCall(self.jam)
        self._loop.clock = reactor

    def start(self) -> None:
        """
        Keep the slots filled.
        """
        self._loop.start(10.0, now=False)

    def stop(self) -> None:
        """
        Stop.
        """
        if self._loop.running:
            self._loop.stop()

    def jam(self) -> Deferred[Any]:
        """
        Fill the slots of this minute and the next one.
        """
        minute = unix_minute(self._reactor.seconds())
        todo = [each for each in range(minute, minute + AHEAD) if self.stored.get(each, 0) < NODES]
        return gatherResults([Deferred.fromCoroutine(self._fill(each)) for each in todo])

    async def _fill(self, minute: int) -> None:
        slot = Slot(self._topic, minute)
        junk = os.urandom(700)
        for _ in range(TRIES):
            read = await self._node.get_mutable(slot.public_key, slot.salt)
            self.stored[minute] = sum(answer.value is not None for answer in read.answers)
            if self.stored[minute] >= NODES:
                break
            await self._node.put_mutable(slot.signing_seed, slot.salt, junk, Everywhere(), read)


class JammedTests(TestCase):
    """
    Members with a secret, whose own nodes store nothing for others.
    """

    skip = NO_LIBTORRENT or (None if os.environ.get("DTT_BY_HAND") else BY_HAND)
    timeout = 120

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """
        Start the swarm, and the squatter ahead of the members.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.swarm = LibtorrentSwarm(NODES)
        self.addCleanup(self.swarm.stop)
        self.name = f"jammed {os.urandom(4).hex()}"
        return Deferred.fromCoroutine(self._jam())

    async def _jam(self) -> None:
        await self.swarm.settled(self.reactor)
        node = DHTNode(self.reactor, interface="127.0.200.1", bootstrap=self.swarm.addresses[:3])
        node.startService()
        self.addCleanup(node.stopService)
        squatter = self.squatter = Squatter(self.reactor, node, self.name)
        await squatter.jam()
        squatter.start()
        self.addCleanup(squatter.stop)

    def member(self, secret: bytes, discovery: DiscoveryConfig | None = None) -> Member:
        """
        A running member.
        """
        member = Member(
            self.reactor,
            self.swarm.addresses[:3],
            self.name,
            secret,
            discovery=discovery or DiscoveryConfig(),
        )
        member.start(deaf=True)
        self.addCleanup(member.stop)
        return member

    async def _join(self) -> None:
        secret = os.urandom(16)
        only = DiscoveryConfig(sealed=False, announce_peer="never")
        control = [self.member(secret, only), self.member(secret, only)]
        began = self.reactor.seconds()
        members = [self.member(secret), self.member(secret)]
        await gatherResults([member.topic.when_joined() for member in members])
        members.append(self.member(secret))
        await members[-1].topic.when_joined()
        print(f"\n{len(members)} members joined after {self.reactor.seconds() - began:.2f} s")
        await until(self.reactor, lambda: all(len(member.topic.neighbors()) == 2 for member in members))
        await members[0].topic.broadcast(b"still here")
        await until(self.reactor, lambda: all(m.listener.contents == [b"still here"] for m in members[1:]))
        found = {e.channel for m in members for e in m.events if isinstance(e, RecordFound)}
        self.assertIn("sealed_slot", found)
        jammed = self.squatter.stored[unix_minute(began)]
        self.assertGreaterEqual(jammed, 0.8 * NODES)
        await deferLater(self.reactor, max(0.0, began + CONTROL - self.reactor.seconds()))
        alone = sum(not member.topic.neighbors() for member in control)
        print(f"{jammed} of {NODES} nodes jammed; {alone} of 2 members without sealed slots are alone")

    def test_sealed(self) -> Deferred[None]:
        """
        With the nodes of the record slots filled ahead, members join by the sealed slots,
        and a later one joins them.  What becomes of two members that use only the record
        slots is printed: a few nodes that were not filled, in a swarm as small as this, can
        be enough for them.
        """
        return Deferred.fromCoroutine(self._join())
