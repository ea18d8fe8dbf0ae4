"""
A stage: one scenario in one room; and the test case that plays the same scenario over
each kind of DHT.
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

#: The timeout in seconds for what a member does at its own pace. The Rust crate joins after 5 to 13 s
#: (docs/protocol/interop.md section 3), at times after a second round, and has been seen to take 39 s
#: on a busy machine.
PATIENCE = 90.0

#: Options that make Python members reachable.
STREAMS = ("--transport", "streams", "--listen", "streams:127.0.0.1:0")
IROH = ("--transport", "iroh", "--listen", "iroh:127.0.0.1:0")
BOTH = ("--transport", "streams,iroh", "--listen", "streams:127.0.0.1:0", "--listen", "iroh:127.0.0.1:0")

#: Options that run the services of a topic first after 1 s and then every 1 to 2 s.
BUSY = ("--publisher", "1,1,1", "--bubble-merge", "1,1,1", "--overlap-merge", "1,1,1")


class Scene(ABC):
    """
    One scenario.

    @ivar words: where it runs, for messages.
    @ivar topic: the name of the topic of all members.
    @ivar secret_file: the file with their secret.
    @ivar actors: all members started.
    """

    def __init__(self, reactor: Any, words: str, folder: Path) -> None:
        """
        @param folder: the folder for secrets and keys, which is created.
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
        The command that runs C{command} in the scenario's network; its first word is a
        path.
        """

    def file(self, name: str, content: bytes) -> Path:
        """
        Create a file that only the current user can read.
        """
        path = (self._folder / name).absolute()
        path.touch(0o600)
        path.write_bytes(content)
        return path

    def path(self, name: str) -> Path:
        """
        The path of a file or folder that a member creates.
        """
        return (self._folder / name).absolute()

    def rust(self, name: str, *options: object, secret_file: Path | None = None, pkarr: bool = True) -> Actor:
        """
        Start a member of the crate distributed-topic-tracker.

        @param pkarr: it publishes and resolves addresses in the DHT.
        """
        words = [rust("tracker-peer"), self.topic, "--secret-file", secret_file or self.secret_file]
        return self._start(name, "rust", *words, *(["--pkarr"] if pkarr else []), *options)

    def rust_gossip(self, name: str, *options: object) -> Actor:
        """
        Start a member of the crate iroh-gossip alone.
        """
        topic_id = sha512(self.topic.encode()).hexdigest()[:64]
        return self._start(name, "rust", rust("gossip-peer"), topic_id, *options)

    def python(self, name: str, *options: object, secret_file: Path | None = None) -> Actor:
        """
        Start a dtt member.
        """
        words = [sys.executable, "-m", "tests.interop.python_member", self.topic]
        return self._start(name, "python", *words, "--secret-file", secret_file or self.secret_file, *options)

    def chat(self, name: str, *options: object) -> Actor:
        """
        Start C{dtt chat --json}, as a user would.
        """
        words = [sys.executable, "-m", "dtt", "chat", "--json", "--stay", "--secret-file", self.secret_file]
        return self._start(name, "python", *words, *options, self.topic)

    async def relay(self) -> str:
        """
        Start a relay of the crate iroh-relay.

        @return: its URL.
        """
        relay = self._start("relay", "relay", rust("relay"))
        await self.become("the relay starts", lambda: relay.reported("ready"))
        return str(relay.reported("ready")[0]["url"])

    def _start(self, name: str, kind: str, *command: object) -> Actor:
        actor = Actor(self._reactor, name, kind, self.enter(*(str(word) for word in command)))
        self.actors.append(actor)
        return actor

    async def become(self, words: str, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """
        Wait until C{condition} holds.

        @param words: describes the condition.
        @raise AssertionError: it does not hold in time; the message has the events of all
            members.
        """
        limit = self._reactor.seconds() + patience
        while not condition():
            if self._reactor.seconds() > limit:
                raise AssertionError(self._describe(f"not after {patience} s: {words}"))
            await deferLater(self._reactor, 0.01)

    async def joined(self, actors: Iterable[Actor], patience: float = PATIENCE) -> None:
        """
        Wait until all members have a neighbour.
        """
        wanted = list(actors)
        await self.become("all joined", lambda: all(actor.joined for actor in wanted), patience)

    async def hears(self, actor: Actor, contents: Sequence[bytes]) -> None:
        """
        Wait until a member has received all of these contents.
        """
        await self.become(f"{actor.name} hears all", lambda: set(contents) <= set(actor.contents()))

    async def all_hear(self, actors: Sequence[Actor]) -> None:
        """
        Check that a message from each member reaches each other one, once.
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
        Wait until all members are connected to each other through neighbours.
        """
        await self.become("one swarm", lambda: one_swarm(actors), patience)

    def _describe(self, words: str) -> str:
        # Check it again at the end: what happens in between may take long and break the connection.
        what = f"{self.words}: {words}"
        return "\n".join([what, *map(str, self.actors), what])

    async def rest(self, seconds: float) -> None:
        """
        Wait.
        """
        await deferLater(self._reactor, seconds)

    async def close(self) -> None:
        """
        Stop all members.
        """
        for actor in self.actors:
            await actor.kill()


class Stage(Scene):
    """
    A scenario in a room.

    @ivar room: the room.
    """

    def __init__(self, reactor: Any, room: Room, folder: Path) -> None:
        """
        @param folder: as in L{Scene}.
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
        Get the reactor, and build what is missing.
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
        Play a scenario over each kind of DHT, concurrently.

        @param fresh: use DHTs without dead nodes from earlier members: a mainline client
            waits 2 s for each.
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
    Scenarios with dtt members over iroh.
    """

    skip = StageCase.skip or NO_IROH
