"""
The scenarios, by name: what is simulated, and what it has to show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import evolve, field, frozen

from dtt.testing.simulate import attacks, faults, swarms
from dtt.testing.simulate.driver import Plan, Run
from dtt.testing.simulate.results import Goal, Result, at_percentile, figure, joined_within, rate, seen
from dtt.testing.simulate.setting import Setting
from dtt.testing.simulate.world import World

#: 80 libtorrent / 20 jech.
_JAMMED: Final = {"libtorrent": 0.8, "jech": 0.2}


@frozen(slots=True)
class Scenario:
    """
    A scenario.

    @ivar about: what happens, in a line.
    @ivar course: lets it happen.
    @ivar setting: the world.
    @ivar plan: who starts when.
    @ivar goals: what it has to show.
    @ivar seeds: how many runs give 200 joins, or as many as are affordable.
    @ivar options: further arguments of C{course}.
    """

    about: str
    course: Callable[..., None]
    goals: tuple[Goal, ...] = ()
    setting: Setting = field(factory=Setting)
    plan: Plan = field(factory=Plan)
    seeds: int = 20
    options: Mapping[str, Any] = field(factory=dict)

    def run(self, seed: int, **changes: Any) -> Result:
        """
        Run it once.

        @param changes: fields of L{Setting} to change.
        """
        with World(evolve(self.setting, **changes), seed) as world:
            run = Run(world, self.plan)
            self.course(run, **self.options)
            return run.result()


def _sybils(networks: int, kind: str, secure: bool) -> Scenario:
    valid = "valid ids" if secure else "other ids"
    return Scenario(
        f"40 Sybils in {networks} /24s next to every slot, {kind}, {valid}",
        attacks.sybils,
        (joined_within(0.99, 30), rate(1000)),
        options={"networks": networks, "kind": kind, "secure": secure},
    )


def _skew(name: str, skew: float, seconds: float, half: bool = False) -> Scenario:
    who = "half of the members" if half else "a newcomer"
    return Scenario(
        f"the clock of {who} is {name} off, ahead in half of the runs",
        faults.skewed,
        (
            figure("seconds until one swarm", seconds) if half else joined_within(1.0, seconds, "skewed"),
            seen("clock.skewed"),
        ),
        plan=Plan(starters=4, newcomers=0, limit=180.0),
        options={"skew": skew, "half": half},
    )


def _growth(count: int) -> Scenario:
    return Scenario(
        f"{count} members, idle for five minutes and then with a message every 10 s",
        swarms.growth,
        (
            figure("membership messages a member and minute, idle", 10),
            figure("membership messages a member and minute, with traffic", 10),
            figure("neighbour changes a member and minute, idle", 0.1),
            figure("neighbour changes a member and minute, with traffic", 0.1),
        ),
        plan=Plan(starters=count, newcomers=0, limit=180.0),
        seeds=3,
    )


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "pair": Scenario(
        "two members start together",
        attacks.undisturbed,
        (at_percentile(0.5, 9 * 0.22),),
        plan=Plan(starters=2, newcomers=0),
        seeds=100,
    ),
    "newcomer": Scenario(
        "a member starts while another one is alone",
        attacks.lone_newcomer,
        (at_percentile(0.5, 7.5 * 0.22, "newcomer"),),
        plan=Plan(starters=1, newcomers=0),
        seeds=100,
    ),
    "large": Scenario(
        "5000 nodes, 20 % dead: newcomers join a member",
        attacks.lone_newcomer,
        (at_percentile(0.95, 1.5, "newcomer"),),
        Setting(nodes=5000, low=0.02, high=0.15),
        Plan(starters=1, newcomers=0),
        seeds=100,
    ),
    "undisturbed": Scenario(
        "nobody disturbs: what attacks are compared with",
        attacks.undisturbed,
        (joined_within(1.0, 10),),
    ),
    "jam-90": Scenario(
        "an outsider fills 90 % of the 64 nearest nodes of every slot ahead",
        attacks.jammed,
        (joined_within(0.99, 30), seen("slot.contested")),
        Setting(manners=_JAMMED),
        options={"share": 0.9},
    ),
    "jam-100": Scenario(
        "an outsider fills the 64 nearest nodes of every slot ahead",
        attacks.jammed,
        (joined_within(0.99, 30), seen("slot.contested")),
        Setting(manners=_JAMMED),
        options={"share": 1.0},
    ),
    "jam-mixed": Scenario(
        "the same, and members with upstream's rule come last",
        attacks.jammed,
        (joined_within(0.99, 30, "starter"), joined_within(0.99, 30, "newcomer")),
        Setting(manners=_JAMMED),
        options={"share": 1.0, "mixed": True},
    ),
    **{
        f"sybils-{networks}-{kind}{'-valid' if secure else ''}": _sybils(networks, kind, secure)
        for networks in (8, 40)
        for kind in ("silent", "lying")
        for secure in (False, True)
    },
    "liars": Scenario(
        "a fifth of all nodes name nodes that do not exist",
        attacks.liars,
        (joined_within(0.99, 30), rate(1000)),
        options={"share": 0.2},
    ),
    **{
        f"insider-{fakes}": Scenario(
            f"a member publishes {fakes} fake records a minute in the public slot",
            attacks.insider,
            (
                joined_within(0.99, 30),
                figure("dials to the victim, most of a member and minute", 5),
                rate(800),
            ),
            options={"fakes": fakes},
        )
        for fakes in (5, 40)
    },
    **{
        f"insider-sealed-{fakes}": Scenario(
            f"the same with {fakes} fakes, and in all lanes of the sealed slots, ahead",
            attacks.insider,
            (
                joined_within(0.99, 60),
                figure("dials to the victim, most of a member and minute", 5),
                rate(800),
            ),
            options={"fakes": fakes, "sealed": True},
        )
        for fakes in (5, 40)
    },
    "unreachable": Scenario(
        "the slot holds records of five members that can't be reached",
        attacks.insider,
        (joined_within(1.0, 10),),
        plan=Plan(starters=2, newcomers=0),
        options={"fakes": 5, "places": 10},
        seeds=50,
    ),
    "replay": Scenario(
        "an outsider stores the records of yesterday in all slots",
        attacks.replayed,
        (joined_within(0.99, 30), figure("old members found", 0)),
        plan=Plan(starters=4, newcomers=2),
    ),
    **{
        f"partitions-{first}-{second}": Scenario(
            f"two quiet swarms of {first} and {second} members, which can reach each other again",
            swarms.partitions,
            (figure("seconds until one swarm", 180, share=0.95),),
            plan=Plan(starters=first + second, newcomers=0, limit=900.0),
            options={"first": first},
        )
        for first, second in ((10, 10), (3, 17))
    },
    **{
        f"together-{count}": Scenario(
            f"{count} members start within a second",
            swarms.together,
            (figure("seconds until one swarm", 5, share=0.99),),
            plan=Plan(starters=count, newcomers=0),
            seeds=100 if count == 8 else 40,
        )
        for count in (8, 20)
    },
    "skew-90s": _skew("90 s", 90, 10),
    "skew-10min": _skew("10 min", 600, 10),
    "skew-3h": _skew("3 h", 10800, 60),
    "skew-half-10min": _skew("10 min", 600, 10, half=True),
    "loss-10": Scenario(
        "10 % loss, 200 ms one way at most, 30 % dead",
        attacks.undisturbed,
        (at_percentile(0.95, 5),),
        Setting(loss=0.1, silent=0.3),
    ),
    "loss-30": Scenario(
        "30 % loss",
        attacks.undisturbed,
        (at_percentile(0.95, 12),),
        Setting(loss=0.3),
    ),
    "duplicates": Scenario(
        "datagrams arrive twice, and late; segments, too",
        attacks.undisturbed,
        (at_percentile(0.95, 5),),
        Setting(duplication=0.2, reordering=0.2),
    ),
    "churn": Scenario(
        "half of the DHT is replaced every 30 minutes, for a day",
        faults.churn,
        (joined_within(0.995, 10, "newcomer"),),
        Setting(nodes=500),
        Plan(starters=10, newcomers=0),
        seeds=3,
    ),
    "asleep": Scenario(
        "a member sleeps for an hour",
        faults.asleep,
        (joined_within(0.99, 10, "awake"),),
        plan=Plan(starters=4, newcomers=0),
        options={"moves": False},
    ),
    "moved": Scenario(
        "a member sleeps for an hour, and wakes with another address",
        faults.asleep,
        (joined_within(0.99, 10, "awake"),),
        plan=Plan(starters=4, newcomers=0),
        options={"moves": True},
    ),
    "restarted": Scenario(
        "a member is killed, and starts again with its state and another address",
        faults.restarted,
        (joined_within(0.99, 10, "restarted"),),
        plan=Plan(starters=4, newcomers=0),
    ),
    "crowd": Scenario(
        "1000 members start within a minute",
        swarms.crowd,
        (
            figure("seconds until one swarm", 180),
            figure("datagrams from one member to one node in 10 s", 20),
            figure("messages of the busiest member, times the mean", 5),
        ),
        Setting(nodes=5000),
        Plan(starters=1000, newcomers=0, limit=240.0),
        seeds=3,
    ),
    **{f"growth-{count}": _growth(count) for count in (10, 100, 300, 1000)},
    **{
        f"replaced-{share}": Scenario(
            f"{share} % of 100 members are replaced every minute, for 30 minutes, with messages",
            swarms.replaced,
            (figure("messages that stayers have missed", 0),),
            plan=Plan(starters=100, newcomers=0, limit=120.0),
            seeds=3,
            options={"share": share / 100},
        )
        for share in (5, 20)
    },
    **{
        f"gone-{share}": Scenario(
            f"{share} % of 100 members vanish silently",
            swarms.gone,
            (figure("seconds until one swarm", limit),),
            plan=Plan(starters=100, newcomers=0, limit=180.0),
            seeds=3,
            options={"share": share / 100},
        )
        for share, limit in ((30, 1), (80, 30))
    },
    "hour": Scenario(
        "100 members for an hour among 5000 nodes",
        swarms.hour,
        setting=Setting(nodes=5000),
        plan=Plan(starters=100, newcomers=0, limit=120.0),
        seeds=1,
    ),
}
