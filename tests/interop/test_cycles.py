"""
One process that starts and stops trackers again and again.
"""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.support import LOOPBACK, NO_INTEROP, Member, dtt_swarm, stop_all, until

#: start/join/leave/stop cycles; after the first block memory may not grow.
CYCLES = 200
BLOCK = 50

#: Nodes of the DHT: more than the 8 that a lookup wants to hear from before it
#: believes in its soft time-out.
DHT_NODES = 12

#: What may come in from then on, all objects and dtt's own: Twisted keeps
#: cancelled calls and the first log events for a while, both bounded; three
#: objects that leak in each cycle would be 450, one of ours 150.
MAX_NEW_OBJECTS = 400
MAX_NEW_OWN_OBJECTS = 20

#: Bytes of resident memory that the allocator may take from then on.  A
#: tracker with a topic is some hundred kB, 150 of them more than 15 MB.
MAX_NEW_MEMORY = 4 * 2**20


def open_sockets() -> int:
    """
    How many sockets this process has; other files are kept by Twisted (a
    spare descriptor) and libraries (the random device).
    """
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listdir itself used
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(link.startswith("socket:") for link in links)


def count_objects() -> tuple[int, int]:
    """
    How many objects there are, and how many of dtt's own classes.
    """
    objects = gc.get_objects()
    return len(objects), sum(str(type(each).__module__).startswith("dtt.") for each in objects)


def memory() -> int:
    """
    Bytes of resident memory.
    """
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class CycleTests(TestCase):
    """
    Nothing is left behind.
    """

    skip = NO_INTEROP or (None if os.path.isdir("/proc/self/fd") else "needs /proc")
    timeout = 300

    def _state(self) -> tuple[Any, ...]:
        reactor: Any = self.reactor
        calls = sorted(str(call.func) for call in reactor.getDelayedCalls())
        return len(reactor.getReaders()), len(reactor.getWriters()), open_sockets(), calls

    async def _cycle(self, number: int) -> weakref.ref[Any]:
        """
        Start, join, leave, stop; every tenth time with somebody to join, and
        every third one without waiting for anything.
        """
        bootstrap = [(LOOPBACK, node.port) for node in self.nodes[:3]]
        members = [
            Member(self.reactor, bootstrap, f"cycle {number}", b"secret")
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
        L{BLOCK} cycles on a DHT of their own, whose nodes may keep what they
        are told while they live.
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

    async def _blocks(self) -> None:
        await deferLater(self.reactor, 0.1)  # the reactor's own wakers come first
        before = self._state()
        await self._block(0)
        self.assertEqual(self._state(), before)
        (objects, own), resident = count_objects(), memory()
        for first in range(BLOCK, CYCLES, BLOCK):
            await self._block(first)
        self.assertEqual(self._state(), before)
        objects_now, own_now = count_objects()
        self.assertLess(own_now - own, MAX_NEW_OWN_OBJECTS, "objects of ours")
        self.assertLess(objects_now - objects, MAX_NEW_OBJECTS, "objects")
        self.assertLess(memory() - resident, MAX_NEW_MEMORY, "bytes")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cycles(self) -> Deferred[None]:
        """
        200 cycles leave no tracker, open port, delayed call, unhandled error
        or memory behind.
        """
        from twisted.internet import reactor

        self.reactor = reactor
        return Deferred.fromCoroutine(self._blocks())
