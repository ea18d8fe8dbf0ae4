"""
Members as processes, on a DHT of libtorrent sessions and dtt nodes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.interop.libtorrent_swarm import LibtorrentSwarm
from tests.torture.member import LOOPBACK

ROOT = Path(__file__).parents[2]
TOPIC = "torture"

#: The DHT.
SESSIONS, NODES = 8, 4

#: Seconds that a process has for its first line: a busy machine starts processes slowly.
START = 180.0


class Process:
    """
    A process that prints lines of JSON.

    @ivar log: the file with all that it has logged.
    """

    def __init__(self, folder: Path, name: str, *arguments: object) -> None:
        self.out = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        with self.out.open("ab") as out, self.log.open("ab") as log:
            self._begin = out.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.member", *map(str, arguments)],
                stdout=out,
                stderr=log,
                env=environ,
                cwd=ROOT,
            )

    def lines(self) -> list[dict[str, Any]]:
        """
        What it has said since its start.
        """
        with self.out.open("rb") as out:
            out.seek(self._begin)
            return [json.loads(line) for line in out.read().split(b"\n")[:-1]]

    def first(self) -> dict[str, Any]:
        """
        Wait for its first line.
        """
        until(lambda: self.lines() or self.process.poll() is not None, START)
        assert self.lines(), f"it said nothing: {self.log.read_text()[-2000:]}"
        return self.lines()[0]

    def send_signal(self, number: signal.Signals) -> None:
        """
        Send it a signal.
        """
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """
        End it, and return its exit code.
        """
        if self.process.poll() is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(number)
        return self.process.wait(30)


def until(condition: Callable[[], object], seconds: float) -> bool:
    """
    Wait until something holds; return whether it does.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True


class Swarm:
    """
    Members, and the DHT in which they meet.

    @ivar secret: the secret of the topic.
    @ivar members: the members by name.
    @ivar ids: the peer id of each, once known.
    """

    def __init__(self, folder: Path, secret: bytes) -> None:
        self.folder = folder
        self.secret = secret
        self.secret_file = folder / "secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_bytes(secret)
        self.members: dict[str, Process] = {}
        self.ids: dict[str, str] = {}
        self._sessions = LibtorrentSwarm(SESSIONS)
        self._sessions.settle()
        self._bootstrap = ",".join(f"{host}:{port}" for host, port in self._sessions.addresses[:2])
        self._nodes = self._process("nodes", "--nodes", NODES)
        try:
            ports = self._nodes.first()["ports"]
        except AssertionError:
            self.stop()
            raise
        self._bootstrap += f",{LOOPBACK}:{ports[0]}"

    def _process(self, name: str, *options: object) -> Process:
        state = self.folder / f"state-{name}"
        return Process(self.folder, name, state, self.secret_file, TOPIC, self._bootstrap, *options)

    def start(self, name: str, *options: object) -> Process:
        """
        Start a member, or start it again.
        """
        process = self.members[name] = self._process(name, *options)
        return process

    def check_identity(self, name: str) -> None:
        """
        Check that a member is who it was.

        @raise AssertionError: it has another id, or its state was damaged.
        """
        peer = self.members[name].first()["peer"]
        assert self.ids.setdefault(name, peer) == peer, f"{name} has become {peer}"
        damaged = list((self.folder / f"state-{name}").glob("*.damaged*"))
        assert not damaged, f"{name} has put {damaged} aside"

    def is_whole(self, names: Sequence[str] | None = None) -> bool:
        """
        Are all members, or these, one swarm?
        """
        wanted = set(self.members if names is None else names)
        links: dict[str, set[str]] = {}
        for name in wanted:
            said = self.members[name].lines()
            if not said or "peer" not in said[-1]:
                return False
            links[said[-1]["peer"]] = set(said[-1]["neighbors"])
        seen: set[str] = set()
        waiting = [next(iter(links))]
        while waiting:
            peer = waiting.pop()
            seen.add(peer)
            near = {other for other in links if other in links[peer] or peer in links[other]}
            waiting += near - seen
        return seen >= links.keys()

    def stop(self) -> None:
        """
        End all processes.
        """
        for process in (*self.members.values(), self._nodes):
            process.end(signal.SIGKILL)
        self._sessions.stop()
