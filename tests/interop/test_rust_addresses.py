"""
Address lookup by id: Rust peers with C{iroh-mainline-address-lookup} resolve dtt members,
and vice versa, through the packets in the DHT alone.

The Rust peers here are of the crate iroh-gossip: they read no records and know no peers.
A peer that gets an id from the test has to find its address.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.interop.actors import Actor
from tests.interop.stage import BOTH, PATIENCE, Stage, StageCase
from tests.interop.support import NO_IROH


class AddressTests(StageCase):
    """
    One dtt member and one Rust member.
    """

    timeout = 400
    skip = StageCase.skip or NO_IROH

    async def _meet(self, stage: Stage, asking: Actor, asked: Actor) -> None:
        """
        Give one the other's id, repeatedly, until they are neighbours.
        """
        known = asked.peer_id
        for _ in range(int(PATIENCE)):
            asking.say("join", known)
            await stage.rest(1)
            if known in asking.neighbors():
                return
        await stage.become("they are neighbours", lambda: known in asking.neighbors(), 1)

    async def _started(self, stage: Stage, *actors: Actor) -> None:
        await stage.become("they have started", lambda: all(each.reported("node.started") for each in actors))

    async def _published(self, stage: Stage, ours: Actor) -> None:
        await stage.become("ours is published", lambda: ours.reported("addresses.published"))

    async def _found_by_rust(self, stage: Stage) -> None:
        ours = stage.python("python", *BOTH)
        await self._published(stage, ours)
        theirs = stage.rust_gossip("rust", "--pkarr")
        await self._started(stage, theirs)
        await self._meet(stage, theirs, ours)

    def test_found_by_rust(self) -> Deferred[None]:
        """
        A Rust peer that gets a dtt member's id finds it; the streams address in its
        packet does no harm.
        """
        return self.play(self._found_by_rust)

    async def _finds_rust(self, stage: Stage) -> None:
        theirs = stage.rust_gossip("rust", "--pkarr")
        ours = stage.python("python", *BOTH, "--no-publish")
        await self._started(stage, theirs, ours)
        await self._meet(stage, ours, theirs)

    def test_finds_rust(self) -> Deferred[None]:
        """
        A dtt member finds a Rust peer by its id, even if it publishes nothing itself.
        """
        return self.play(self._finds_rust)

    async def _moves(self, stage: Stage) -> None:
        state = stage.path("state")
        ours = stage.python("python", *BOTH, "--state-dir", state)
        theirs = stage.rust_gossip("rust", "--pkarr", "--key-file", stage.path("key"))
        await self._published(stage, ours)
        await self._started(stage, theirs)
        await self._meet(stage, ours, theirs)

        await theirs.kill()
        await stage.become("it is gone", lambda: not ours.neighbors())
        moved = stage.rust_gossip("rust again", "--pkarr", "--key-file", stage.path("key"))
        await self._started(stage, moved)
        assert moved.peer_id == theirs.peer_id
        assert moved.address != theirs.address
        await self._meet(stage, ours, moved)

        await ours.kill()
        for name in ("ports.json", "dht.json", "pkarr.json", "addresses.json"):
            (state / name).unlink(missing_ok=True)
        again = stage.python("python again", *BOTH, "--state-dir", state)
        await self._published(stage, again)
        assert again.peer_id == ours.peer_id
        assert again.address != ours.address
        # A Rust peer that knew the member may use the old address for minutes.
        fresh = stage.rust_gossip("rust without known peers", "--pkarr")
        await self._started(stage, fresh)
        await self._meet(stage, fresh, again)

    def test_moves(self) -> Deferred[None]:
        """
        Each of them returns with its key and another port, the dtt member without its
        other state; it is found there, although its old packet is in the DHT.
        """
        return self.play(self._moves)

    async def _false_address(self, stage: Stage) -> None:
        theirs, other = (stage.rust_gossip(name) for name in ("rust", "rust at the false address"))
        ours = stage.python("python", *BOTH, "--no-publish")
        await self._started(stage, theirs, other, ours)
        ours.say("learn", f"{theirs.peer_id}@{other.address}")
        ours.say("join", theirs.peer_id)
        await stage.become("the dial has failed", lambda: ours.reported("peer.failed"))
        assert "wrong peer key" in ours.reported("peer.failed")[0]["reason"]
        for address in (other.address, "127.0.0.1:9", theirs.address):
            ours.say("learn", f"{theirs.peer_id}@{address}")
        ours.say("join", theirs.peer_id)
        await stage.become("they are neighbours", lambda: theirs.peer_id in ours.neighbors(), 5)
        assert other.peer_id not in ours.neighbors() | theirs.neighbors()

    def test_false_address(self) -> Deferred[None]:
        """
        Another peer's address, and an unused port, given for a Rust peer in addition to
        the right address, do not delay connecting to it for long.
        """
        return self.play(self._false_address, kinds=("dtt",))
