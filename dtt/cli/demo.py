"""
C{dtt demo}: members meet, here and now.

A closed DHT of dtt nodes in this process, and members as processes of their
own (C{dtt chat --json}), which share nothing but topic, secret and the address
of one DHT node.  What is shown comes from the members' own events.
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
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dtt.app.options import CommandOptions, value_of
from dtt.cli.chat import ChatLine, printable
from dtt.cli.running import run_reactor
from dtt.dht.node import DHTNode
from dtt.dht.routing.buckets import K
from dtt.errors import LocalError

#: The last member starts so much later than the others: a newcomer, seconds.
NEWCOMER_AFTER = 5.0

#: Longest time for the DHT nodes to find each other, seconds.
MESH_LIMIT = 15.0

#: Longest time for everything, seconds.
TIME_LIMIT = 60.0

#: Everybody speaks again after so many seconds, if somebody has not heard
#: everybody: a swarm that has just formed may not be in one piece yet.
SPEAK_INTERVAL = 2.0


@define(eq=False)
class Member:
    """
    What we know of a member, from its own events.

    @ivar number: 1, 2, ...
    @ivar started: when its process was started.
    @ivar peer_id: its id in hex, once it has said so.
    @ivar joined: when it was joined.
    @ivar heard: peer ids in hex whose lines it got.
    @ivar errors: the last of what it wrote to standard error.
    @ivar ended: its exit, if it has ended.
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

    def trouble(self, everybody: frozenset[str]) -> str:
        """
        What is wrong with it; empty if nothing is.

        @param everybody: the peer ids of all members.
        """
        if self.ended:
            what = f"ended early ({self.ended})"
        elif not self.peer_id:
            what = "did not start"
        elif self.joined is None:
            what = "did not join: it found nobody, or could not connect"
        elif missing := everybody - self.heard - {self.peer_id}:
            what = f"heard nothing of {', '.join(sorted(peer[:10] for peer in missing))}"
        else:
            return ""
        return " | ".join([f"member {self.number} {what}", *self.errors[-3:]])


class MemberProcess(ProcessProtocol):
    """
    A member's process.
    """

    def __init__(self, on_line: Callable[[bytes], None], on_error: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._on_error = on_error
        self._rest = b""
        self.ended: Deferred[str] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """
        Events, a line each.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)

    def errReceived(self, data: bytes) -> None:
        """
        Warnings.
        """
        for line in data.decode("utf-8", "replace").splitlines():
            self._on_error(line)

    def processEnded(self, reason: Failure) -> None:
        """
        It is gone.
        """
        self.ended.callback(reason.getErrorMessage())


class Demo:
    """
    The whole show.
    """

    def __init__(
        self, reactor: Any, members: int, dht_nodes: int, keep: bool, show: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._wanted = members
        self._keep = keep
        self._show = show
        self._start = reactor.seconds()
        self._members: list[Member] = []
        self._speaking = self._summed_up = False
        self._calls: list[Any] = []
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
        Start everything, watch it, end everything.

        @return: the exit code.
        """
        try:
            for node in self._nodes:
                node.privilegedStartService()
                node.startService()
            await gatherResults([node.when_ready() for node in self._nodes[1:]])
            await self._until_meshed()
            self._tell(
                "demo", f"a closed DHT of {len(self._nodes)} nodes is up on loopback, {self._bootstrap}"
            )
            secret = Path(self._folder.name) / "secret"
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_hex(16))
            for number in range(1, self._wanted):
                self._spawn(number)
            self._later(NEWCOMER_AFTER if self._wanted > 2 else 0, self._spawn, self._wanted)
            self._later(TIME_LIMIT, self._conclude)
            return await self._verdict
        finally:
            await self._end()

    async def _until_meshed(self) -> None:
        """
        Wait until the DHT nodes know each other.
        """
        enough = min(K, len(self._nodes) - 1)
        while any(len(node.table) < enough for node in self._nodes):
            if self._reactor.seconds() - self._start > MESH_LIMIT:
                raise LocalError("the DHT nodes did not find each other; is this machine very busy?")
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
        Ctrl-C.
        """
        if self._summed_up and not self._verdict.called:
            self._verdict.callback(0 if self._all_well() else 1)
        self._keep = False
        self._conclude()

    def _later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        self._calls.append(self._reactor.callLater(seconds, call, *args))

    def _tell(self, who: str, what: str, at: float | None = None) -> None:
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
        self._tell(f"member {number}", f"started as process {member.process.pid}")

    def _gone(self, member: Member, how: str) -> None:
        member.gone.callback(None)
        if not self._verdict.called:
            member.ended = how
            if self._summed_up:
                self._tell(f"member {member.number}", f"ended ({how})")
            self._conclude()

    def _who(self, peer_id: str) -> str:
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
            case "addresses.published":
                what = f"{event['addresses']} addresses published, {event['store']}"
            case "record.published":
                what = f"record stored on {event['stored']} nodes"
            case "record.found":
                what = f"found the record of {self._who(event['publisher'])}"
            case "peer.dialled":
                what = f"dialled {self._who(event['peer'])}"
            case "peer.failed":
                what = f"could not reach {self._who(event['peer'])}: {event['reason']}"
            case "neighbor.up":
                what = f"neighbour up: {self._who(event['peer'])}"
            case "neighbor.down":
                what = f"neighbour down: {self._who(event['peer'])}"
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
                what = f"message of {self._who(line.sender)} received: {printable(line.text)}"
            case other:
                what = other
        self._tell(f"member {member.number}", what, event["time"])
        if event["event"] == "topic.joined" and self._all_joined() and not self._speaking:
            self._speaking = True
            self._speak()
        if self._all_well():
            self._conclude()

    def _everybody(self) -> frozenset[str]:
        return frozenset(member.peer_id for member in self._members if member.peer_id)

    def _all_joined(self) -> bool:
        return len(self._members) == self._wanted and all(m.joined is not None for m in self._members)

    def _all_well(self) -> bool:
        everybody = self._everybody()
        return len(self._members) == self._wanted and not any(m.trouble(everybody) for m in self._members)

    def _speak(self) -> None:
        """
        Everybody says hello; again, as long as somebody has not heard it.
        """
        if self._verdict.called or self._all_well():
            return
        for member in self._members:
            if not member.ended:
                member.process.write(f"hello from member {member.number}\n".encode())
        self._later(SPEAK_INTERVAL, self._speak)

    def _conclude(self) -> None:
        """
        Say how it went, and end unless it is to be kept.
        """
        if self._verdict.called or self._summed_up:
            return
        everybody = self._everybody()
        joined = [member for member in self._members if member.joined is not None]
        troubles = [trouble for member in self._members if (trouble := member.trouble(everybody))]
        if len(self._members) < self._wanted:
            troubles.append(f"member {self._wanted} was not started")
        first = ""
        if joined:
            earliest = min(joined, key=lambda member: member.joined or 0)
            first = f", first after {(earliest.joined or 0) - earliest.started:.2f} s"
        heard = "not every member heard every other" if troubles else "every member heard every other"
        self._show(f"{len(joined)} of {self._wanted} joined{first}; {heard}")
        for trouble in troubles:
            self._show(trouble)
        if self._keep and not troubles:
            self._show(
                f"Running until Ctrl-C. More members: dtt chat demo --bootstrap {self._bootstrap} "
                f"--transport streams --listen 127.0.0.1:0 --secret-file {self._folder.name}/secret"
            )
            self._summed_up = True
            return
        self._verdict.callback(1 if troubles else 0)


def _at_least(minimum: int) -> Callable[[str], int]:
    def coerce(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= minimum):
            raise ValueError(f"{text[:80]!r} is not a number of at least {minimum}")
        return int(text)

    return coerce


class DemoOptions(CommandOptions):
    """
    The options of C{dtt demo}.
    """

    synopsis = "[options]"
    longdesc = "Starts a closed DHT and members on this machine, and shows how they meet."
    optParameters = [
        [
            "members",
            None,
            3,
            "How many members, each a process; the last one comes later.",
            value_of("members", _at_least(2)),
        ],
        ["dht-nodes", None, 16, "How many DHT nodes.", value_of("dht-nodes", _at_least(2))],
    ]
    optFlags = [["keep", None, "Keep everything running until Ctrl-C."]]

    def run(self) -> int:
        """
        Show it.

        @return: 0 if everybody joined and heard everybody, else 1.
        """
        demos: list[Demo] = []

        def start(reactor: Any) -> Deferred[int]:
            demos.append(Demo(reactor, self["members"], self["dht-nodes"], bool(self["keep"]), _print))
            return Deferred.fromCoroutine(demos[0].run())

        return run_reactor(start, lambda: demos[0].stop())


def _print(line: str) -> None:
    print(line, flush=True)
