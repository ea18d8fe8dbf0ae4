"""
Member processes for benchmarks: C{dtt chat --json}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: Seconds that a process gets to stop before it is killed (guess).
STOPS_WITHIN = 5.0


def environment(folder: str) -> dict[str, str]:
    """
    The environment of a process that finds its modules compiled, as if they were
    installed.

    @param folder: the folder for compiled modules.
    """
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environ, "PYTHONPYCACHEPREFIX": folder}


class EventProcess(ProcessProtocol):
    """
    A process that prints events as lines of JSON with C{event} and C{time}.

    @ivar spawned: when it was started, in unix seconds.
    @ivar first: the time of the first event of each name.
    @ivar joined: fires when it has reported C{topic.joined}; fails if the process ends
        before.
    @ivar ended: fires when the process has ended.
    """

    def __init__(self, reactor: Any, command: Sequence[str]) -> None:
        """
        @param command: the program and its arguments; the program is a path.
        """
        self.first: dict[str, float] = {}
        self.joined: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._command = list(command)
        self._rest = b""
        self._errors = b""

    def spawn(self, environ: Mapping[str, str]) -> None:
        """
        Start the process.
        """
        self.spawned = self._reactor.seconds()
        self._reactor.spawnProcess(self, self._command[0], self._command, env=environ)

    def outReceived(self, data: bytes) -> None:
        """
        Parse events, one per line.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            self.first.setdefault(event["event"], event["time"])
        if "topic.joined" in self.first and not self.joined.called:
            self.joined.callback(None)

    def errReceived(self, data: bytes) -> None:
        """
        Keep standard error for the message if the process ends early.
        """
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        """
        Fire the Deferreds.
        """
        if not self.joined.called:
            self.joined.errback(
                RuntimeError(f"a member stopped early: {reason.value} {self._errors.decode()}")
            )
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """
        Stop the process if it is running.
        """
        self.joined.addErrback(lambda _: None)  # nothing waits for it from now on
        if not self.ended.called and self.transport is not None:
            self.transport.signalProcess("TERM")
            killer = self._reactor.callLater(STOPS_WITHIN, self.transport.signalProcess, "KILL")
            self.ended.addCallback(lambda _: killer.cancel() if killer.active() else None)
        return self.ended

    def since_start(self, name: str) -> float | None:
        """
        Seconds from C{node.started} to an event.
        """
        return self.first[name] - self.first["node.started"] if name in self.first else None


class MemberProcess(EventProcess):
    """
    C{dtt chat} on loopback.
    """

    def __init__(
        self, reactor: Any, topic: str, secret_file: str, bootstrap: Sequence[tuple[str, int]]
    ) -> None:
        command = [sys.executable, "-m", "dtt", "chat", topic, "--json", "--stay"]
        command += ["--secret-file", secret_file, "--transport", "streams", "--listen", "127.0.0.1:0"]
        for host, port in bootstrap:
            command += ["--bootstrap", f"{host}:{port}"]
        super().__init__(reactor, command)
