"""
Members that reach each other through a relay of the crate C{iroh-relay}: they know only
ids and the relay's URL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred

from tests.interop.actors import Actor
from tests.interop.stage import IROH, MembersCase, Stage

Start: TypeAlias = Callable[[Stage, str], Actor]


def python(stage: Stage, relay: str) -> Actor:
    """
    A dtt member that uses the relay.
    """
    return stage.python("python", *IROH, "--relay", relay)


def rust(stage: Stage, relay: str) -> Actor:
    """
    A member of the crate iroh-gossip that uses it.
    """
    return stage.rust_gossip("rust", "--relay", relay)


class RelayTests(MembersCase):
    """
    A relay on loopback.
    """

    timeout = 180

    async def _meet(self, stage: Stage, starts: tuple[Start, Start]) -> None:
        # Let the members exchange messages through it.
        stage.room.pause()
        try:
            relay = await stage.relay()
            first, second = actors = [start(stage, relay) for start in starts]
            await stage.become("they start", lambda: all(each.reported("node.started") for each in actors))
            second.say("learn", f"{first.peer_id}@{relay}")
            second.say("join", first.peer_id)
            await stage.joined(actors)
            first.say("say", b"of the first")
            second.say("say", b"of the second")
            await stage.become("the second hears", lambda: second.contents() == [b"of the first"])
            await stage.become("the first hears", lambda: first.contents() == [b"of the second"])
        finally:
            stage.room.resume()

    def _act(self, *starts: Start) -> Deferred[None]:
        assert len(starts) == 2
        return self.play(lambda stage: self._meet(stage, starts), ["dtt"])

    def test_python_rust(self) -> Deferred[None]:
        """
        A Rust member dials a dtt member.
        """
        return self._act(python, rust)

    def test_rust_python(self) -> Deferred[None]:
        """
        A dtt member dials a Rust member.
        """
        return self._act(rust, python)
