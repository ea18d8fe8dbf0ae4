"""
C{dtt status} and C{dtt peers}: the status of the running service.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from dtt.app.helptext import is_dumb
from dtt.app.options import TopicSettings, naming
from dtt.app.tickets import read_tickets
from dtt.app.usage import CommandOptions, at_most_one, path_name, seconds, terminal_width, value_of
from dtt.cli.commands import NOT_FOUND
from dtt.cli.complaints import print_line
from dtt.cli.daemon import choose, joined_topics, run_with_daemon
from dtt.cli.running import warnings_to_stderr
from dtt.cli.snapshots import peer_lines, status_lines
from dtt.errors import UsageError
from dtt.web.client import DaemonClient

#: Seconds between two snapshots of C{--watch}.
INTERVAL = 2.0

#: Clears the terminal (ECMA-48: cursor position, erase in page).
_CLEAR = "\x1b[H\x1b[J"

_STATE_DIR = [
    "state-dir",
    None,
    None,
    "State directory of the service. Default: the same as for dtt run.",
    value_of("state-dir", path_name),
]


class ServiceOptions(CommandOptions):
    """
    Base class of the options of commands that request a snapshot from the service.
    """

    optFlags = [
        ["json", None, "Print JSON: one line for each snapshot."],
        ["watch", "w", "Refresh until Ctrl-C."],
    ]
    optParameters = [
        _STATE_DIR,
        [
            "interval",
            None,
            INTERVAL,
            "Seconds between two snapshots of --watch.",
            value_of("interval", seconds),
        ],
    ]
    placeholders = {"interval": "SECONDS"}

    def postOptions(self) -> None:
        """
        Check the interval.

        @raise UsageError: it is too short.
        """
        if self["interval"] < 0.1:
            raise UsageError("--interval: at least 0.1 seconds")

    def lines(self, status: dict[str, Any], width: int) -> list[str]:
        """
        Return the lines that show a snapshot.
        """
        raise NotImplementedError

    def value(self, status: dict[str, Any]) -> object:
        """
        Return the JSON value to print for a snapshot.
        """
        return status

    def code(self, status: dict[str, Any]) -> int:
        """
        Return the exit code after a snapshot.
        """
        return 0

    def run(self) -> int:
        """
        Show one snapshot, or several with --watch.

        @return: the exit code.
        """
        warnings_to_stderr()
        self.prepare()
        return run_with_daemon(self["state-dir"], self._show)

    def prepare(self) -> None:
        """
        Read files before the service is queried.
        """

    async def _show(self, reactor: Any, client: DaemonClient) -> int:
        while True:
            status = await client.status()
            self._print(status)
            if not self["watch"]:
                return self.code(status)
            try:
                await deferLater(reactor, self["interval"])
            except CancelledError:  # Ctrl-C
                return self.code(status)

    def _print(self, status: dict[str, Any]) -> None:
        if self["json"]:
            print_line(json.dumps(self.value(status)))
            return
        is_terminal = sys.stdout.isatty()
        text = "\n".join(self.lines(status, terminal_width() if is_terminal else 120))
        if self["watch"]:
            clears = is_terminal and not is_dumb(os.environ.get("TERM"))
            text = _CLEAR + text if clears else text + "\n"
        print_line(text)


class StatusOptions(ServiceOptions):
    """
    The options of C{dtt status}.
    """

    synopsis = "[options]"
    longdesc = (
        "Shows the status of the running service (dtt run, twistd dtt): the DHT, NAT and "
        "ports, and for "
        "each topic whether it is joined (or why not), its neighbours and records. Exits with 4 if no "
        "service is running."
    )

    def lines(self, status: dict[str, Any], width: int) -> list[str]:
        """
        Return everything.
        """
        return status_lines(status, width)


class PeersOptions(ServiceOptions):
    """
    The options of C{dtt peers}.
    """

    synopsis = "[options] [TOPIC]"
    longdesc = (
        "Lists the neighbours in the topics of the running service, or in TOPIC (a name, a label, or the "
        "beginning of an id), and the other members whose records were found in the last ten minutes. Exits "
        "with 3 if there are none, and with 4 if no service is running."
    )
    optParameters = [
        [
            "ticket-file",
            None,
            None,
            "File with a ticket of the topic, or -.",
            value_of("ticket-file", path_name),
        ]
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        Take the topic.

        @raise usage.UsageError: there is more than one.
        """
        self["topic"] = at_most_one("peers", "TOPIC", topics)

    def postOptions(self) -> None:
        """
        Check that there is at most one topic.

        @raise UsageError: there are two.
        """
        super().postOptions()
        if self["topic"] is not None and self["ticket-file"] is not None:
            raise UsageError("peers takes --ticket-file FILE, or one TOPIC")

    def prepare(self) -> None:
        """
        Read the ticket.
        """
        self._tickets: list[TopicSettings] = []
        if self["ticket-file"] is not None:
            with naming("--ticket-file"):
                self._tickets = [
                    TopicSettings(each.label or each.topic_id.label, each.topic_id, None)
                    for each in read_tickets(self["ticket-file"])
                ]

    def _topics(self, status: dict[str, Any]) -> list[dict[str, Any]]:
        topics: list[dict[str, Any]] = status["topics"]
        if self["topic"] is None and not self._tickets:
            return topics
        chosen = choose(joined_topics(status), self["topic"], self._tickets).topic_id.hex()
        return [each for each in topics if each["topic_id"] == chosen]

    def lines(self, status: dict[str, Any], width: int) -> list[str]:
        """
        Return the members of each topic.
        """
        lines: list[str] = []
        for topic in self._topics(status):
            lines += [*([""] if lines else []), *peer_lines(topic, status["time"], width)]
        return lines or ["no topic is joined"]

    def value(self, status: dict[str, Any]) -> object:
        """
        Return the members of each topic.
        """
        return [
            {
                "topic_id": topic["topic_id"],
                "label": topic["label"],
                "neighbors": topic["neighbors"],
                "recent": topic["records"]["recent"],
            }
            for topic in self._topics(status)
        ]

    def code(self, status: dict[str, Any]) -> int:
        """
        Return 0 if there are members.
        """
        topics = self._topics(status)
        return 0 if any(each["neighbors"] or each["records"]["recent"] for each in topics) else NOT_FOUND
