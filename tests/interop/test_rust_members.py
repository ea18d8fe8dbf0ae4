"""
dtt members and members of the unmodified Rust crate C{distributed-topic-tracker} in one
swarm, with addresses only from pkarr packets in the DHT; over DHTs of libtorrent
sessions, of mainline servers, and of dtt nodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from dtt.records.envelope import unverified_content
from tests.interop.actors import Actor
from tests.interop.stage import BOTH, BUSY, IROH, STREAMS, MembersCase, Stage

#: Sizes of contents: the boundaries of varints and of the allowed size.
SIZES = (0, 1, 127, 128, 4055)


async def exchange(stage: Stage, first: Actor, second: Actor) -> None:
    """
    Each receives the other's contents, of all sizes.
    """
    # Equal contents are one message: only one member can send an empty content, and two random ones of
    # one byte are equal at times.
    said = {first: [os.urandom(size) for size in SIZES], second: [os.urandom(size) for size in SIZES[1:]]}
    said[first][1], said[second][0] = b"1", b"2"
    for actor, contents in said.items():
        for content in contents:
            actor.say("say", content)
    for hearer, speaker in ((second, first), (first, second)):
        await stage.hears(hearer, said[speaker])
        assert sorted(hearer.contents()) == sorted(said[speaker]), f"{hearer.name} heard something else"


class OrderTests(MembersCase):
    """
    Either may start first.
    """

    async def _python_first(self, stage: Stage) -> None:
        first = stage.python("python", *IROH)
        await stage.rest(3)
        await self._second(stage, first, stage.rust("rust"))

    async def _rust_first(self, stage: Stage) -> None:
        first = stage.rust("rust")
        await stage.rest(3)
        await self._second(stage, first, stage.python("python", *IROH))

    async def _second(self, stage: Stage, first: Actor, second: Actor) -> None:
        await stage.joined([first, second])
        await exchange(stage, first, second)

    def test_python_first(self) -> Deferred[None]:
        """
        A Rust member joins a waiting dtt member; contents of all sizes are exchanged.
        """
        return self.play(self._python_first)

    def test_rust_first(self) -> Deferred[None]:
        """
        A dtt member joins a waiting Rust member; contents of all sizes are exchanged.
        """
        return self.play(self._rust_first)


class TogetherTests(MembersCase):
    """
    Both start at the same time.
    """

    RUNS = 5

    async def _together(self, stage: Stage) -> None:
        pairs: list[tuple[Actor, Actor]] = []
        controls: list[tuple[Actor, Actor]] = []
        for run in range(self.RUNS):
            stage.topic = f"mixed {run} {os.urandom(4).hex()}"
            pairs.append((stage.python(f"python {run}", *IROH), stage.rust(f"rust {run}")))
            stage.topic = f"rust {run} {os.urandom(4).hex()}"
            controls.append((stage.rust(f"control {run} a"), stage.rust(f"control {run} b")))
            await stage.joined(pairs[-1])
        for control in controls:
            await stage.joined(control)

        def times(pairs: Sequence[Sequence[Actor]]) -> str:
            each = (max(a.reported("topic.joined")[0]["time"] - a.begun for a in pair) for pair in pairs)
            return " ".join(f"{seconds:.2f}" for seconds in sorted(each))

        print(f"\n{stage.room.kind}: both joined after (s): mixed {times(pairs)}; Rust {times(controls)}")

    def test_together(self) -> Deferred[None]:
        """
        A Python and a Rust member that are started at the same time join, five times; the
        time is printed next to that of two Rust members.
        """
        return self.play(self._together, fresh=True)


class ChatTests(MembersCase):
    """
    The command that users run.
    """

    async def _chat(self, stage: Stage) -> None:
        listen = ("--listen", "streams:127.0.0.1:0", "--listen", "iroh:127.0.0.1:0")
        chat = stage.chat("chat", *listen)
        rust = stage.rust("rust")
        await stage.joined([chat, rust])
        rust.say("say", b"by Rust")
        chat.say("by a person")
        await stage.hears(chat, [b"by Rust"])
        await stage.become("rust hears it", rust.contents)
        (line,) = rust.contents()
        assert json.loads(unverified_content(line))["text"] == "by a person", line

    def test_chat(self) -> Deferred[None]:
        """
        C{dtt chat}, as in docs/how-to/rust-peers.md, and a Rust member talk.
        """
        return self.play(self._chat)


class SecretTests(MembersCase):
    """
    Secrets and rotations.
    """

    async def _secrets(self, stage: Stage) -> None:
        own = ("--rotation", "reversed")
        members = [stage.python("python", *IROH, *own, *BUSY), stage.rust("rust", *own, *BUSY)]
        await stage.joined(members)
        await exchange(stage, *members)
        # The members write records all the time; this code finds the slots and reads their contents.
        other = stage.file("other-secret", os.urandom(32))
        another = stage.file("another-secret", os.urandom(32))
        strangers = [
            stage.python("python without the rotation", *IROH),
            stage.python("python with another secret", *IROH, *own, secret_file=other),
            stage.rust("rust with another secret", *own, secret_file=another),
        ]
        published = len(members[0].reported("record.published"))
        # Longer than the Rust crate takes to join.
        await stage.rest(15)
        assert len(members[0].reported("record.published")) > published
        for stranger in strangers:
            assert stranger.reported("node.started"), f"{stranger.name} did not run"
            assert not stranger.joined, f"{stranger.name} joined"
            assert not stranger.reported("record.found"), f"{stranger.name} opened a record"
        for member in members:
            assert len(member.neighbors()) == 1, f"{member.name} accepted another peer"

    def test_secrets(self) -> Deferred[None]:
        """
        With the same custom rotation on both sides members join; one with another secret
        or rotation never joins and opens no record.
        """
        return self.play(self._secrets)


class TransportsTests(MembersCase):
    """
    One swarm over two transports.
    """

    async def _transports(self, stage: Stage) -> None:
        streams = [stage.python(f"streams {number}", *STREAMS, *BUSY) for number in range(2)]
        both = [stage.python(f"both {number}", *BOTH, *BUSY) for number in range(2)]
        rusts = [stage.rust(f"rust {number}", *BUSY) for number in range(2)]
        members = [*streams, *both, *rusts]
        await stage.joined(members)
        await stage.one_swarm(members)
        rust_ids = {each.peer_id for each in rusts}
        assert not any(rust_ids & each.neighbors() for each in streams)
        await stage.all_hear(members)

    def test_transports(self) -> Deferred[None]:
        """
        Members with streams only, with both transports, and Rust members: messages of
        each reach all.
        """
        return self.play(self._transports)


class RequireSecretTests(MembersCase):
    """
    A dtt member that requires proofs of the secret, which Rust peers can't give.
    """

    async def _require(self, stage: Stage) -> None:
        strict = stage.python("python that requires", *IROH, *BUSY, "--require-secret")
        open_ = stage.python("python", *IROH, *BUSY)
        rust = stage.rust("rust", *BUSY)
        members = [strict, open_, rust]
        await stage.joined(members)
        await stage.become("both know dtt", lambda: open_.peer_id in strict.neighbors() & rust.neighbors())
        # Both ways, although each knows the other's address.
        for _ in range(6):
            rust.say("join", strict.peer_id)
            strict.say("join", rust.peer_id)
            await stage.rest(0.5)
        assert rust.peer_id not in {event["peer"] for event in strict.reported("neighbor.up")}
        await stage.one_swarm(members)
        await stage.all_hear(members)
        assert rust.peer_id not in {event["peer"] for event in strict.reported("neighbor.up")}

    def test_require_secret(self) -> Deferred[None]:
        """
        It never has the Rust member as a neighbour, and both hear each other through a dtt
        member that has proved the secret.
        """
        return self.play(self._require)
