"""
Tests for L{dtt.cli.status}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python import usage

from dtt.cli import status as status_module
from dtt.cli.commands import NOT_FOUND
from dtt.cli.snapshots import peer_lines, status_lines
from dtt.cli.status import PeersOptions, StatusOptions
from dtt.errors import LocalError, UsageError
from dtt.records.ticket import RANDOM_BYTES, Ticket
from dtt.testing.net.clock import HeapClock
from tests.cli.common import CommandTestCase
from tests.cli.status import ALONE, JOINED, NOW, STATUS, Client, snapshot


class StatusTests(CommandTestCase):
    """
    Tests for C{dtt status} and C{dtt peers}.
    """

    def show(self, options: Any, *arguments: str, client: Client | None = None) -> Deferred[int]:
        """Run a command."""
        options.parseOptions(list(arguments))
        options.prepare()
        self.clock = HeapClock()
        client_: Any = client or Client()
        return Deferred.fromCoroutine(options._show(self.clock, client_))

    def test_json(self) -> None:
        """--json prints the snapshot."""
        self.assertEqual(self.successResultOf(self.show(StatusOptions(), "--json")), 0)
        (line,) = self.printed()
        self.assertEqual(json.loads(line), snapshot())
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), "--json", "garden party")), 0)
        (topic,) = json.loads(self.printed()[0])
        self.assertEqual((topic["label"], len(topic["neighbors"])), ("garden party", 2))

    def test_watch(self) -> None:
        """--watch refreshes it until Ctrl-C, which is not an error."""
        running = self.show(StatusOptions(), "--watch", "--json", "--interval", "5")
        self.assertEqual(len(self.printed()), 1)
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertEqual(len(self.printed()), 2)
        running.cancel()
        self.assertEqual(self.successResultOf(running), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """Without any other member the exit code is 3."""
        client = Client(evolve(STATUS, topics=(ALONE,)))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), client=client)), NOT_FOUND)
        client = Client(evolve(STATUS, topics=()))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), client=client)), NOT_FOUND)
        self.assertEqual(self.printed()[-1], "no topic is joined")

    def test_text(self) -> None:
        """In a pipe, the text is wide, and has no control sequences, even with --watch."""
        self.assertEqual(self.successResultOf(self.show(StatusOptions())), 0)
        self.assertEqual(self.printed(), status_lines(snapshot(), 120))
        running = self.show(PeersOptions(), "--watch")
        lines = self.printed()
        self.assertEqual(
            lines[: len(lines) // 2], peer_lines(snapshot()["topics"][0], NOW, 120)[: len(lines) // 2]
        )
        self.assertEqual((lines[-1], "\x1b" in "".join(lines)), ("", False))
        running.cancel()
        self.assertEqual(self.successResultOf(running), 0)

    def test_terminal(self) -> None:
        """On a terminal, the text has its width, and --watch clears it before, unless it can't be cleared."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.patch(status_module, "terminal_width", lambda: 60)
        for arguments, term, start in (
            ((), "xterm", ""),
            (("--watch",), "xterm", "\x1b[H\x1b[J"),
            (("--watch",), "dumb", ""),
        ):
            self.patch(os, "environ", {**os.environ, "TERM": term})
            self.out = Terminal()
            self.patch(sys, "stdout", self.out)
            running = self.show(StatusOptions(), *arguments)
            text = self.out.getvalue()
            self.assertTrue(text.startswith(start + status_lines(snapshot(), 60)[0]), text)
            running.cancel()
            self.successResultOf(running)

    def test_chosen(self) -> None:
        """Only the members of the topic that is named are shown, or of that of a ticket."""
        path = Path(self.mktemp())
        ticket = Ticket.make("other label", bytes(RANDOM_BYTES))
        path.write_text(ticket.encode())
        path.chmod(0o600)
        topics = (ALONE, evolve(JOINED, topic_id=ticket.topic_id))
        client = Client(evolve(STATUS, topics=topics))
        for arguments in (("garden party",), (ticket.topic_id.hex()[:8],), ("--ticket-file", str(path))):
            showing = self.show(PeersOptions(), *arguments, client=client)
            self.assertEqual(self.successResultOf(showing), 0, arguments)
            self.assertEqual(self.printed(), peer_lines(client.snapshot["topics"][1], NOW, 120))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), "hex:" + "ab" * 32)), NOT_FOUND)
        self.failureResultOf(self.show(PeersOptions(), "nope"), LocalError)

    def test_only_records(self) -> None:
        """Members that are no neighbours are members, too."""
        topic = evolve(JOINED, neighbors=())
        client = Client(evolve(STATUS, topics=(topic,)))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), client=client)), 0)

    def test_wrong(self) -> None:
        """Intervals that are too short, and several topics, are refused."""
        for options, words in (
            (StatusOptions(), ["--interval", "0.09"]),
            (StatusOptions(), ["--interval", "x"]),
            (StatusOptions(), ["x"]),
            (PeersOptions(), ["a", "b"]),
            (PeersOptions(), ["--ticket-file", ""]),
            (PeersOptions(), ["a", "--ticket-file", "x"]),
        ):
            self.assertRaises((usage.UsageError, UsageError), options.parseOptions, words)
        StatusOptions().parseOptions(["--interval", "0.1"])
