"""
C{dtt demo}: shows how members find each other.

It runs a closed DHT of dtt nodes in this process, and each member in a separate process (C{dtt chat --json}).
The members share only the topic, the secret and the address of one DHT node.  The output comes from the
members' events.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dtt.app.usage import CommandOptions, value_of
from dtt.cli.complaints import OutputLost, print_line, report
from dtt.cli.lines import ChatLine, printable
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.dht.node import DHTNode
from dtt.dht.routing.buckets import K
from dtt.errors import LocalError

#: Seconds by which the last member, the newcomer, starts later than the others.
NEWCOMER_AFTER = 5.0

#: The maximum number of seconds for the DHT nodes to find each other.
MESH_LIMIT = 15.0

#: The maximum number of seconds for the whole demo.
TIME_LIMIT = 60.0

#: The maximum numbers of members, each of which is a process, and of DHT nodes, each of
#: which has a port (guesses: what one machine can run).
MAX_MEMBERS = 100
MAX_DHT_NODES = 1000

#: Seconds after which all members speak again, if a member has not heard all others:
#: a swarm that has just formed may still be partitioned.
SPEAK_INTERVAL = 2.0


@define(eq=False)
class Member:
    """
    The state of a member, according to its own events.

    @ivar number: 1, 2, ...
    @ivar started: when its process was started, in unix seconds.
    @ivar process: the transport of its process.
    @ivar peer_id: its peer id in hex, once it has reported it.
    @ivar joined: when it joined the swarm, in unix seconds.
    @ivar heard: the peer ids in hex of the members whose lines it has received.
    @ivar errors: the lines that it has written to standard error.
    @ivar ended: how its process ended, if it has.
    @ivar gone: fires when its process has ended.
    """

    number: int
    started: float
    process: Any = None
    peer_id: str = ""
    joined: float | None = None
    heard: set[str] = field(factory=set)
    errors: list[str] = field(factory=list)
    ended: str = ""
    gone: Deferred[None] = field(factory=Deferred)

    def problem(self, all_ids: frozenset[str]) -> str:
        """
        Return a description of the member's problem; empty if there is none.

        @param all_ids: the peer ids of all members, in hex.
        """
        if self.ended:
            what = f"ended early ({self.ended})"
        elif not self.peer_id:
            what = "did not start"
        elif self.joined is None:
            what = "did not join: it found no other member, or could not connect"
        elif missing := all_ids - self.heard - {self.peer_id}:
            what = f"heard nothing from {', '.join(sorted(peer[:10] for peer in missing))}"
        else:
            return ""
        return " | ".join([f"member {self.number} {what}", *self.errors[-3:]])


class MemberProcess(ProcessProtocol):
    """
    The protocol of a member's process.

    @ivar ended: fires with a description of the exit when the process has ended.
    """

    def __init__(self, on_line: Callable[[bytes], None], on_error: Callable[[str], None]) -> None:
        """
        @param on_line: called with each line of standard output.
        @param on_error: called with each line of standard error.
        """
        self._on_line = on_line
        self._on_error = on_error
        self._rest = b""
        self.ended: Deferred[str] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """
        Handle events, one per line.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)

    def errReceived(self, data: bytes) -> None:
        """
        Handle warnings and errors.
        """
        for line in data.decode("utf-8", "replace").splitlines():
            self._on_error(line)

    def processEnded(self, reason: Failure) -> None:
        """
        Fire C{ended}.
        """
        self.ended.callback(reason.getErrorMessage())


class Demo:
    """
    Runs the DHT nodes and the members, and reports what happens.
    """

    def __init__(
        self, reactor: Any, members: int, dht_nodes: int, keep: bool, show: Callable[[str], None]
    ) -> None:
        """
        @param reactor: provides IReactorTime, IReactorUDP and IReactorProcess.
        @param members: the number of members.
        @param dht_nodes: the number of DHT nodes.
        @param keep: keep everything running after success.
        @param show: prints a line.
        """
        self._reactor = reactor
        self._wanted = members
        self._keep = keep
        self._show = show
        self._start = reactor.seconds()
        self._members: list[Member] = []
        self._speaking = self._summed_up = False
        self._calls: list[Any] = []
        self._starting: Deferred[None] | None = None
        self._verdict: Deferred[int] = Deferred()
        self._folder = tempfile.TemporaryDirectory(prefix="dtt-demo-")
        first = DHTNode(reactor, interface="127.0.0.1", closed=True)
        first.privilegedStartService()
        self._bootstrap = f"127.0.0.1:{first.port}"
        others = [
            DHTNode(reactor, interface="127.0.0.1", closed=True, bootstrap=[("127.0.0.1", first.port)])
            for _ in range(dht_nodes - 1)
        ]
        self._nodes = [first, *others]

    async def run(self) -> int:
        """
        Start everything, wait for the result, and stop everything.

        @return: fires with the exit code.
        """
        try:
            self._starting = Deferred.fromCoroutine(self._begin())
            await self._starting
            return await self._verdict
        except CancelledError:
            return 1
        finally:
            await self._end()

    async def _begin(self) -> None:
        """
        Start the DHT nodes, wait until they know each other, and start the members.
        """
        for node in self._nodes:
            node.privilegedStartService()
            node.startService()
        for node in self._nodes[1:]:  # one at a time: an interrupt cancels this coroutine
            await node.when_ready()
        await self._until_meshed()
        self._report("demo", f"a closed DHT of {len(self._nodes)} nodes is up on loopback, {self._bootstrap}")
        secret = Path(self._folder.name) / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        for number in range(1, self._wanted):
            self._spawn(number)
        self._later(NEWCOMER_AFTER if self._wanted > 2 else 0, self._spawn, self._wanted)
        self._later(TIME_LIMIT, self._conclude)

    async def _until_meshed(self) -> None:
        """
        Wait until the DHT nodes know each other.
        """
        enough = min(K, len(self._nodes) - 1)
        while any(len(node.table) < enough for node in self._nodes):
            if self._reactor.seconds() - self._start > MESH_LIMIT:
                raise LocalError(
                    f"the DHT nodes did not find each other within {MESH_LIMIT:.0f} s; "
                    "try again when this machine is less busy, or with fewer --dht-nodes"
                )
            await deferLater(self._reactor, 0.02)

    async def _end(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        for member in self._members:
            if not member.gone.called:
                with suppress(ProcessExitedAlready):
                    member.process.signalProcess("TERM")
        await gatherResults([member.gone for member in self._members])
        await gatherResults([maybeDeferred(node.stopService) for node in self._nodes])
        self._folder.cleanup()

    def stop(self) -> None:
        """
        Stop, on Ctrl-C. The result is that of the summary, or a failure if there was none yet.
        """
        if self._verdict.called:
            return
        if self._summed_up:
            self._verdict.callback(0 if self._succeeded() else 1)
        else:
            self._show("interrupted")
            self._keep = False
            self._conclude()
        if self._starting is not None:
            self._starting.cancel()

    def _later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        self._calls.append(self._reactor.callLater(seconds, call, *args))

    def _report(self, who: str, what: str, at: float | None = None) -> None:
        seconds = (self._reactor.seconds() if at is None else at) - self._start
        self._show(f"{seconds:8.3f} s  {who:9} {what}")

    def _spawn(self, number: int) -> None:
        folder = Path(self._folder.name)
        member = Member(number, self._reactor.seconds())
        protocol = MemberProcess(lambda line: self._event(member, json.loads(line)), member.errors.append)
        command = [sys.executable, "-m", "dtt", "chat", "demo", "--json", "--stay"]
        command += ["--secret-file", str(folder / "secret"), "--state-dir", str(folder / f"member-{number}")]
        command += ["--bootstrap", self._bootstrap, "--transport", "streams", "--listen", "127.0.0.1:0"]
        member.process = self._reactor.spawnProcess(protocol, sys.executable, command, env=os.environ)
        protocol.ended.addCallback(lambda how: self._gone(member, how))
        self._members.append(member)
        self._report(f"member {number}", f"started as process {member.process.pid}")

    def _gone(self, member: Member, how: str) -> None:
        member.gone.callback(None)
        if not self._verdict.called:
            member.ended = how
            if self._summed_up:
                self._report(f"member {member.number}", f"ended ({how})")
            self._conclude()

    def _label(self, peer_id: str) -> str:
        for member in self._members:
            if member.peer_id == peer_id:
                return f"member {member.number}"
        return peer_id[:10]

    def _event(self, member: Member, event: dict[str, Any]) -> None:
        if self._verdict.called:  # the rest is members leaving
            return
        match event["event"]:
            case "node.started":
                member.peer_id = event["peer_id"]
                where = ", ".join(event["listen"])
                what = f"is {event['peer_id'][:10]}, DHT port {event['dht_port']}, listens on {where}"
            case "dht.ready":
                what = f"DHT ready, {event['nodes']} nodes known"
            case "dht.nodes":
                what = f"{event['nodes']} DHT nodes known"
            case "topic.alone":
                what = f"no neighbour for {event['seconds']} s: {event['reason']}"
            case "records.unreadable":
                what = f"{event['records']} records that its secret does not decrypt"
            case "addresses.published":
                what = f"{event['addresses']} addresses published at {event['store']}"
            case "record.published":
                what = f"record stored on {event['stored']} nodes"
            case "record.found":
                what = f"found the record of {self._label(event['publisher'])}"
            case "peer.dialled":
                what = f"dialled {self._label(event['peer'])}"
            case "peer.failed":
                what = f"could not reach {self._label(event['peer'])}: {event['reason']}"
            case "neighbor.up":
                what = f"neighbour up: {self._label(event['peer'])}"
            case "neighbor.down":
                what = f"neighbour down: {self._label(event['peer'])}"
            case "topic.joined":
                what = "joined"
                if member.joined is None:
                    member.joined = event["time"]
                    what += f", {event['time'] - member.started:.3f} s after its process was started"
            case "message":
                line = ChatLine.decode(event.get("content", "").encode())
                if line is None:
                    return
                if line.sender in member.heard:
                    return
                member.heard.add(line.sender)
                what = f"received a message from {self._label(line.sender)}: {printable(line.text)}"
            case other:
                what = other
        self._report(f"member {member.number}", what, event["time"])
        if event["event"] == "topic.joined" and self._all_joined() and not self._speaking:
            self._speaking = True
            self._speak()
        if self._succeeded():
            self._conclude()

    def _all_ids(self) -> frozenset[str]:
        return frozenset(member.peer_id for member in self._members if member.peer_id)

    def _all_joined(self) -> bool:
        return len(self._members) == self._wanted and all(m.joined is not None for m in self._members)

    def _succeeded(self) -> bool:
        all_ids = self._all_ids()
        return len(self._members) == self._wanted and not any(m.problem(all_ids) for m in self._members)

    def _speak(self) -> None:
        """
        Make each member say hello, repeatedly until every member has heard every
        other.
        """
        if self._verdict.called or self._succeeded():
            return
        for member in self._members:
            if not member.ended:
                member.process.write(f"hello from member {member.number}\n".encode())
        self._later(SPEAK_INTERVAL, self._speak)

    def _conclude(self) -> None:
        """
        Report the result, and stop, unless the demo keeps running.
        """
        if self._verdict.called or self._summed_up:
            return
        if not self._members:
            self._verdict.callback(1)
            return
        all_ids = self._all_ids()
        joined = [member for member in self._members if member.joined is not None]
        problems = [problem for member in self._members if (problem := member.problem(all_ids))]
        if len(self._members) < self._wanted:
            problems.append(f"member {self._wanted} was not started")
        first = ""
        if joined:
            earliest = min(joined, key=lambda member: member.joined or 0)
            first = f", first after {(earliest.joined or 0) - earliest.started:.2f} s"
        heard = "not every member heard every other" if problems else "every member heard every other"
        self._show(f"{len(joined)} of {self._wanted} joined{first}; {heard}")
        for problem in problems:
            self._show(problem)
        if self._keep and not problems:
            self._show(
                f"Running until Ctrl-C. To add a member: dtt chat demo --bootstrap {self._bootstrap} "
                f"--transport streams --listen 127.0.0.1:0 --secret-file {self._folder.name}/secret"
            )
            self._summed_up = True
            return
        self._verdict.callback(1 if problems else 0)


def _within(minimum: int, maximum: int) -> Callable[[str], int]:
    def coerce(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 9 and minimum <= int(text) <= maximum):
            raise ValueError(f"{text[:80]!r} is not a number in {minimum}..{maximum}")
        return int(text)

    return coerce


class DemoOptions(CommandOptions):
    """
    The options of C{dtt demo}.
    """

    synopsis = "[options]"
    longdesc = "Starts a closed DHT and members on this machine, and shows how they find each other."
    optParameters = [
        [
            "members",
            None,
            3,
            "Number of members, each in its own process; the last one starts later.",
            value_of("members", _within(2, MAX_MEMBERS)),
        ],
        ["dht-nodes", None, 16, "Number of DHT nodes.", value_of("dht-nodes", _within(2, MAX_DHT_NODES))],
    ]
    optFlags = [["keep", None, "Keep everything running until Ctrl-C."]]

    def run(self) -> int:
        """
        Run the demo.

        @return: 0 if every member joined and heard every other, else 1.
        """
        warnings_to_stderr()
        demos: list[Demo] = []
        lost: list[OutputLost] = []

        def start(reactor: Any) -> Deferred[int]:
            def show(line: str) -> None:
                try:
                    print_line(line)
                except OutputLost as error:
                    lost.append(error)
                    report(error)
                    reactor.callLater(0, demos[0].stop)

            demos.append(Demo(reactor, self["members"], self["dht-nodes"], bool(self["keep"]), show))
            return Deferred.fromCoroutine(demos[0].run())

        code = run_reactor(start, lambda: demos[0].stop())
        return 1 if lost else code
