"""
The course of a simulation: members that start together, and newcomers.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from attrs import frozen

from dtt.testing.simulate.members import Member
from dtt.testing.simulate.results import Join, Result, join_of
from dtt.testing.simulate.world import World

#: Members that start together start within this time, in seconds.
APART: Final = 1.0


@frozen(slots=True)
class Plan:
    """
    The start times of members.

    @ivar starters: members that start within a second.
    @ivar newcomers: members that start one after another.
    @ivar gap: the minimum and maximum seconds between two of them.
    @ivar limit: seconds after which a member counts as not joined.
    """

    starters: int = 6
    newcomers: int = 4
    gap: tuple[float, float] = (5.0, 35.0)
    limit: float = 60.0


class Run:
    """
    One run of a scenario.

    @ivar world: the world.
    @ivar plan: the start times.
    @ivar joins: the joins that have ended.
    @ivar figures: other measurements of the scenario.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.joins: list[Join] = []
        self.figures: dict[str, float] = {}

    def start_together(self, members: list[Member], within: float = APART) -> None:
        """
        Start members within some seconds, at random moments.
        """
        world = self.world
        moments = sorted(world.rng.uniform(0, within) for _ in members)
        began = world.now
        for moment, member in zip(moments, members, strict=True):
            world.advance(max(0.0, began + moment - world.now))
            world.start(member)

    def wait(self, members: list[Member], role: str) -> None:
        """
        Wait until members have joined, or until the limit, and note the outcome.
        """
        world = self.world
        world.until(lambda: all(member.joined_at is not None for member in members), self.plan.limit)
        for member in members:
            self.joins.append(join_of(member, role, world.sent[member.host]))

    def meet(self) -> None:
        """
        Let the starters start together, then the newcomers.
        """
        world, plan = self.world, self.plan
        starters = [world.member() for _ in range(plan.starters)]
        self.start_together(starters)
        self.wait(starters, "starter")
        for _ in range(plan.newcomers):
            self.newcomer()

    def newcomer(self, role: str = "newcomer", *, rule: str | None = None, skew: float = 0.0) -> Member:
        """
        Start a member after a pause, and wait for it.
        """
        world = self.world
        world.advance(world.rng.uniform(*self.plan.gap))
        member = world.start(world.member(rule, skew=skew))
        self.wait([member], role)
        return member

    def result(self) -> Result:
        """
        Return what the run has shown so far.
        """
        world = self.world
        now = world.clock.seconds()
        minutes = [
            (world.sent[member.host], max((member.stopped_at or now) - member.first_start, 60.0) / 60)
            for member in world.members
            if member.first_start
        ]
        slots = world.slots().values()
        finds: Counter[str] = Counter()
        events: Counter[str] = Counter()
        for member in world.members:
            finds += member.finds()
            events += member.events
        total = sum(time for _, time in minutes)
        return Result(
            tuple(self.joins),
            world.now,
            tuple(world.curve),
            sum(sent for sent, _ in minutes) / total if total else 0.0,
            max((sent / time for sent, time in minutes), default=0.0),
            world.most,
            (sum(bad for bad, _ in slots), sum(held for _, held in slots)),
            finds,
            events,
            world.digest(),
            self.figures,
        )
