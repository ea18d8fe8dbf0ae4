"""
The courses of scenarios with wrong clocks, changing nodes, and machines that sleep.
"""

from __future__ import annotations

from math import inf

from dtt.testing.simulate.driver import Run

#: Seconds in which half of the DHT is replaced, the duration of this, and the time between newcomers.
_HALF = 1800.0
_DAY = 86400.0
_BETWEEN = 600.0

#: How long a newcomer stays, in seconds. Guess.
_STAYS = 120.0

#: How long a machine sleeps, in seconds.
_SLEEP = 3600.0

#: Seconds in which a swarm settles before something happens to it. Guess.
_SETTLED = 60.0


def skewed(run: Run, skew: float, half: bool) -> None:
    """
    The clock of a newcomer, or of half of those who start together, is wrong.
    """
    world = run.world
    if world.seed % 2:
        skew = -skew
    members = [world.member(skew=skew if half and index % 2 else 0.0) for index in range(run.plan.starters)]
    run.start_together(members)
    if half:
        began = world.now
        united = world.until(lambda: world.all_joined() and world.is_one_swarm(), run.plan.limit)
        run.figures["one swarm"] = united
        run.figures["seconds until one swarm"] = world.now - began if united else inf
        run.wait(members, "skewed")
    else:
        run.wait(members, "starter")
        world.advance(_SETTLED)
        run.newcomer("skewed", skew=skew)
    # Reports about clocks may come later.
    world.advance(_SETTLED)


def churn(run: Run, hours: float = _DAY / 3600) -> None:
    """
    Nodes of the DHT are replaced all the time.
    """
    world = run.world
    nodes = len(world.dht.nodes())
    world.every(2 * _HALF / nodes, lambda: world.dht.replace(world.clock.seconds()))
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members)
    run.wait(members, "starter")
    end = world.now + 3600 * hours
    while world.now + _BETWEEN < end:
        world.advance(_BETWEEN - _STAYS)
        member = world.start(world.member())
        run.wait([member], "newcomer")
        world.advance(_STAYS)
        world.stop(member)


def asleep(run: Run, moves: bool, seconds: float = _SLEEP) -> None:
    """
    The machine of a member sleeps for an hour.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members)
    run.wait(members, "starter")
    world.advance(_SETTLED)
    member = members[0]
    world.sleep(member)
    world.advance(seconds)
    world.wake(member, world.host() if moves else None)
    run.wait([member], "awake")


def restarted(run: Run) -> None:
    """
    A member is killed, and starts again with its state.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members)
    run.wait(members, "starter")
    # Its state is written every five minutes.
    world.advance(6 * _SETTLED)
    member = members[0]
    world.kill(member)
    world.advance(_SETTLED)
    world.restart(member)
    run.wait([member], "restarted")
