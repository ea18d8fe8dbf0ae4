"""
The checks of C{dtt doctor} that need no network: versions, clock, state directory and
ports.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dtt._version import __version__
from dtt.cli.findings import Finding, Verdict
from dtt.config import Config
from dtt.errors import StateError
from dtt.files import reason_of, shown
from dtt.net.local import local_addresses
from dtt.net.networks import Scope, scope
from dtt.state import StateDirectory

#: The packages whose versions matter in a bug report.
_PACKAGES = ("twisted", "cryptography", "pynacl", "aioquic", "iroh", "miniupnpc")

#: What adjtimex() returns if the clock is not synchronized (man 2 adjtimex), and the size
#: of its argument (208 bytes on 64-bit systems, less elsewhere).
_TIME_ERROR = 5
_TIMEX_BYTES = 512


def versions() -> Iterator[Finding]:
    """
    Report the versions.
    """
    found = [f"dtt {__version__.public()}", f"Python {platform.python_version()}", platform.platform()]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    yield Finding("versions", Verdict.NOTE, ", ".join(found))


def clock_is_synchronized() -> bool | None:
    """
    Return whether the kernel reports that its clock is synchronized; C{None} if that is unknown.
    """
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def clock(minute: int) -> Iterator[Finding]:
    """
    Report whether the clock is synchronized.

    @param minute: the current unix minute.
    """
    text = f"unix minute {minute}, which must be the same on the other side"
    synchronized = clock_is_synchronized()
    if synchronized is None:
        yield Finding("clock", Verdict.NOTE, text)
    elif synchronized:
        yield Finding("clock", Verdict.GOOD, f"synchronized; {text}")
    else:
        yield Finding(
            "clock",
            Verdict.WARNING,
            f"the kernel reports that it is not synchronized; {text}",
            "switch on NTP (timedatectl set-ntp true), unless the host of this container or virtual machine "
            "does it: members whose clocks differ by more than a minute may not find each other",
        )


def state_directory(path: Path | None) -> Iterator[Finding]:
    """
    Check the state directory.

    @param path: the directory; C{None}: none.
    """
    name = "state directory"
    if path is None:
        yield Finding(
            name, Verdict.NOTE, "none", "dtt init creates one, which keeps the peer id and the ports"
        )
        return
    try:
        path.lstat()
        directory = StateDirectory(path)
        lax = [entry.name for entry in sorted(path.iterdir()) if _others_can_access(entry)]
    except FileNotFoundError:
        yield Finding(
            name, Verdict.NOTE, f"{shown(path)} does not exist", "dtt init, dtt run or twistd dtt creates it"
        )
        return
    except StateError as error:
        yield Finding(name, Verdict.BAD, str(error))
        return
    except OSError as error:
        yield Finding(name, Verdict.BAD, f"can't read {shown(path)}: {reason_of(error)}")
        return
    if lax:
        yield Finding(
            name,
            Verdict.BAD,
            f"{shown(path)}: other users can access {', '.join(map(shown, lax))}",
            f"chmod 600 {' '.join(map(shown, lax))} there, and create a new key if others may have read it",
        )
        return
    try:
        directory.lock()
    except StateError:
        yield Finding(name, Verdict.GOOD, f"{shown(path)}, in use by a running service")
    else:
        directory.unlock()
        yield Finding(name, Verdict.GOOD, f"{shown(path)}, not in use")


def _others_can_access(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:  # a running service has just replaced it
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o077)


def is_in_use(path: Path | None) -> bool:
    """
    Return whether a service uses a state directory.
    """
    if path is None or not os.path.isdir(path):
        return False
    try:
        directory = StateDirectory(path)
        directory.lock()
    except StateError as error:
        return "in use" in str(error)
    directory.unlock()
    return False


def _kept_ports(path: Path | None) -> dict[str, int]:
    if path is None:
        return {}
    try:
        with open(path / "ports.json", encoding="ascii") as file:
            value = json.loads(file.read(65536))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: port for name, port in value.items() if type(port) is int and 0 < port < 65536}


def ports(config: Config, path: Path | None) -> Iterator[Finding]:
    """
    Check that the ports are free.

    @param config: the settings.
    @param path: the state directory, which may keep ports.
    """
    if is_in_use(path):
        yield Finding("ports", Verdict.NOTE, "not checked: the running service uses them")
        return
    kept = _kept_ports(path)
    host, port = config.listen
    wanted = (
        ("DHT", "UDP", config.dht.bind, config.dht.port or kept.get("dht", 0)),
        ("streams", "TCP", host, port or kept.get("streams", 0)),
    )
    for name, protocol, address, number in wanted:
        if not number:
            yield Finding("ports", Verdict.NOTE, f"{name}: any free {protocol} port")
            continue
        kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
                if protocol == "TCP":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, number))
        except OSError as error:
            yield Finding(
                "ports",
                Verdict.BAD,
                f"{name}: can't listen on {protocol} port {number}: {reason_of(error)}",
                "stop the other program, or choose another port (--dht-port, --listen)",
            )
        else:
            yield Finding("ports", Verdict.GOOD, f"{name}: {protocol} port {number} is free")


def addresses() -> Iterator[Finding]:
    """
    Report the addresses of this machine, and whether it has IPv6.
    """
    hosts = local_addresses()
    if not hosts:
        yield Finding(
            "network",
            Verdict.BAD,
            "this machine has no default route",
            "connect it to a network; only members on this machine can be found now",
        )
        return
    yield Finding("network", Verdict.GOOD, f"addresses {', '.join(hosts)}")
    if any(":" in host and scope(host) is Scope.GLOBAL for host in hosts):
        yield Finding("IPv6", Verdict.GOOD, "there is a global address")
    else:
        yield Finding("IPv6", Verdict.NOTE, "no global address: members that have only IPv6 can't be reached")
