"""
A swarm most of whose members are behind NATs, in virtual time.

Prints how long it takes until all members are one swarm, whether all hear all, the
changes of neighbours a member and minute afterwards, and the datagrams.

Usage: C{python -m benchmarks.nat_swarm [--members 300] [--public 0.1] [--seed 0]}
"""

from __future__ import annotations

from argparse import ArgumentParser
from time import process_time
from unittest.mock import patch

from dtt.transport.iroh import bindings
from tests.tracker.internet import Internet, parts


def main() -> None:
    """
    Run one swarm.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--public", type=float, default=0.1, help="the share of members that can be reached")
    parser.add_argument("--within", type=float, default=10.0, help="seconds within which they start")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long to watch afterwards")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = process_time()
    with patch.object(bindings, "unavailable_reason", lambda: ""):
        internet = Internet(args.seed, low=0.01, high=0.08)
        kinds = ["nat", "eim", "cone", "fw"]
        members = []
        for number in range(args.members):
            is_public = number < args.public * args.members
            members.append(internet.member("public" if is_public else kinds[number % 4]))
        internet.rng.shuffle(members)
        for member in members:
            internet.start(member)
            internet.advance(args.within / len(members))
    united = internet.until(lambda: len(parts(members)) == 1, 300.0, 0.5)
    print(
        f"one swarm: {united}, {internet.clock.seconds() - members[-1].started_at:.1f} s after the last start"
    )
    joined = sorted((member.joined_at or float("inf")) - member.started_at for member in members)
    print(f"joined: p50 {joined[len(joined) // 2]:.2f} s, p95 {joined[int(0.95 * len(joined))]:.2f} s")
    internet.advance(60.0)
    for member in members:
        member.changes = 0
    internet.sent.clear()
    internet.advance(60.0 * args.minutes)
    changes = sum(member.changes for member in members) / len(members) / args.minutes
    sent = sum(internet.sent.values()) / len(members) / args.minutes / 60
    print(f"parts: {parts(members)}; {changes:.2f} changes of neighbours a member and minute")
    print(f"{sent:.2f} datagrams to the DHT a member and second")
    for member in members[:20]:
        assert member.topic is not None
        member.topic.broadcast(member.tracker.peer_id)
        internet.advance(0.5)
    internet.advance(10.0)
    ids = {member.tracker.peer_id for member in members[:20]}
    missed = sum(len(ids - member.heard - {member.tracker.peer_id}) for member in members)
    print(
        f"20 messages: {missed} not received of {20 * (len(members) - 1)}; CPU {process_time() - began:.0f} s"
    )
    internet.stop()


if __name__ == "__main__":
    main()
