"""
Code shared by the commands C{dtt dht ...}: a node for one operation, and a lookup that records every answer
with its round trip.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred

from dtt.app.options import BootstrapOptions, ip_literal
from dtt.app.usage import seconds, terminal_width, value_of
from dtt.cli.complaints import print_line
from dtt.cli.lines import printable
from dtt.cli.progress import Progress
from dtt.cli.running import run_coroutine, warnings_to_stderr
from dtt.config import PUBLIC_BOOTSTRAP
from dtt.dht.client.client import Client
from dtt.dht.client.lookup import Lookup, LookupOptions, Question
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import distance
from dtt.errors import LookupFailed, UsageError
from dtt.events import count_of
from dtt.interfaces import Contact
from dtt.krpc.messages import Response
from dtt.net.local import ipv6_interface, local_addresses

#: Seconds for the first DHT node to answer, and then for the operation (guess).
TIMEOUT = 15.0

#: From this width on, a table of nodes has their ids (guess).
_WIDE = 100


def parse_id(name: str, text: str, sizes: tuple[int, ...] = (20,)) -> bytes:
    """
    Parse an id in hexadecimal digits.

    @param name: the name of the argument, for the error.
    @param text: the digits.
    @param sizes: the allowed sizes in bytes.
    @raise UsageError: it has another size, or other characters.
    """
    try:
        value = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        value = b""
    if len(value) not in sizes:
        digits = " or ".join(str(2 * size) for size in sizes)
        raise UsageError(f"{name} takes {digits} hexadecimal digits, not {text[:80]!r}")
    return value


def shown_address(host: str, port: int) -> str:
    """
    Return a host and a port as text.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown_version(version: bytes) -> str:
    """
    Return the version of a node's software as text: two letters and digits, or hex.
    """
    if len(version) == 4 and version[:2].isalpha() and version[:2].isascii():
        return f"{version[:2].decode('ascii')} {version[2]}.{version[3]}"
    return version[:8].hex()


@define(slots=True)
class Answer:
    """
    The answer of a node.

    @ivar contact: the node.
    @ivar round_trip: seconds between the query and the response.
    @ivar response: the response.
    """

    contact: Contact
    round_trip: float
    response: Response

    def as_json(self, target: bytes) -> dict[str, object]:
        """
        Return the answer as JSON values.

        @param target: the target of the lookup.
        """
        return {
            "id": self.contact.node_id.hex(),
            "host": self.contact.host,
            "port": self.contact.port,
            "ms": round(self.round_trip * 1000, 1),
            "shared_bits": shared_bits(self.contact.node_id, target),
            "version": self.response.version[:8].hex(),
        }


def shared_bits(node_id: bytes, target: bytes) -> int:
    """
    Return the number of leading bits that two ids have in common.
    """
    return 8 * len(target) - distance(node_id, target).bit_length()


@define(slots=True, eq=False)
class Trace:
    """
    All answers of a lookup, and the number of its queries.

    @ivar target: the target, 20 bytes.
    @ivar queries: the number of queries.
    @ivar answers: the answers, in the order in which they arrived.
    @ivar seconds: the duration.
    """

    target: bytes
    queries: int = 0
    answers: list[Answer] = field(factory=list)
    seconds: float = 0.0

    def nearest_first(self) -> list[Answer]:
        """
        Return the answers, that of the nearest node first.
        """
        return sorted(self.answers, key=lambda each: distance(each.contact.node_id, self.target))

    def as_json(self) -> dict[str, object]:
        """
        Return the trace as JSON values.
        """
        return {
            "target": self.target.hex(),
            "queries": self.queries,
            "seconds": round(self.seconds, 3),
            "nodes": [answer.as_json(self.target) for answer in self.nearest_first()],
        }

    def lines(self, width: int, note: Callable[[Answer], str] = lambda answer: "") -> list[str]:
        """
        Return the answers as a table, that of the nearest node first.

        @param width: the width in columns.
        @param note: returns the text to append to a line.
        """
        lines = []
        for answer in self.nearest_first():
            contact = answer.contact
            line = (
                f"{answer.round_trip * 1000:6.0f} ms  {shared_bits(contact.node_id, self.target):3} bits  "
                f"{shown_address(contact.host, contact.port)}"
            )
            if width >= _WIDE:
                line = (
                    f"{line:47}  {contact.node_id.hex()}  {printable(shown_version(answer.response.version))}"
                )
            lines.append(f"{line.rstrip()}  {note(answer)}".rstrip())
        lines.append(
            f"{len(self.answers)} of {self.queries} nodes answered within {self.seconds:.1f} s; nearest first"
        )
        return lines


class _Tracing:
    """
    The client of a lookup, which records the answers to its queries.
    """

    def __init__(self, client: Client, trace: Trace, clock: Any, progress: Progress) -> None:
        self._client = client
        self._trace = trace
        self._clock = clock
        self._progress = progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def ask(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]:
        """
        Send a query.
        """
        trace, sent = self._trace, self._clock.seconds()
        trace.queries += 1

        def answered(response: Response) -> Response:
            trace.answers.append(Answer(contact, self._clock.seconds() - sent, response))
            self._progress.show(f"{len(trace.answers)} of {trace.queries} nodes have answered")
            return response

        return self._client.ask(contact, method, arguments, on_slow).addCallback(answered)


class ClientOptions(BootstrapOptions):
    """
    Base class of the options of commands that start a DHT node for one operation.
    """

    optFlags = [["json", None, "Print the result as one line of JSON."]]
    optParameters = [
        [
            "timeout",
            "t",
            TIMEOUT,
            "Seconds to wait for the first DHT node, and then for the result.",
            value_of("timeout", seconds),
        ],
        ["bind", None, "0.0.0.0", "Local IPv4 address.", value_of("bind", ip_literal(IPv4Address))],
    ]

    def no_node(self) -> LookupFailed:
        """
        Return the error for a DHT in which no node answers in time.
        """
        return LookupFailed(
            f"no DHT node answered within {self['timeout']:g} s; run dtt doctor to find the reason"
        )


class DHTCommand(ClientOptions):
    """
    Base class of the options of C{dtt dht COMMAND}.
    """

    async def ask(self, reactor: Any, node: DHTNode) -> int:
        """
        Run the operation of the command.

        @param reactor: the reactor.
        @param node: a node that is ready.
        @return: the exit code.
        """
        raise NotImplementedError

    def run(self) -> int:
        """
        Start a node, run the operation, and stop the node.

        @return: the exit code.
        """
        warnings_to_stderr()
        return run_with_node(self, self.ask)

    async def trace(
        self,
        reactor: Any,
        node: DHTNode,
        question: Question,
        on_response: Callable[[Contact, Response], None] = lambda contact, response: None,
        width: int = 8,
    ) -> Trace:
        """
        Look something up in all address families.

        @param question: the query.
        @param on_response: called with each node and its response.
        @param width: the number of nearest nodes that must answer.
        @return: the answers.
        @raise LookupFailed: no node answered.
        """
        trace = Trace(question.target)
        began = reactor.seconds()
        progress = Progress()
        try:
            for side in node.usable_sides():
                client = _Tracing(side.client, trace, reactor, progress)
                lookup: Lookup[None] = Lookup(
                    client,
                    question,
                    on_response,
                    options=LookupOptions(width=width),
                )
                lookup_done = lookup.start()
                lookup_done.addTimeout(self["timeout"], reactor)
                try:
                    await lookup_done
                except TimeoutError:
                    continue
        finally:
            progress.clear()
        trace.seconds = reactor.seconds() - began
        if not trace.answers:
            raise LookupFailed(f"none of {trace.queries} DHT nodes answered")
        return trace

    def show(self, value: dict[str, object], lines: list[str]) -> None:
        """
        Print a result.

        @param value: the result as JSON values.
        @param lines: the result as text.
        """
        print_line(json.dumps(value) if self["json"] else "\n".join(lines))

    def width(self) -> int:
        """
        Return the width for tables: that of the terminal, or enough for everything in a
        pipe.
        """
        return terminal_width() if sys.stdout.isatty() else 200


def run_with_node(options: DHTCommand, job: Callable[[Any, DHTNode], Awaitable[int]]) -> int:
    """
    Run a job with a DHT node.

    @param options: with C{bootstrap}, C{bind} and C{timeout}.
    @param job: called with the reactor and the node when a node has answered.
    @return: the exit code: that of the job; 1 if no DHT node answers.
    """

    async def work(reactor: Any) -> int:
        bind = options["bind"]
        node = DHTNode(
            reactor,
            interface=bind,
            interface6=ipv6_interface("auto", bind, local_addresses()),
            needs_ipv6=False,
            bootstrap=options["bootstrap"] or PUBLIC_BOOTSTRAP,
        )
        try:
            node.privilegedStartService()
            node.startService()
            progress = Progress()
            progress.show("Looking for DHT nodes")
            try:
                await node.when_ready().addTimeout(options["timeout"], reactor)
            except TimeoutError:
                raise options.no_node() from None
            finally:
                progress.clear()
            return await job(reactor, node)
        finally:
            await maybeDeferred(node.stopService)

    return run_coroutine(work)


def stored_lines(result: Any) -> list[str]:
    """
    Return the result of a put as text.

    @param result: a L{PutResult<dtt.interfaces.PutResult>}.
    """
    kept = len(result.stored) + len(result.acknowledged)
    return [
        f"stored on {count_of(kept, 'node')}, refused by {len(result.refused)}, not answered by "
        f"{len(result.unanswered)}"
    ]
