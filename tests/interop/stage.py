"""
A stage: one scenario in one room; and the tests that play the same one over a
DHT of each kind.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha512
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.actors import Actor, one_swarm
from tests.interop.rooms import KINDS, Room, missing, room, rust
from tests.interop.support import NO_INTEROP, NO_IROH

#: Seconds for what a member does at its own pace; the Rust crate joins after
#: 5 to 13 s (docs/protocol/interop.md section 3), at times after a second round, and
#: has been seen to take 39 s on a busy machine.
PATIENCE = 90.0

#: How Python members are reached.
STREAMS = ("--transport", "streams", "--listen", "streams:127.0.0.1:0")
IROH = ("--transport", "iroh", "--listen", "iroh:127.0.0.1:0")
BOTH = ("--transport", "both", "--listen", "streams:127.0.0.1:0", "--listen", "iroh:127.0.0.1:0")

#: The services of a topic, each after 1 s and then every 1 to 2 s.
BUSY = ("--publisher", "1,1,1", "--bubble-merge", "1,1,1", "--overlap-merge", "1,1,1")


class Scene(ABC):
    """
    One scenario, somewhere.

    @ivar words: where, for messages.
    @ivar topic: the name that all members have.
    @ivar secret_file: their secret.
    @ivar actors: all that were started.
    """

    def __init__(self, reactor: Any, words: str, folder: Path) -> None:
        """
        @param folder: for secrets and keys; made.
        """
        self.words = words
        self.actors: list[Actor] = []
        self.topic = f"interop {os.urandom(8).hex()}"
        self._reactor = reactor
        self._folder = folder
        folder.mkdir(parents=True)
        self.secret_file = self.file("secret", os.urandom(32))

    @abstractmethod
    def enter(self, *command: str) -> list[str]:
        """
        What runs C{command}, whose first word is a path, where it plays.
        """

    def file(self, name: str, content: bytes) -> Path:
        """
        A file that only we can read.
        """
        path = (self._folder / name).absolute()
        path.touch(0o600)
        path.write_bytes(content)
        return path

    def path(self, name: str) -> Path:
        """
        Of a file or folder that a member makes.
        """
        return (self._folder / name).absolute()

    def rust(self, name: str, *options: object, secret_file: Path | None = None, pkarr: bool = True) -> Actor:
        """
        A member by the crate distributed-topic-tracker.

        @param pkarr: it publishes and resolves addresses in the DHT.
        """
        words = [rust("tracker-peer"), self.topic, "--secret-file", secret_file or self.secret_file]
        return self._start(name, "rust", *words, *(["--pkarr"] if pkarr else []), *options)

    def rust_gossip(self, name: str, *options: object) -> Actor:
        """
        A member by the crate iroh-gossip alone.
        """
        topic_id = sha512(self.topic.encode()).hexdigest()[:64]
        return self._start(name, "rust", rust("gossip-peer"), topic_id, *options)

    def python(self, name: str, *options: object, secret_file: Path | None = None) -> Actor:
        """
        A member by dtt.
        """
        words = [sys.executable, "-m", "tests.interop.python_member", self.topic]
        return self._start(name, "python", *words, "--secret-file", secret_file or self.secret_file, *options)

    def chat(self, name: str, *options: object) -> Actor:
        """
        A person's C{dtt chat --json}.
        """
        words = [sys.executable, "-m", "dtt", "chat", "--json", "--stay", "--secret-file", self.secret_file]
        return self._start(name, "python", *words, *options, self.topic)

    async def relay(self) -> str:
        """
        Start a relay of the crate iroh-relay.

        @return: its URL.
        """
        relay = self._start("relay", "relay", rust("relay"))
        await self.become("the relay starts", lambda: relay.told("ready"))
        return str(relay.told("ready")[0]["url"])

    def _start(self, name: str, kind: str, *command: object) -> Actor:
        actor = Actor(self._reactor, name, kind, self.enter(*(str(word) for word in command)))
        self.actors.append(actor)
        return actor

    async def become(self, words: str, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """
        Wait until C{condition} holds.

        @param words: what is waited for.
        @raise AssertionError: it does not in time; says what all members told.
        """
        limit = self._reactor.seconds() + patience
        while not condition():
            if self._reactor.seconds() > limit:
                raise AssertionError(self._describe(f"not after {patience} s: {words}"))
            await deferLater(self._reactor, 0.01)

    async def joined(self, actors: Iterable[Actor], patience: float = PATIENCE) -> None:
        """
        Wait until all have a neighbour.
        """
        wanted = list(actors)
        await self.become("all joined", lambda: all(actor.joined for actor in wanted), patience)

    async def hears(self, actor: Actor, contents: Sequence[bytes]) -> None:
        """
        Wait until it has got all of them.
        """
        await self.become(f"{actor.name} hears all", lambda: set(contents) <= set(actor.contents()))

    async def all_hear(self, actors: Sequence[Actor]) -> None:
        """
        What each says reaches each other one, once.
        """
        said = {actor: f"{actor.name} {os.urandom(4).hex()}".encode() for actor in actors}
        for actor, content in said.items():
            actor.say("say", content)
        for actor in actors:
            await self.hears(actor, [content for speaker, content in said.items() if speaker is not actor])
        for actor in actors:
            assert len(actor.contents()) == len(set(actor.contents())), f"{actor.name} heard something twice"

    async def one_swarm(self, actors: Sequence[Actor], patience: float = PATIENCE) -> None:
        """
        Wait until ways along neighbours lead from each to each.
        """
        await self.become("one swarm", lambda: one_swarm(actors), patience)

    def _describe(self, words: str) -> str:
        # At the end again: what comes between may be long, and be cut.
        what = f"{self.words}: {words}"
        return "\n".join([what, *map(str, self.actors), what])

    async def rest(self, seconds: float) -> None:
        """
        Let time pass.
        """
        await deferLater(self._reactor, seconds)

    async def close(self) -> None:
        """
        End all members.
        """
        for actor in self.actors:
            await actor.kill()


class Stage(Scene):
    """
    One in a room.

    @ivar room: that.
    """

    def __init__(self, reactor: Any, room: Room, folder: Path) -> None:
        """
        @param folder: as of L{Scene}.
        """
        super().__init__(reactor, f"{room.kind} DHT", folder)
        self.room = room

    def enter(self, *command: str) -> list[str]:
        """
        As L{Scene.enter}.
        """
        return self.room.enter(*command)


Scenario: TypeAlias = Callable[[Stage], Awaitable[None]]


class StageCase(TestCase):
    """
    Tests that play scenarios in rooms.
    """

    timeout = 300
    skip = NO_INTEROP

    def setUp(self) -> None:
        """
        Know the reactor; build what is missing.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        reason = missing()
        if reason:
            raise SkipTest(reason)
        rust("tracker-peer")

    async def _play(self, scenario: Scenario, kind: str, fresh: bool) -> None:
        place = Room(kind) if fresh else room(kind)
        stage = Stage(self.reactor, place, Path(self.mktemp()))
        try:
            await scenario(stage)
        finally:
            await stage.close()
            if fresh:
                place.close()

    def play(self, scenario: Scenario, kinds: Sequence[str] = KINDS, fresh: bool = False) -> Deferred[None]:
        """
        A scenario over a DHT of each kind, all at the same time.

        @param fresh: in DHTs without the dead nodes that earlier members are
            there: a client of mainline waits 2 s for each.
        """
        plays = [Deferred.fromCoroutine(self._play(scenario, kind, fresh)) for kind in kinds]

        def judge(results: list[tuple[bool, Any]]) -> None:
            failures = [result for succeeded, result in results if not succeeded]
            for failure in failures[1:]:
                print(failure.getTraceback())
            if failures:
                failures[0].raiseException()

        return DeferredList(plays, consumeErrors=True).addCallback(judge)


class MembersCase(StageCase):
    """
    The same with members of ours over iroh.
    """

    skip = StageCase.skip or NO_IROH
