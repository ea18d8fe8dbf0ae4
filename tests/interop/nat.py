"""
How long members behind NATs and firewalls need to find each other: real processes, and
real routers in network namespaces.

C{python -m tests.interop.nat [--runs N] [--rows NAME,...] [--delay MS] [--loss PERCENT]
[--together N]}, in a checkout, on Linux, as root (see L{tests.interop.nat_network}).

Members are C{dtt chat --json} processes with a new identity each.  The DHT consists of 24
dtt nodes with public addresses.  The kinds of sites:

  - C{public}: the machine has a public address.
  - C{nat}: a home router.  Its NAT keeps ports, and lets nothing in.
  - C{natrej}: the same, but it rejects what comes in instead of ignoring it.
  - C{eim}: the NAT maps the port to another one, the same for all destinations.
  - C{sym}: the NAT uses a random port for each destination ("symmetric").
  - C{sympcp}, C{symnatpmp}: the same with a router that maps ports on request.
  - C{cgn}: a home router behind the provider's NAT.
  - C{fw}, C{fw6}: no NAT, but a stateful firewall; IPv4 and IPv6 only.

All homes have the same private addresses.  Times are counted from the C{dht.ready} of the
last member until all have joined and each has heard a line of every other one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from time import time
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.python.failure import Failure

from benchmarks.wan.carrier import be_punctual
from dtt.config import PUBLIC_BOOTSTRAP
from tests.interop.nat_network import (
    EIM,
    FW6,
    INSIDE_PORT,
    NODE_PORT,
    PUBLIC,
    SYM_NATPMP,
    SYM_PCP,
    Internet,
    Site,
    Weather,
    missing,
    no_delay,
    no_port_mapping,
    node_addresses,
)
from tests.interop.peers import ROOT, Program
from tests.interop.rooms import missing as missing_rooms
from tests.interop.rooms import rust
from tests.interop.support import NO_IROH

#: Seconds between two lines of a member that not all have heard, in a small and in a large
#: swarm: in the latter, lines cost all members much time.
LINE_INTERVAL, LINE_INTERVAL_MANY = 0.5, 2.0

#: Seconds from the start of a process until it is ready (guess: a busy machine starts 30 slowly).
STARTS_WITHIN = 180.0

#: Seconds that a swarm runs before a newcomer comes: at least, and at most (then its members
#: read the slot rarely).
SETTLED = (20.0, 40.0)

#: The members of the large swarm: public ones, and the kinds of the others in turn.
MANY_PUBLIC, MANY_HIDDEN = 3, 27
MANY_KINDS = ("nat", "eim", "natrej", "cgn", "fw")


#: The row with a member of the Rust crate.
RUST = "rust"

#: The fields of events that a trace does not show.
_PLAIN = ("event", "time", "topic")


class MissedError(Exception):
    """
    The members did not find each other in time.
    """


class NATMember(ProcessProtocol):
    """
    A C{dtt chat --json} process.

    @ivar name: begins all its lines.
    @ivar site: where it runs.
    @ivar events: its events.
    @ivar heard: the time in unix seconds of the first line of each member.
    @ivar lines: the latest line of each member: its number and when it was heard.
    @ivar said: the number of its own lines.
    """

    def __init__(self, name: str, site: Site) -> None:
        self.name = name
        self.site = site
        self.events: list[dict[str, Any]] = []
        self.heard: dict[str, float] = {}
        self.lines: dict[str, tuple[int, float]] = {}
        self.said = 0
        self.ended: Deferred[None] = Deferred()
        self._times: dict[str, float] = {}
        self._rest = self._errors = b""

    def outReceived(self, data: bytes) -> None:
        """
        Read events, one per line.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            name, at = event["event"], event["time"]
            self._times.setdefault(name, at)
            if name == "message":
                sender, number = json.loads(event["content"])["text"].split()
                self.heard.setdefault(sender, at)
                self.lines[sender] = int(number), at
            else:
                self.events.append(event)
            if name == "topic.joined":
                self.say()

    def errReceived(self, data: bytes) -> None:
        """
        Keep standard error.
        """
        self._errors = (self._errors + data)[-4000:]

    def processEnded(self, reason: Failure) -> None:
        """
        Fire C{ended}.
        """
        self.ended.callback(None)

    def first(self, name: str) -> float | None:
        """
        The time of the first event of a name, in unix seconds.
        """
        return self._times.get(name)

    def say(self) -> None:
        """
        Say a line, if it has joined.
        """
        if self.transport is not None and self.first("topic.joined") is not None and not self.ended.called:
            self.said += 1
            self.transport.write(b"%b %d\n" % (self.name.encode(), self.said))

    def check(self) -> None:
        """
        @raise MissedError: the process has ended.
        """
        if self.ended.called:
            raise MissedError(f"{self.name} ended: {self._errors.decode(errors='replace')}")

    def kill(self) -> Deferred[None]:
        """
        End the process.
        """
        if not self.ended.called and self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
        return self.ended


class RustMember(NATMember):
    """
    A member of the Rust crate, which speaks iroh only, and says nothing.
    """

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        """
        @param names: the names of the members whose lines it waits for.
        """
        super().__init__("rust", site)
        self.names = names

    def outReceived(self, data: bytes) -> None:
        """
        Read events, one per line.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["event"] == "message":
                # How dtt chat writes lines is of no importance here.
                content = bytes.fromhex(event["content_hex"])
                for name in self.names:
                    if f"{name} ".encode() in content:
                        self.heard.setdefault(name, event["time"])
            else:
                self.events.append(event)


class Bed:
    """
    An Internet with a DHT.

    @ivar folder: for files of the members.
    """

    def __init__(self, reactor: Any, weather: Weather, folder: Path, seed: int = 1) -> None:
        self.reactor = reactor
        self.folder = folder
        self.rng = Random(seed)
        # With compiled modules: many processes that compile at the same time take minutes.
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environ = {**environ, "PYTHONPATH": str(ROOT)}
        self._internet = Internet(reactor, weather, seed)
        self._nodes: Program | None = None
        self._secret = folder / "secret"
        self._secret.touch(mode=0o600)
        self._secret.write_text(os.urandom(16).hex())
        # The DHT of Rust peers is not configurable: they ask hosts with these names.
        self._hosts = folder / "hosts"
        first = node_addresses()[0][0]
        self._hosts.write_text("".join(f"{first} {host}\n" for host, _ in PUBLIC_BOOTSTRAP))

    async def start(self) -> None:
        """
        Start the DHT.
        """
        command = [sys.executable, "-m", "tests.interop.nat_nodes"]
        self._nodes = Program(self.reactor, self._internet.namespace.enter(*command))
        await self._nodes.port.addTimeout(STARTS_WITHIN, self.reactor)

    async def stop(self) -> None:
        """
        Remove everything.
        """
        if self._nodes is not None:
            await self._nodes.stop()
        self._internet.close()

    def swarm(self, interval: float) -> Swarm:
        """
        Return a new topic without members.

        @param interval: seconds between two lines of each member.
        """
        return Swarm(self, os.urandom(8).hex(), interval)

    def site(self, kind: str) -> Site:
        """
        Return a new site.
        """
        return self._internet.site(kind)

    def spawn_rust(self, member: RustMember, topic: str) -> None:
        """
        Start the process of a member of the Rust crate.

        @param member: it has a public address.
        """
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        words = ["unshare", "-m", "sh", "-c", script, str(self._hosts), rust("tracker-peer"), topic]
        words += ["--secret-file", str(self._secret), "--pkarr", "--bind", f"{member.site.public}:0"]
        command = member.site.machine.enter(*words)
        self.reactor.spawnProcess(member, command[0], command, env=self._environ)

    def spawn(self, member: NATMember, topic: str, transports: str) -> None:
        """
        Start the process of a member.

        @param transports: as for the option C{--transport}.
        """
        words = [sys.executable, "-m", "dtt", "chat", topic, "--json", "--stay"]
        words += ["--secret-file", str(self._secret), "--transport", transports]
        if member.site.kind == EIM:
            words += ["--dht-port", str(INSIDE_PORT)]
        for four, six in node_addresses()[:3]:
            host = f"[{six}]" if member.site.kind == FW6 else four
            words += ["--bootstrap", f"{host}:{NODE_PORT}"]
        command = member.site.machine.enter(*words)
        self.reactor.spawnProcess(member, command[0], command, env=self._environ)


class Daemon(ProcessProtocol):
    """
    A daemon on a router.

    @ivar output: the end of what it has written.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.output = b""

    def outReceived(self, data: bytes) -> None:
        """
        Keep its output.
        """
        self.output = (self.output + data)[-20000:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """
        Fire C{ended}.
        """
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """
        Stop it.
        """
        if not self.ended.called and self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
        return self.ended


class Swarm:
    """
    The members of one topic.

    @ivar members: those that were started.
    @ivar notes: further results.
    @ivar talks_on: whether members continue to send after all have been heard.
    """

    def __init__(self, bed: Bed, topic: str, interval: float) -> None:
        self.members: list[NATMember] = []
        self.notes: list[str] = []
        self._bed = bed
        self._topic = topic
        self._daemons: list[Daemon] = []
        self._rust: list[RustMember] = []
        self._sites: list[Site] = []
        self._talking = LoopingCall(self._talk)
        self._talking.clock = bed.reactor
        self.talks_on = False
        self._talking.start(interval)

    def add_rust(self) -> RustMember:
        """
        Start a member of the Rust crate at a new public site.  It is not one of
        C{members}.
        """
        member = RustMember(self._site(PUBLIC), [each.name for each in self.members])
        self._rust.append(member)
        self._bed.spawn_rust(member, self._topic)
        return member

    def _site(self, kind: str) -> Site:
        site = self._bed.site(kind)
        self._sites.append(site)
        return site

    def add(self, kind: str, transports: str = "streams,quic") -> NATMember:
        """
        Start a member at a new site.
        """
        bed = self._bed
        site = self._site(kind)
        if kind in (SYM_PCP, SYM_NATPMP):
            daemon = Daemon()
            command = site.miniupnpd(bed.folder, "enable_natpmp=yes")
            bed.reactor.spawnProcess(daemon, command[0], command)
            self._daemons.append(daemon)
        member = NATMember(f"{kind}-{site.number}", site)
        self.members.append(member)
        bed.spawn(member, self._topic, transports)
        return member

    async def until(self, condition: Callable[[], bool], limit: float, words: str) -> None:
        """
        Wait until C{condition} holds.

        @param limit: seconds.
        @param words: what is waited for.
        @raise MissedError: it does not hold in time, or a member has ended.
        """
        end = time() + limit
        while not condition():
            for member in self.members:
                member.check()
            if time() > end:
                raise MissedError(f"{words}: not within {limit:g} s; {self.state()}")
            await deferLater(self._bed.reactor, 0.02)

    async def ready(self) -> float:
        """
        Wait until the DHT answers to all members.

        @return: since when, in unix seconds.
        """
        await self.until(
            lambda: all(member.first("dht.ready") is not None for member in self.members),
            STARTS_WITHIN,
            "dht.ready",
        )
        return max(member.first("dht.ready") or 0.0 for member in self.members)

    async def meet(self, limit: float, since: float | None = None) -> float:
        """
        Wait until all members have joined and heard each other.

        @param limit: seconds.
        @param since: in unix seconds; C{None}: since all are ready.
        @return: for how long, in seconds.
        """
        since = await self.ready() if since is None else since
        await self.until(self._have_met, since + limit - time(), "all hear all")
        ends = [at for member in self.members for at in member.heard.values()]
        ends += [member.first("topic.joined") or 0.0 for member in self.members]
        return max(ends) - since

    def _have_met(self) -> bool:
        others = len(self.members) - 1
        return all(
            len(member.heard) >= others and member.first("topic.joined") is not None
            for member in self.members
        )

    def _talk(self) -> None:
        for member in self.members:
            others = (other for other in self.members if other is not member)
            if self.talks_on or not all(member.name in other.heard for other in others):
                member.say()

    def state(self) -> str:
        """
        What the members have seen, for an error message.
        """
        words = []
        for member in self.members:
            names = {"topic.joined", "record.found", "peer.failed", "neighbor.up", "neighbor.down"}
            seen = [
                f"{event['event']}{' ' + event['reason'] if 'reason' in event else ''}"
                for event in member.events
                if event["event"] in names
            ]
            words.append(f"{member.name} heard {sorted(member.heard)}: {', '.join(seen[-8:])}")
        return "; ".join(words[:6])

    def story(self) -> str:
        """
        The events of all members, in the order of their time, as text.
        """
        events = [(event["time"], member.name, event) for member in self.members for event in member.events]
        events += [
            (at, member.name, {"event": "heard", "member": other})
            for member in self.members
            for other, at in member.heard.items()
        ]
        zero = max((member.first("dht.ready") or 0.0 for member in self.members), default=0.0)
        lines = []
        for at, name, event in sorted(events, key=lambda each: each[:2]):
            rest = [f"{key}={str(value)[:60]}" for key, value in event.items() if key not in _PLAIN]
            lines.append(f"{at - zero:8.3f}  {name:14}  {event['event']:20} {' '.join(rest)}")
        return "\n".join(lines)

    async def stop(self) -> None:
        """
        End all processes, and remove all sites.
        """
        self._talking.stop()
        await gatherResults([process.kill() for process in (*self.members, *self._rust)])
        await gatherResults([daemon.stop() for daemon in self._daemons])
        for site in self._sites:
            site.close()


#: Measures one run: seconds.
Run = Callable[["Row", Bed, Swarm], Awaitable[float]]


async def together(row: Row, bed: Bed, swarm: Swarm) -> float:
    """
    All start together.
    """
    for kind in row.kinds:
        swarm.add(kind)
    return await swarm.meet(row.limit)


async def newcomer(row: Row, bed: Bed, swarm: Swarm) -> float:
    """
    The last one comes to the others, which have run for a while.
    """
    for kind in row.kinds[:-1]:
        swarm.add(kind)
    await swarm.meet(STARTS_WITHIN)
    await deferLater(bed.reactor, bed.rng.uniform(*SETTLED))
    new = swarm.add(row.kinds[-1])
    await swarm.until(lambda: new.first("dht.ready") is not None, STARTS_WITHIN, "dht.ready")
    return await swarm.meet(row.limit, new.first("dht.ready"))


async def rust_hears(row: Row, bed: Bed, swarm: Swarm) -> float:
    """
    The first member speaks iroh, too.  Seconds until all have met, and a member of the Rust
    crate has heard all of them: it can't connect to those behind NATs.
    """
    for kind in row.kinds:
        swarm.add(kind, "streams,quic,iroh" if kind == PUBLIC else "streams,quic")
    member = swarm.add_rust()
    since = await swarm.ready()
    await swarm.meet(row.limit, since)
    swarm.talks_on = True

    def hears() -> bool:
        member.check()
        return set(member.heard) >= set(member.names)

    await swarm.until(hears, since + row.limit - time(), f"the Rust member hears all: {sorted(member.heard)}")
    return max(member.heard.values()) - since


async def moved(row: Row, bed: Bed, swarm: Swarm) -> float:
    """
    The public address of the first one's router changes.  Seconds until all hear lines
    that were said after that.
    """
    swarm.talks_on = True
    for kind in row.kinds:
        swarm.add(kind)
    await swarm.meet(STARTS_WITHIN)
    await deferLater(bed.reactor, 5.0)
    swarm.members[0].site.set_public(2)
    since, said = time(), {member.name: member.said for member in swarm.members}

    def hear_again() -> bool:
        return all(
            member.lines[other.name][0] > said[other.name] + 1
            for member in swarm.members
            for other in swarm.members
            if other is not member
        )

    await swarm.until(hear_again, row.limit, "lines are heard again")
    return time() - since


async def many(row: Row, bed: Bed, swarm: Swarm) -> float:
    """
    All start together.  The note says how often neighbours changed after the goal's time,
    while the views still settle for a few seconds when the swarm has just become one: the
    goal is less than once a member and minute.
    """
    for kind in row.kinds:
        swarm.add(kind)
    seconds = await swarm.meet(row.limit)
    await deferLater(bed.reactor, max(0.0, row.goal - seconds))
    since = time()
    await deferLater(bed.reactor, row.watched)
    changes = sum(
        event["event"] in ("neighbor.up", "neighbor.down") and event["time"] > since
        for member in swarm.members
        for event in member.events
    )
    rate = changes / len(swarm.members) / row.watched * 60
    judged = "" if rate < 1 else " (missed)"
    swarm.notes.append(f"neighbours came or went {rate:.2f} times a member and minute{judged}")
    return seconds


@frozen(slots=True)
class Row:
    """
    One row of the table.

    @ivar name: its name.
    @ivar kinds: the sites of the members.
    @ivar goal: seconds that 95 % of the runs should need at most; with delay and loss:
        C{goal_far}.
    @ivar limit: seconds after which a run has failed.
    @ivar run: measures a run.
    @ivar alone: whether it is so large that nothing else runs at the same time.
    @ivar watched: for L{many}: seconds for which changes are counted.
    """

    name: str
    kinds: tuple[str, ...]
    goal: float
    goal_far: float
    limit: float = 20.0
    run: Run = together
    alone: bool = False
    watched: float = 60.0


def _pair(name: str, goal: float = 1.0, goal_far: float = 2.5) -> Row:
    return Row(name, tuple(name.split("-")), goal, goal_far)


_MANY = ("public",) * MANY_PUBLIC + tuple(MANY_KINDS[n % len(MANY_KINDS)] for n in range(MANY_HIDDEN))

#: All rows.
ROWS = (
    *(_pair(name, 0.3, 1.5) for name in ("public-public", "nat-public", "sym-public")),
    *(_pair(name) for name in ("nat-nat", "eim-eim", "natrej-natrej", "nat-fw", "fw-fw", "fw6-fw6")),
    *(_pair(name) for name in ("cgn-nat", "cgn-cgn")),
    Row("sym-sym-public", ("sym", "sym", "public"), 2.0, 5.0),
    Row("sympcp-sympcp", (SYM_PCP, SYM_PCP), 5.0, 7.0),
    Row("symnatpmp-symnatpmp", (SYM_NATPMP, SYM_NATPMP), 5.0, 7.0),
    Row("newcomer", ("nat", "eim", "cgn", "nat"), 8.0, 10.0, 90.0, newcomer),
    Row(RUST, (PUBLIC, "nat", "eim"), 30.0, 40.0, 120.0, rust_hears),
    Row("moved", ("nat", "nat"), 20.0, 20.0, 120.0, moved),
    Row("many", _MANY, 30.0, 40.0, 90.0, many, alone=True),
)


@define
class Result:
    """
    The runs of one row.

    @ivar seconds: of each run that succeeded.
    @ivar failures: of the others.
    @ivar notes: further results.
    """

    row: Row
    seconds: list[float] = field(factory=list)
    failures: list[str] = field(factory=list)
    notes: list[str] = field(factory=list)

    def percentile(self, share: float) -> float:
        """
        The smallest value that C{share} of the runs did not exceed; a failed run counts as
        infinite.
        """
        values = sorted(self.seconds) + [math.inf] * len(self.failures) or [math.inf]
        return values[max(0, math.ceil(share * len(values)) - 1)]


async def measure(
    bed: Bed, results: Sequence[Result], runs: Callable[[Row], int], beside: int, trace: bool = False
) -> None:
    """
    Do all runs.

    @param results: those of each row, which are filled.
    @param runs: the number of runs of a row.
    @param beside: the number of runs at the same time.
    @param trace: print the events of all members.
    """
    turns = DeferredSemaphore(beside)

    async def once(result: Result) -> None:
        swarm = bed.swarm(LINE_INTERVAL_MANY if result.row.alone else LINE_INTERVAL)
        try:
            result.seconds.append(await result.row.run(result.row, bed, swarm))
        except MissedError as error:
            result.failures.append(str(error))
        finally:
            result.notes += swarm.notes
            if trace:
                print(f"\n{result.row.name}\n{swarm.story()}", flush=True)
            await swarm.stop()

    beside_others = [result for result in results if not result.row.alone for _ in range(runs(result.row))]
    await gatherResults([turns.run(once, each) for each in beside_others], consumeErrors=True)
    for result in results:
        if result.row.alone:
            for _ in range(runs(result.row)):
                await once(result)


def table(results: Sequence[Result], weather: Weather) -> str:
    """
    The results as text.
    """
    lines = [f"{'members':20} {'runs':>7} {'p50':>7} {'p95':>7} {'max':>7} {'goal':>6}   seconds"]
    for result in results:
        row, done = result.row, len(result.seconds)
        goal = row.goal if weather.is_fine else row.goal_far
        middle = statistics.median(result.seconds) if done else math.inf
        late, worst = result.percentile(0.95), result.percentile(1.0)
        judged = "" if late <= goal else "  missed"
        runs = f"{done}/{done + len(result.failures)}"
        notes = "".join(f"  {note}" for note in result.notes)
        lines.append(
            f"{row.name:20} {runs:>7} {middle:7.2f} {late:7.2f} {worst:7.2f} {goal:6.1f}{judged}{notes}"
        )
    lines += [f"{result.row.name}: {failure}" for result in results for failure in result.failures[:2]]
    return "\n".join(lines)


def unavailable(row: Row) -> str | None:
    """
    The reason why a row can't be measured here; C{None} if it can.
    """
    if row.name == RUST:
        return missing() or missing_rooms() or NO_IROH
    return no_port_mapping() if {SYM_PCP, SYM_NATPMP} & set(row.kinds) else missing()


async def run(
    reactor: Any,
    results: Sequence[Result],
    runs: Callable[[Row], int],
    beside: int,
    weather: Weather,
    trace: bool = False,
) -> None:
    """
    Make a bed, and measure some rows on it; the parameters are those of L{measure}.
    """
    with tempfile.TemporaryDirectory(prefix="dtt-nat-") as name:
        bed = Bed(reactor, weather, Path(name))
        try:
            await bed.start()
            await measure(bed, results, runs, beside, trace)
        finally:
            await bed.stop()


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        prog="nat", description="Measure how long members behind NATs need to find each other."
    )
    parser.add_argument("--runs", type=int, default=20, help="runs of each row; %(default)s")
    parser.add_argument(
        "--rows", default=",".join(names), metavar="NAME,...", help=f"rows: {', '.join(names)}; default: all"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="ms on each line, one way; %(default)s")
    parser.add_argument(
        "--loss", type=float, default=0.0, help="%% of the packets lost on each line; %(default)s"
    )
    parser.add_argument("--together", type=int, default=1, help="runs at the same time; %(default)s")
    parser.add_argument("--trace", action="store_true", help="print the events of all members")
    options = parser.parse_args(arguments)
    chosen = options.rows.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown row: {', '.join(sorted(unknown))}")
    weather = Weather(options.delay / 1000, options.loss / 100)
    rows = [row for row in ROWS if row.name in chosen]
    reasons = [*map(unavailable, rows), None if weather.is_fine else no_delay()]
    if reason := next(filter(None, reasons), None):
        parser.error(reason)

    async def begin(reactor: Any) -> None:
        results = [Result(row) for row in rows]
        running = Deferred.fromCoroutine(
            run(reactor, results, lambda row: options.runs, options.together, weather, options.trace)
        )

        interrupted = False

        def end() -> Deferred[None]:
            # After an interrupt, too: end all processes, and print what was measured.
            nonlocal interrupted
            interrupted = not running.called
            print(table(results, weather), flush=True)
            ended: Deferred[None] = Deferred()
            running.addBoth(lambda _: ended.callback(None))
            running.cancel()
            return ended

        reactor.addSystemEventTrigger("before", "shutdown", end)
        try:
            await running
        except (CancelledError, FirstError):
            if not interrupted:
                raise

    be_punctual()
    react(lambda reactor: Deferred.fromCoroutine(begin(reactor)))


if __name__ == "__main__":
    main(sys.argv[1:])
