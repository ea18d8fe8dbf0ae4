"""
Larger swarms of dtt members and members of the unmodified Rust crate
C{distributed-topic-tracker}, over each kind of DHT.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred

from tests.interop.actors import Actor, one_swarm
from tests.interop.stage import BUSY, IROH, PATIENCE, MembersCase, Stage


class SevenTests(MembersCase):
    """
    More members than an active view has room for.
    """

    async def _seven(self, stage: Stage) -> None:
        shuffling = (*BUSY, "--shuffle-interval", "1")
        pythons = [stage.python(f"python {number}", *IROH, *shuffling) for number in range(4)]
        rusts = [stage.rust(f"rust {number}", *shuffling) for number in range(3)]
        members = [*pythons, *rusts]
        await stage.joined(members)
        await stage.one_swarm(members)

        def evicted() -> bool:
            # All are alive, so no other connection is dropped.
            return any(each.reported("neighbor.down") for each in members)

        def provoke() -> bool:
            """
            Let all that are not neighbours of a full member send it a request, so that it
            has to evict another one.  One alone may not know its address yet.
            """
            full = [each for each in members if len(each.neighbors()) == 5]
            pairs = [
                (each, other)
                for each in full
                for other in members
                if other is not each and each.peer_id not in other.neighbors()
            ]
            for each, other in pairs:
                other.say("join", each.peer_id)
            return bool(pairs)

        await stage.become("an active view is full", provoke)
        for _ in range(20):
            if evicted():
                break
            await stage.rest(0.5)
            provoke()
        assert evicted(), "no view evicted anybody"

        def shuffled() -> bool:
            return all(each.reported("status")[-1]["read"].get("Shuffle") for each in pythons) and any(
                each.reported("status")[-1]["read"].get("ShuffleReply") for each in pythons
            )

        for _ in range(20):
            for each in pythons:
                each.say("status")
            await stage.rest(0.5)
            if shuffled():
                break
        assert shuffled(), [each.reported("status")[-1] for each in pythons]
        await stage.one_swarm(members)
        await stage.all_hear(members)

    def test_seven(self) -> Deferred[None]:
        """
        With four Python and three Rust members, views fill, evict and shuffle, and each
        message reaches all, once.
        """
        return self.play(self._seven)


class CrashTests(MembersCase):
    """
    C{kill -9}.
    """

    timeout = 400

    async def _crash(self, stage: Stage) -> None:
        starts: dict[str, Callable[[], Actor]] = {
            "rust": lambda: stage.rust("rust", "--key-file", stage.path("key"), *BUSY),
            "python": lambda: stage.python("python", *IROH, "--state-dir", stage.path("state"), *BUSY),
        }
        crashing = [start() for start in starts.values()]
        staying = [stage.rust("rust that stays", *BUSY), stage.python("python that stays", *IROH, *BUSY)]
        await stage.joined([*crashing, *staying])
        await stage.one_swarm([*crashing, *staying])
        ids = [each.peer_id for each in crashing]
        for each in crashing:
            await each.kill()
        await stage.become(
            "the others notice", lambda: not any(set(ids) & each.neighbors() for each in staying)
        )
        await stage.one_swarm(staying)
        await stage.all_hear(staying)
        back = [start() for start in starts.values()]
        await stage.joined(back)
        assert [each.peer_id for each in back] == ids
        await stage.one_swarm([*back, *staying])
        await stage.all_hear([*back, *staying])

    def test_crash(self) -> Deferred[None]:
        """
        A Rust and a Python member are killed: the others notice and continue; both return
        with their keys, rejoin, and are heard.
        """
        return self.play(self._crash)


class MergeTests(MembersCase):
    """
    Swarms that formed separately.
    """

    async def _bubble(self, stage: Stage, pythons: int, rusts: int, *merging: str) -> list[Actor]:
        """
        A swarm that forms while the DHT is silent, through known addresses.
        """
        number = len(stage.actors)
        actors = [
            *(stage.python(f"python {number + each}", *IROH, *merging) for each in range(pythons)),
            *(stage.rust(f"rust {number + each}", *merging) for each in range(rusts)),
        ]
        await stage.become("they start", lambda: all(each.reported("node.started") for each in actors))
        for each in actors:
            for other in actors:
                if other is not each:
                    each.say("learn", f"{other.peer_id}@{other.address}")
        for position, each in enumerate(actors):
            each.say("join", *(other.peer_id for other in actors[:position]))
        everybody = {each.peer_id for each in actors}
        await stage.become(
            "each has each", lambda: all(each.neighbors() == everybody - {each.peer_id} for each in actors)
        )
        return actors

    async def _heal(self, stage: Stage, pythons: int, rusts: int, *merging: str) -> None:
        stage.room.pause()
        try:
            one = await self._bubble(stage, pythons, rusts, *merging)
            two = await self._bubble(stage, pythons, rusts, *merging)
            both = [*one, *two]
            for each in both:
                # The hashes of received messages are in its records.
                each.say("say", os.urandom(8))
            await stage.become(
                "all hear their own",
                lambda: all(len(each.contents()) == len(one) - 1 for each in (*one, *two)),
            )
            assert not one_swarm([*one, *two])
        finally:
            stage.room.resume()
        await stage.one_swarm(both, 2 * PATIENCE)
        await stage.all_hear(both)

    def test_bubble_merge(self) -> Deferred[None]:
        """
        Two swarms of three, in which each member has two neighbours, find each other by
        bubble merge.
        """
        merging = ("--publisher", "1,1,1", "--bubble-merge", "1,1,1", "--overlap-merge", "0")
        return self.play(lambda stage: self._heal(stage, 1, 2, *merging))

    def test_message_overlap_merge(self) -> Deferred[None]:
        """
        Two swarms of five, in which each member has four neighbours, too many for bubble
        merge, find each other because they have no message in common.
        """
        merging = ("--publisher", "1,1,1", "--bubble-merge", "0", "--overlap-merge", "1,1,1")
        return self.play(lambda stage: self._heal(stage, 2, 3, *merging))


class ManyTests(MembersCase):
    """
    Many messages.
    """

    #: The number of messages from one Python and from one Rust member.
    COUNT = 10_000

    #: The number per second, from each: the crate drops and reports bursts of more than 64, the
    #: capacity of its subscriptions.
    RATE = 800

    #: The RSS that a member may gain, in bytes.
    GAIN = 60_000_000

    async def _many(self, stage: Stage) -> None:
        pythons = [stage.python(f"python {number}", *IROH, *BUSY) for number in range(2)]
        rusts = [stage.rust(f"rust {number}", *BUSY) for number in range(2)]
        members = [*pythons, *rusts]
        await stage.joined(members)
        await stage.one_swarm(members)
        before = {each: each.resident() for each in members}
        prefixes = {pythons[0]: os.urandom(4), rusts[0]: os.urandom(4)}
        for each in members:
            for prefix in prefixes.values():
                each.say("quiet", prefix)
            each.say("count", prefix)
        await stage.become("all count", lambda: all(each.reported("count") for each in members))
        for speaker, prefix in prefixes.items():
            speaker.say("bulk", prefix, self.COUNT, 100, self.RATE)
        await stage.become(
            "all is sent", lambda: all(each.reported("sent") for each in prefixes), 2 * PATIENCE
        )
        wanted = [(each, prefix) for each in members for by, prefix in prefixes.items() if by is not each]

        def missing() -> dict[str, int]:
            """
            The number of missing messages of each member, without those that the crate
            reports as dropped for a slow subscriber.
            """
            lost = dict.fromkeys((each.name for each in members), 0)
            for each, prefix in wanted:
                counts = [event for event in each.reported("count") if event["prefix"] == prefix.hex()]
                assert counts[-1]["count"] == counts[-1]["distinct"], f"{each.name} heard something twice"
                lost[each.name] += self.COUNT - counts[-1]["distinct"]
            for each in rusts:
                # "channel lagged, skipped N messages"
                lost[each.name] -= sum(int(event["words"].split()[-2]) for event in each.reported("lagged"))
            return lost

        for _ in range(30):
            for each in members:
                for prefix in prefixes.values():
                    each.say("count", prefix)
            await stage.rest(1)
            if max(missing().values()) <= 0:
                break
        assert max(missing().values()) <= 0, f"{stage.room.kind}: {missing()}"
        gains = {each.name: each.resident() - before[each] for each in members}
        assert max(gains.values()) < self.GAIN, gains
        seconds = [each.reported("sent")[0]["seconds"] for each in prefixes]
        grown = ", ".join(f"{name} {gain / 1e6:.1f}" for name, gain in gains.items())
        print(f"\n{stage.room.kind}: sent within {max(seconds):.0f} s; grown by (MB): {grown}")

    def test_many(self) -> Deferred[None]:
        """
        Ten thousand messages of a Python member and as many of a Rust one reach all,
        once, and no member's memory exceeds a bound.
        """
        return self.play(self._many)
