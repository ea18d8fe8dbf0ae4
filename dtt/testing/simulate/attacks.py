"""
The courses of scenarios with attackers, and of undisturbed ones.
"""

from __future__ import annotations

from collections import Counter

from dtt.krpc.bencode import decode
from dtt.testing.simulate.attackers import (
    Insider,
    Kind,
    Liars,
    Replayer,
    SealedInsider,
    Squatter,
    Sybils,
)
from dtt.testing.simulate.driver import Run

#: How long the first member is alone before the newcomer, in seconds.
_ALONE = (20.0, 50.0)

_DAY = 86400.0


def undisturbed(run: Run) -> None:
    """
    Members start together, then others one after another.
    """
    run.meet()


def lone_newcomer(run: Run) -> None:
    """
    A member starts while another one is alone.
    """
    world = run.world
    world.start(world.member())
    world.advance(world.rng.uniform(*_ALONE))
    member = world.start(world.member())
    run.wait([member], "newcomer")


def jammed(run: Run, share: float, mixed: bool = False) -> None:
    """
    An outsider fills the public slots.

    @param mixed: there are members with upstream's rule, too, which join last.
    """
    Squatter(run.world, share)
    run.meet()
    if mixed:
        for _ in range(run.plan.newcomers):
            run.newcomer("like Rust", rule="upstream")


def sybils(run: Run, networks: int, kind: Kind, secure: bool) -> None:
    """
    An outsider has nodes next to the public slots.
    """
    Sybils(run.world, 40, networks, kind, secure)
    run.meet()


def liars(run: Run, share: float) -> None:
    """
    Nodes everywhere name nodes that do not exist.
    """
    Liars(run.world, share)
    run.meet()


def insider(run: Run, fakes: int, places: int = 32, sealed: bool = False) -> None:
    """
    A member publishes records of others that do not exist.
    """
    world = run.world
    victims = frozenset((SealedInsider if sealed else Insider)(world, fakes, places).victims)
    dials: Counter[tuple[str, int]] = Counter()

    def connecting(source: tuple[str, int], target: tuple[str, int]) -> None:
        if target[0] in victims:
            dials[source[0], int(world.now // 60)] += 1

    world.net.tcp.observers.append(connecting)
    run.meet()
    run.figures["dials to the victim, most of a member and minute"] = max(dials.values(), default=0)


def replayed(run: Run) -> None:
    """
    An outsider stores what was in the slots a day ago.
    """
    world = run.world
    old = [world.start(world.member()) for _ in range(3)]
    world.advance(90.0)
    minute = int(world.clock.seconds() // 60)
    values = {
        bytes(value)
        for each in (minute - 1, minute)
        for _, value in world.dht.holders(world.keys.slot(each).target)
    }
    old_ids = {member.peer_id for member in old}
    for member in old:
        world.stop(member)
    world.net.advance(_DAY)
    Replayer(world, [decode(value) for value in sorted(values)])
    began = len(world.members)
    run.meet()
    connected = sum(bool(old_ids.intersection(member.neighbors())) for member in world.members[began:])
    run.figures["old members found"] = connected
    run.figures["records replayed"] = len(values)
