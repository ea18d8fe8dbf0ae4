"""
Actors: member processes, Rust and Python alike, that read commands as lines and print
JSON events (C{rust/src/member.rs}).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.interop.rooms import environment


def emit(event: str, /, **fields: object) -> None:
    """
    Print an event, as an actor does.
    """
    print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)


class Actor(ProcessProtocol):
    """
    A member in its own process.

    @ivar name: its name in messages.
    @ivar kind: C{rust} or C{python}.
    @ivar events: the events it has printed.
    @ivar pid: its process id.
    """

    transport: IProcessTransport

    def __init__(self, reactor: Any, name: str, kind: str, command: list[str]) -> None:
        self.name = name
        self.kind = kind
        self.command = command
        self.events: list[dict[str, Any]] = []
        self._rest = self._errors = b""
        self._ended: Deferred[None] = Deferred()
        self.begun: float = reactor.seconds()
        self.pid: int = reactor.spawnProcess(self, command[0], command, env=environment()).pid

    def outReceived(self, data: bytes) -> None:
        """
        Parse events.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.events += [json.loads(line) for line in lines]

    def errReceived(self, data: bytes) -> None:
        """
        Keep the output for messages.
        """
        self._errors = (self._errors + data)[-4000:]

    def processEnded(self, reason: Failure) -> None:
        """
        Record the end of the process.
        """
        self.events.append({"event": "ended", "reason": str(reason.value)})
        self._ended.callback(None)

    def say(self, *words: object) -> None:
        """
        Write a command line; bytes are written in hex.
        """
        texts = [(word.hex() or "-") if isinstance(word, bytes) else str(word) for word in words]
        self.transport.write(" ".join(texts).encode() + b"\n")

    def reported(self, name: str) -> list[dict[str, Any]]:
        """
        The events with this name.
        """
        return [event for event in self.events if event["event"] == name]

    @property
    def errors(self) -> bytes:
        """
        The end of its standard error.
        """
        return self._errors

    @property
    def peer_id(self) -> str:
        """
        The peer id, 64 hex digits; available once it has started.
        """
        return str(self.reported("node.started")[0]["peer_id"])

    @property
    def address(self) -> str:
        """
        C{host:port} of its iroh endpoint; available once it has started.
        """
        places = map(str, self.reported("node.started")[0]["listen"])
        return next(place.removeprefix("iroh:") for place in places if place.startswith("iroh:"))

    @property
    def joined(self) -> bool:
        """
        Whether it has had a neighbour.
        """
        return bool(self.reported("topic.joined"))

    def neighbors(self) -> set[str]:
        """
        The ids of its current neighbours.
        """
        present: set[str] = set()
        for event in self.events:
            if event["event"] == "neighbor.up":
                present.add(event["peer"])
            elif event["event"] == "neighbor.down":
                present.discard(event["peer"])
        return present

    def contents(self) -> list[bytes]:
        """
        The contents of the messages it received.
        """
        return [
            bytes.fromhex(event["content_hex"]) if "content_hex" in event else event["content"].encode()
            for event in self.reported("message")
        ]

    def resident(self) -> int:
        """
        The RSS of the process, in bytes.
        """
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def kill(self) -> None:
        """
        Kill it without a goodbye.
        """
        if not self._ended.called:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
            await self._ended

    async def terminate(self) -> None:
        """
        Stop it with SIGTERM.
        """
        if not self._ended.called:
            self.transport.signalProcess("TERM")
            await self._ended

    async def leave(self) -> None:
        """
        Let it leave the topic and stop.
        """
        self.transport.closeStdin()
        await self._ended

    def __str__(self) -> str:
        tail = "\n  ".join(str(event)[:200] for event in self.events[-12:])
        return f"{self.name}: {len(self.events)} events\n  {tail}\n  {self._errors.decode(errors='replace')}"


def one_swarm(actors: Sequence[Actor]) -> bool:
    """
    Are the members connected to each other through neighbours?

    A link counts when both of its ends report it: a member that has just sent its Join is
    not yet a neighbour of the other one, and misses what that one says.
    """
    neighbors = {actor.peer_id: actor.neighbors() for actor in actors}
    reached: set[str] = set()
    edge = {actors[0].peer_id}
    while edge:
        reached |= edge
        edge = {
            peer for each in edge for peer in neighbors[each] if each in neighbors.get(peer, ())
        } - reached
    return len(reached) == len(actors)
