"""
The courses of scenarios with large, divided and changing swarms.
"""

from __future__ import annotations

from math import inf

from dtt.testing.simulate.driver import Run
from dtt.testing.simulate.members import Member

#: Seconds for which a network is divided, in which a swarm settles, and in which it is watched.
_DIVIDED = 300.0
_SETTLED = 120.0
_WATCHED = 300.0

#: Seconds between two messages, and within which each must have arrived everywhere.
_BETWEEN = 10.0
_ARRIVAL = 30.0


def partitions(run: Run, first: int) -> None:
    """
    Two swarms grow while their members can't reach each other; all reach the DHT.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    world.net.divide([each.host for each in members[:first]], [each.host for each in members[first:]])
    run.start_together(members)
    run.wait(members, "starter")
    world.advance(_DIVIDED)
    world.net.divide()
    began = world.now
    healed = world.until(world.is_one_swarm, run.plan.limit)
    run.figures["seconds until one swarm"] = world.now - began if healed else inf


def together(run: Run) -> None:
    """
    Members start within a second.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    began = world.now
    run.start_together(members)
    united = world.until(lambda: world.all_joined() and world.is_one_swarm(), run.plan.limit)
    run.figures["seconds until one swarm"] = world.now - began if united else inf
    run.wait(members, "starter")


def crowd(run: Run, within: float = 60.0) -> None:
    """
    Very many members start within a minute.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    began = world.now
    run.start_together(members, within)
    united = _united(run, run.plan.limit)
    run.figures["seconds until one swarm"] = world.now - began if united else inf
    run.figures["datagrams from one member to one node in 10 s"] = world.most
    run.wait(members, "starter")
    sent = [member.messages.total() for member in members]
    run.figures["messages of the busiest member, times the mean"] = max(sent) * len(sent) / max(sum(sent), 1)


def _united(run: Run, seconds: float) -> bool:
    # Look once a second: many members have many links.
    world = run.world
    end = world.now + seconds
    while not (world.all_joined() and world.is_one_swarm()):
        if world.now >= end:
            return False
        world.advance(1.0)
    return True


def growth(run: Run, within: float = 10.0) -> None:
    """
    A swarm of some size, idle and with traffic.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members, within)
    run.wait(members, "starter")
    world.advance(_SETTLED)
    for name in ("idle", "with traffic"):
        datagrams, messages = world.sent.total(), _membership(members)
        changes = sum(member.changes for member in members)
        end = world.now + _WATCHED
        while world.now < end:
            if name == "with traffic":
                _say(run, members)
            world.advance(min(_BETWEEN, end - world.now))
        minutes = len(members) * _WATCHED / 60
        run.figures[f"membership messages a member and minute, {name}"] = (
            _membership(members) - messages
        ) / minutes
        run.figures[f"neighbour changes a member and minute, {name}"] = (
            sum(member.changes for member in members) - changes
        ) / minutes
        run.figures[f"DHT datagrams a member and minute, {name}"] = (world.sent.total() - datagrams) / minutes


def _membership(members: list[Member]) -> int:
    return sum(member.messages["membership"] for member in members)


def _say(run: Run, members: list[Member]) -> bytes:
    content = b"%d %b" % (run.world.rng.getrandbits(64), run.world.rng.randbytes(32))
    run.world.rng.choice([each for each in members if each.running]).runner.broadcast(content)
    return content


def replaced(run: Run, share: float, minutes: int = 30) -> None:
    """
    Members leave without a word, and others come, while there are messages.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members, 10.0)
    run.wait(members, "starter")
    world.advance(_SETTLED)
    stayers = members[: len(members) // 2]
    others = members[len(members) // 2 :]
    missed = said = 0
    contents: list[tuple[bytes, Member]] = []
    gap = 60 / (share * len(members))
    for _ in range(int(60 * minutes / gap)):
        gone = others.pop(world.rng.randrange(len(others)))
        world.kill(gone)
        others.append(world.start(world.member()))
        speaker = world.rng.choice(stayers)
        content = b"%d" % world.rng.getrandbits(128)
        speaker.runner.broadcast(content)
        contents.append((content, speaker))
        world.advance(gap)
    world.advance(_ARRIVAL)
    for content, speaker in contents:
        said += 1
        missed += sum(content not in stayer.heard for stayer in stayers if stayer is not speaker)
    run.figures["messages that stayers have missed"] = missed
    run.figures["messages sent"] = said


def gone(run: Run, share: float) -> None:
    """
    Many members vanish at the same moment, and their machines with them.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members, 10.0)
    run.wait(members, "starter")
    world.advance(_SETTLED)
    for member in world.rng.sample(members, int(share * len(members))):
        world.kill(member, power=False)
    began = world.now
    united = _united_among_living(run, run.plan.limit)
    run.figures["seconds until one swarm"] = world.now - began if united else inf


def _united_among_living(run: Run, seconds: float) -> bool:
    return run.world.until(run.world.is_one_swarm, seconds)


def hour(run: Run, seconds: float = 3600.0) -> None:
    """
    A swarm for an hour.
    """
    world = run.world
    members = [world.member() for _ in range(run.plan.starters)]
    run.start_together(members, 10.0)
    run.wait(members, "starter")
    world.advance(seconds)
    run.figures["one swarm"] = world.is_one_swarm()
