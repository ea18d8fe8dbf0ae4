"""
A process that starts and stops trackers repeatedly.
"""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.support import LOOPBACK, NO_INTEROP, NO_IROH, Member, dtt_swarm, stop_all, until

#: The number of start/join/leave/stop cycles, and of cycles in a block.
CYCLES = 200
BLOCK = 50

#: The number of nodes in the DHT: more than the 8 from which a lookup needs answers before it trusts
#: its soft timeout.
DHT_NODES = 12

#: Limits for what the best block after the first one may leave behind: a leak shows in every block,
#: while caches that fill up, or a table that grows, show in one or two. One leaked object per cycle
#: makes 50, one dtt object in each cycle with two members makes 5.
MAX_NEW_OBJECTS = 25
MAX_NEW_OWN_OBJECTS = 0

#: The resident memory in bytes that the allocator may gain after the first block. A tracker with a
#: topic takes some hundred kB, 150 of them more than 15 MB.
MAX_NEW_MEMORY = 8 * 2**20


def open_sockets() -> int:
    """
    The number of sockets of this process; other files are kept by Twisted (a spare
    descriptor) and libraries (the random device).
    """
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one used by listdir itself
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(link.startswith("socket:") for link in links)


def count_objects() -> tuple[int, int]:
    """
    The numbers of all objects and of instances of dtt's classes.
    """
    objects = gc.get_objects()
    return len(objects), sum(str(type(each).__module__).startswith("dtt.") for each in objects)


def memory() -> int:
    """
    The resident memory in bytes.
    """
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class CycleTests(TestCase):
    """
    Repeated cycles leave nothing behind.
    """

    skip = NO_INTEROP or (None if os.path.isdir("/proc/self/fd") else "needs /proc")
    timeout = 300
    transport = "streams"

    def _state(self) -> tuple[Any, ...]:
        reactor: Any = self.reactor
        calls = sorted(str(call.func) for call in reactor.getDelayedCalls())
        return len(reactor.getReaders()), len(reactor.getWriters()), open_sockets(), calls

    async def _cycle(self, number: int) -> weakref.ref[Any]:
        """
        Start, join, leave, stop; every tenth time with another member to join, and every
        third time without waiting for anything.
        """
        bootstrap = [(LOOPBACK, node.port) for node in self.nodes[:3]]
        members = [
            Member(self.reactor, bootstrap, f"cycle {number}", b"secret", transport=self.transport)
            for _ in range(2 if number % 10 == 0 else 1)
        ]
        for member in members:
            member.start()
        if len(members) == 2:
            await gatherResults([member.topic.when_joined() for member in members])
            await members[0].topic.broadcast(b"hello")
            await until(self.reactor, lambda: members[1].listener.contents == [b"hello"])
        elif number % 3:
            await members[0].node.when_ready()
        for member in members:
            if number % 2:
                await member.topic.leave()
            await member.stop()
        return weakref.ref(members[0].tracker)

    async def _block(self, first: int) -> None:
        """
        Run L{BLOCK} cycles on a separate DHT, whose nodes may keep data during their
        lifetime.
        """
        trackers: list[weakref.ref[Any]] = []
        self.nodes = await dtt_swarm(self.reactor, DHT_NODES)
        try:
            trackers += [await self._cycle(number) for number in range(first, first + BLOCK)]
        finally:
            await stop_all(self.nodes)
            self.nodes = []
        for _ in range(20):  # the reactor drops closed ports and connections a little later
            await deferLater(self.reactor, 0.05)
            gc.collect()
            if not any(tracker() for tracker in trackers):
                break
        self.assertEqual([tracker() for tracker in trackers if tracker() is not None], [])

    async def _count(self) -> tuple[int, int]:
        """
        L{count_objects}, without what is kept for a while on purpose: the reactor's
        cancelled calls, until there are many, and trial's list of warnings.
        """
        calls = [self.reactor.callLater(60, int) for _ in range(1000)]
        await deferLater(self.reactor, 0)
        for call in calls:
            call.cancel()
        del calls, call
        await deferLater(self.reactor, 0.01)
        self.flushWarnings()
        gc.collect()
        return count_objects()

    async def _blocks(self) -> None:
        gc.collect()  # objects from other tests
        await deferLater(self.reactor, 1)  # let the reactor create its wakers first
        before = self._state()
        await self._block(0)
        self.assertEqual(self._state(), before)
        counts, resident = [await self._count()], memory()
        for first in range(BLOCK, CYCLES, BLOCK):
            await self._block(first)
            counts.append(await self._count())
        self.assertEqual(self._state(), before)
        new = [(objects - old, own - old_own) for (old, old_own), (objects, own) in pairwise(counts)]
        self.assertLessEqual(min(own for _, own in new), MAX_NEW_OWN_OBJECTS, f"dtt objects left: {new}")
        self.assertLessEqual(min(objects for objects, _ in new), MAX_NEW_OBJECTS, f"objects: {new}")
        self.assertLess(memory() - resident, MAX_NEW_MEMORY, "bytes")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cycles(self) -> Deferred[None]:
        """
        200 cycles leave no tracker, open port, delayed call, unhandled error or memory
        behind.
        """
        from twisted.internet import reactor

        self.reactor = reactor
        return Deferred.fromCoroutine(self._blocks())


class BothCycleTests(CycleTests):
    """
    The same with members that have both transports.
    """

    skip = CycleTests.skip or NO_IROH
    transport = "streams,iroh"
