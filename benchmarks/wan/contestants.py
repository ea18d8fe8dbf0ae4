"""
The programs compared: two processes of the same program have to find each other.

All print events, as L{benchmarks.members.EventProcess} reads them, and stop on C{TERM}.
Each has its own definition of C{topic.joined}; see L{Contestant.joined}.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SkipTest

from tests.interop.rooms import rust

SERVERS = Path(__file__).parents[1] / "servers"

#: The timeout of an installation, in seconds.
_INSTALLED_WITHIN = 300.0


class UnavailableError(Exception):
    """
    A contestant is not available on this machine; the message gives the reason.
    """


@frozen(slots=True)
class Seat:
    """
    The parameters of one member.

    @ivar host: its address.
    @ivar topic: 64 hex digits.
    @ivar folder: its own folder, for dtt's state or libtorrent's torrent.
    @ivar secret_file: the file with the topic's secret.
    @ivar bootstrap: HOST:PORT, of hyperswarm's DHT. For Mainline, the hosts file contains
        the names of the bootstrap nodes.
    """

    host: str
    topic: str
    folder: Path
    secret_file: Path
    bootstrap: tuple[str, ...] = ()


@frozen(slots=True)
class Contestant:
    """
    One program.

    @ivar name: its name.
    @ivar joined: its definition of having joined, which ends the measured time.
    @ivar command: returns the command of a member; the first word is a path.
    @ivar check: builds or installs the program if necessary; raises L{UnavailableError}
        on failure.
    @ivar warm: whether it keeps DHT nodes from one run to the next.
    @ivar mainline: whether it uses the Mainline DHT; otherwise hyperswarm's.
    """

    name: str
    joined: str
    command: Callable[[Seat], list[str]]
    check: Callable[[], object]
    warm: bool = False
    mainline: bool = True


def _dtt(transport: str) -> Callable[[Seat], list[str]]:
    def command(seat: Seat) -> list[str]:
        words = [sys.executable, "-m", "dtt", "chat", seat.topic, "--json", "--stay"]
        words += ["--secret-file", str(seat.secret_file), "--state-dir", str(seat.folder / "state")]
        words += ["--transport", transport]
        for name in transport.split(","):
            words += ["--listen", f"{name}:{seat.host}:0"]
        return words

    return command


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(f"{name} is not installed")
    return path


def _python_has(module: str, package: str) -> Callable[[], None]:
    def check() -> None:
        if find_spec(module) is None:
            raise UnavailableError(f"{module} can't be imported (pip install '{package}')")

    return check


def _tracker_peer() -> str:
    try:
        return rust("tracker-peer")
    except SkipTest as error:
        raise UnavailableError(str(error)) from None


def _rust(seat: Seat) -> list[str]:
    words = [_tracker_peer(), seat.topic, "--secret-file", str(seat.secret_file)]
    return [*words, "--pkarr", "--bind", f"{seat.host}:0"]


def _installed(folder: str) -> Callable[[], None]:
    """
    A function that installs the packages in a folder of L{SERVERS}.
    """

    def check() -> None:
        _program("node")
        if (SERVERS / folder / "node_modules").exists():
            return
        command = [_program("npm"), "ci", "--no-audit", "--no-fund"]
        print(f"installing {folder}", flush=True)
        try:
            done = subprocess.run(
                command,
                cwd=SERVERS / folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=_INSTALLED_WITHIN,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError("npm timed out") from None
        if done.returncode:
            raise UnavailableError(f"npm: {(done.stderr.strip() or str(done.returncode)).splitlines()[-1]}")

    return check


def _libtorrent(seat: Seat) -> list[str]:
    script = str(SERVERS / "libtorrent_peer.py")
    return [sys.executable, script, seat.topic[:40], seat.host, str(seat.folder)]


def _bittorrent_dht(seat: Seat) -> list[str]:
    return [_program("node"), str(SERVERS / "bittorrent-dht" / "peer.js"), seat.topic[:40], seat.host]


def _hyperswarm(seat: Seat) -> list[str]:
    return [_program("node"), str(SERVERS / "hyperswarm" / "peer.js"), seat.topic, *seat.bootstrap]


_HAS_IROH = _python_has("iroh", "distributed-topic-tracker[iroh]")

CONTESTANTS = (
    Contestant("dtt", "neighbours over streams (TCP, TLS)", _dtt("streams"), lambda: None, warm=True),
    Contestant(
        "dtt-iroh",
        "neighbours over iroh (QUIC)",
        _dtt("iroh"),
        _HAS_IROH,
        warm=True,
    ),
    Contestant(
        "dtt-both",
        "neighbours over either",
        _dtt("streams,iroh"),
        _HAS_IROH,
        warm=True,
    ),
    Contestant("rust", "neighbours over iroh (QUIC), addresses by pkarr", _rust, _tracker_peer),
    Contestant(
        "libtorrent",
        "connected to a peer of the torrent; looks every second",
        _libtorrent,
        _python_has("libtorrent", "libtorrent"),
    ),
    Contestant(
        "bittorrent-dht",
        "the other one's address is known, no connection; looks a second after each lookup",
        _bittorrent_dht,
        _installed("bittorrent-dht"),
    ),
    Contestant(
        "hyperswarm",
        "connected; looks every second",
        _hyperswarm,
        _installed("hyperswarm"),
        mainline=False,
    ),
)

#: The contestants measured by default.
USUAL = ("dtt", "rust", "libtorrent", "bittorrent-dht", "hyperswarm")
