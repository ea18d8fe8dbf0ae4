"""
A member among libtorrent clients with their default protections.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dtt.errors import QueryTimeout
from dtt.events import RecordPublished
from dtt.interfaces import NodeAnswer
from tests.interop.support import NO_LIBTORRENT, Address, Member

if NO_LIBTORRENT is None:
    from tests.interop.libtorrent_swarm import LibtorrentSwarm

#: The number of libtorrent nodes, each with its own address.
NODES = 30

#: The member's address.
HOST = "127.0.201.1"

#: Seconds of fetching and publishing: three of libtorrent's windows of 10 s, in which the 50th packet
#: from an address bans it for 5 min (docs/protocol/dht.md section 1).
SECONDS = 30.0

#: The number of attempts per node: one that has exhausted its upload limit of 8 kB/s is silent for a
#: moment (docs/protocol/dht.md section 1).
ATTEMPTS = 4


class DefaultLibtorrentTests(TestCase):
    """
    All dht_ settings have their defaults.
    """

    skip = NO_LIBTORRENT
    timeout = 180

    async def _answers(self, address: Address) -> bool:
        for _ in range(ATTEMPTS):
            try:
                await self.member.node.krpc.query(*address, b"ping", {})
            except QueryTimeout:
                continue
            return True
        return False

    async def _survive(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        swarm = LibtorrentSwarm(NODES, defaults=True)
        self.addCleanup(swarm.stop)
        await swarm.settled(reactor)
        self.member = Member(reactor, swarm.addresses[:3], "defaults", os.urandom(16), HOST)
        self.member.start()
        self.addCleanup(self.member.stop)
        await self.member.node.when_ready()
        await deferLater(reactor, SECONDS)

        copies = [event.stored for event in self.member.events if isinstance(event, RecordPublished)]
        self.assertTrue(copies, "nothing was published")
        sent = self.member.node.krpc.counters
        gets = sent["sent_get"]
        self.assertGreaterEqual(gets, 3 * NODES, sent)
        answers: list[NodeAnswer] = []
        for _ in range(ATTEMPTS):
            read = await self.member.node.get_mutable(os.urandom(32), b"", answers.append)
            if len(read.answers) >= NODES - 2:
                break
            await deferLater(reactor, 1.0)
        self.assertGreaterEqual(len(read.answers), NODES - 2, f"few answer a read, after {sent}")
        alive = await gatherResults([Deferred.fromCoroutine(self._answers(a)) for a in swarm.addresses])
        banned = [address for address, answers_ in zip(swarm.addresses, alive, strict=True) if not answers_]
        self.assertEqual(banned, [], f"banned by these, after {sent}")

    def test_never_banned(self) -> Deferred[None]:
        """
        A member that is alone, and therefore keeps fetching and publishing, is still
        answered by every node after 30 s.
        """
        return Deferred.fromCoroutine(self._survive())
