"""
C{dtt doctor}: checks why this machine finds no members, and suggests remedies.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred

from dtt.app.helptext import is_dumb
from dtt.app.options import TopicSettings, TrackerOptions, default_state_dir, topic_to_join
from dtt.app.usage import at_most_one, terminal_width
from dtt.cli import checks_machine, checks_network
from dtt.cli.commands import FAILED
from dtt.cli.complaints import print_line
from dtt.cli.findings import Finding, Verdict
from dtt.cli.progress import Progress
from dtt.cli.running import run_coroutine, warnings_to_stderr
from dtt.config import Config
from dtt.dht.node import DHTNode
from dtt.errors import StateError
from dtt.net.local import ipv6_interface, local_addresses
from dtt.records.topic import unix_minute
from dtt.state import load_key


def uses_color(environ: Any, stream: Any) -> bool:
    """
    Return whether to colour an output: a terminal that shows colours, unless
    C{$NO_COLOR} is set (https://no-color.org).

    @param environ: the environment variables.
    @param stream: the output.
    """
    return bool(stream.isatty()) and not environ.get("NO_COLOR") and not is_dumb(environ.get("TERM"))


class DoctorOptions(TrackerOptions):
    """
    The options of C{dtt doctor}.
    """

    synopsis = "[options] [TOPIC]"
    longdesc = (
        "Checks versions, clock, state directory, ports, bootstrap hosts, UDP, NAT, port mapping and "
        "the DHT, and "
        "suggests remedies. With --ticket-file, or TOPIC and --secret-file, it also prints what to compare "
        "with the other "
        "side, and looks for records of other members. Takes about 15 s. Exits with 1 if a check "
        "fails."
    )
    optFlags = [
        ["json", None, "Print one line of JSON for each check."],
        ["offline", None, "Check only what needs no network."],
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        Take the topic.

        @raise usage.UsageError: there is more than one.
        """
        self["topic"] = at_most_one("doctor", "TOPIC", topics)

    def run(self) -> int:
        """
        Run the checks.

        @return: the exit code; 1 if one of them failed.
        """
        self._failed = False
        directory = default_state_dir(os.environ)
        config, _ = self.load(directory)
        self.refuse_lone_secret(self["topic"] is not None)
        topics = self.read_tickets()
        if self["topic"] is not None:
            topics.append(
                TopicSettings(self["topic"], topic_to_join(self["topic"]), self.read_secret() or b"")
            )
        warnings_to_stderr()
        checks = Checks(self, config, topics)
        for findings in checks.of_machine():
            self.show(findings)
        if self["offline"]:
            return self._code()
        return run_coroutine(lambda reactor: self._ask(reactor, checks))

    async def _ask(self, reactor: Any, checks: Checks) -> int:
        await checks.of_network(reactor)
        return self._code()

    def _code(self) -> int:
        return FAILED if self._failed else 0

    def show(self, findings: Iterable[Finding]) -> None:
        """
        Print the results of checks.
        """
        for finding in findings:
            self._failed = self._failed or finding.verdict is Verdict.BAD
            if self["json"]:
                print_line(json.dumps(finding.as_json()))
            else:
                width = terminal_width() if sys.stdout.isatty() else 120
                colored = uses_color(os.environ, sys.stdout)
                print_line("\n".join(finding.lines(width, colored=colored)))


class Checks:
    """
    All checks, in order.
    """

    def __init__(self, options: DoctorOptions, config: Config, topics: list[TopicSettings]) -> None:
        """
        @param options: shows the results.
        @param config: the settings.
        @param topics: the topics to check.
        """
        self._options = options
        self._config = config
        self._topics = topics

    def of_machine(self) -> Iterable[Iterable[Finding]]:
        """
        Yield the results of the checks that need no network.
        """
        path = self._config.state_dir
        yield checks_machine.versions()
        yield checks_machine.clock(self._minute())
        yield checks_machine.state_directory(path)
        yield checks_machine.ports(self._config, path)
        yield checks_machine.addresses()
        for topic in self._topics:
            yield checks_network.fingerprint(topic.topic_id, topic.secret or b"", self._minute())

    async def of_network(self, reactor: Any) -> None:
        """
        Run the checks that need the network.
        """
        dht, show = self._config.dht, self._options.show
        own = local_addresses()
        interface6 = ipv6_interface(dht.bind6, dht.bind, own)
        node = DHTNode(
            reactor,
            interface=dht.bind,
            interface6=interface6,
            needs_ipv6=False,
            bootstrap=dht.bootstrap,
        )
        progress = Progress()
        try:
            node.privilegedStartService()
            progress.show("Asking the bootstrap hosts")
            hosts = await checks_network.bootstrap_hosts(reactor, node, dht.bootstrap)
            progress.clear()
            show(hosts)
            progress.show("Asking the DHT")
            found = await checks_network.dht(reactor, node, silent=checks_network.all_silent(hosts))
            progress.clear()
            show(found)
            if found[0].verdict is not Verdict.GOOD:
                return
            for text, check in (
                ("Storing an item", lambda: checks_network.stored_and_read(reactor, node)),
                (
                    "Waiting for other nodes to report our address",
                    lambda: checks_network.external_address(reactor, node, own),
                ),
                ("Asking the router", lambda: checks_network.port_mapping(reactor, node.port)),
            ):
                progress.show(text)
                found = await check()
                progress.clear()
                show(found)
            for topic in self._topics:
                progress.show(f"Reading the slots of {topic.topic_id.label}")
                found = await checks_network.slots(
                    reactor, node, topic.topic_id, topic.secret or b"", self._minute(), self._own_id()
                )
                progress.clear()
                show(found)
        finally:
            progress.clear()
            await maybeDeferred(node.stopService)

    def _minute(self) -> int:
        import time

        return unix_minute(time.time())

    def _own_id(self) -> bytes:
        if self._config.state_dir is None:
            return b""
        try:
            return load_key(Path(self._config.state_dir) / "peer.key").peer_id
        except StateError:
            return b""
