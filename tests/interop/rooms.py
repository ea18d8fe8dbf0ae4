"""
Rooms: closed networks for the Rust peers, whose DHT is not configurable
(docs/protocol/interop.md section 1).

A room is a mount and network namespace. In it, the names of the public bootstrap nodes
resolve to 127.0.0.1, and a DHT of one kind listens on their ports, so programs in the
room need no configuration for that DHT. A room exists as long as its process, which ends
with this one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Timer

from twisted.trial.unittest import SkipTest

from dtt.config import PUBLIC_BOOTSTRAP
from tests.interop.support import NO_INTEROP, NO_LIBTORRENT

#: The root of the checkout.
ROOT = Path(__file__).parents[2]

#: The kinds of DHT on which scenarios run.
KINDS = ("libtorrent", "mainline", "dtt")

#: The number of nodes in a DHT: more than the 32 among which records are placed (docs/protocol/dht.md
#: section 4).
NODES = 40

_CARGO = Path(__file__).parent / "rust"

#: The timeout of the build in seconds; it takes about five minutes on two cores.
_BUILT_WITHIN = 1800.0

#: The startup timeout of a DHT in seconds.
_STARTS_WITHIN = 30.0

#: In the new namespaces: mount another hosts file over the machine's, then start the DHT.
_SCRIPT = 'ip link set lo up && mount --bind "$0" /etc/hosts && exec "$@"'


def _try(command: Sequence[str]) -> str | None:
    """
    The reason why it fails; C{None} on success.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


@cache
def missing() -> str | None:
    """
    The reason why rooms can't be created here; C{None} if they can.
    """
    if NO_INTEROP:
        return NO_INTEROP
    if os.geteuid() != 0:
        return "the Rust peers need mount and network namespaces, and those need root"
    for program in ("unshare", "nsenter", "mount", "ip"):
        if shutil.which(program) is None:
            return f"namespaces need the program {program} (util-linux, iproute2)"
    words = _try(["unshare", "-mn", "sh", "-c", _SCRIPT, "/dev/null", "true"])
    return None if words is None else f"namespaces can't be made here: {words}"


@cache
def rust(name: str) -> str:
    """
    The path of a program in the Cargo project; all are built if necessary.

    @raise SkipTest: the build fails.
    """
    if shutil.which("cargo") is None:
        raise SkipTest("cargo is not installed: it builds the Rust peers")
    binary = _CARGO / "target" / "release" / name
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    if not binary.exists():
        print("building the Rust peers: minutes, once", flush=True)
    try:
        done = subprocess.run(
            command, cwd=_CARGO, check=False, capture_output=True, text=True, timeout=_BUILT_WITHIN
        )
    except subprocess.TimeoutExpired:
        raise SkipTest("the Rust peers can't be built: the build timed out") from None
    if done.returncode:
        raise SkipTest(f"the Rust peers can't be built: {done.stderr.strip().splitlines()[-1]}")
    return str(binary)


def environment() -> dict[str, str]:
    """
    The environment of processes in a room.
    """
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Room:
    """
    A network with a DHT.

    @ivar kind: the kind of the DHT's nodes.
    """

    def __init__(self, kind: str) -> None:
        """
        @raise SkipTest: it can't be created.
        """
        reason = missing() or (NO_LIBTORRENT if kind == "libtorrent" else None)
        if reason:
            raise SkipTest(reason)
        self.kind = kind
        ports = [str(port) for port in sorted({port for _, port in PUBLIC_BOOTSTRAP})]
        if kind == "mainline":
            command = [rust("dht-nodes"), *ports, *["0"] * (NODES - len(ports))]
        else:
            command = [sys.executable, "-m", "tests.interop.dht_nodes", kind, str(NODES), *ports]
        names = ["localhost", *(name for name, _ in PUBLIC_BOOTSTRAP)]
        with NamedTemporaryFile("w", prefix="dtt-hosts-") as hosts:
            hosts.write("".join(f"127.0.0.1 {name}\n" for name in names))
            hosts.flush()
            self._process = subprocess.Popen(
                ["unshare", "-mn", "sh", "-c", _SCRIPT, hosts.name, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            atexit.register(self.close)
            assert self._process.stdout is not None
            watchdog = Timer(_STARTS_WITHIN, self._process.kill)
            watchdog.start()
            line = self._process.stdout.readline()
            watchdog.cancel()
        if not line.startswith("ready"):
            self.close()
            raise RuntimeError(f"the DHT of {kind} nodes did not start")

    def enter(self, *command: str) -> list[str]:
        """
        The command that runs C{command} in this room; its first word is a path.
        """
        nsenter = shutil.which("nsenter") or "nsenter"
        return [nsenter, "-t", str(self._process.pid), "-m", "-n", "--", *command]

    def pause(self) -> None:
        """
        Stop the DHT from answering, until L{resume}.
        """
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """
        Let the DHT answer again.
        """
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """
        Stop the DHT.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@cache
def room(kind: str) -> Room:
    """
    The room with that kind of DHT, which is shared by this test run.
    """
    return Room(kind)
