"""
Notifications to the service manager (sd_notify(3)), and sockets from it (sd_listen_fds(3)).

Rules: without a service manager, nothing happens.  Errors are ignored: a service that can't notify still
works.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: The first descriptor that the service manager passes (C{SD_LISTEN_FDS_START}).
FIRST_DESCRIPTOR: Final = 3

#: The maximum number of descriptors that are examined (guess).
MAX_DESCRIPTORS: Final = 16


class Notifier:
    """
    Sends notifications to the service manager.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """
        @param environ: the environment variables.
        """
        self._path = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        has_watchdog = self._path and for_us and microseconds.isascii() and microseconds.isdigit()
        self.watchdog: float | None = (int(microseconds) / 1e6 or None) if has_watchdog else None

    def say(self, *lines: str) -> None:
        """
        Send lines such as C{READY=1}.
        """
        if not self._path.startswith(("/", "@")):
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.connect(address)
            out.send("\n".join(lines).encode("utf-8"))

    def reloading(self) -> None:
        """
        Say that the configuration is being read again (C{Type=notify-reload}).
        """
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


class NotifyService(Service):
    """
    Notifies the service manager when the service is ready, alive and stopping.
    """

    def __init__(self, clock: IReactorTime, notifier: Notifier) -> None:
        """
        @param clock: the reactor; if it hangs, the notifications stop.
        @param notifier: sends the notifications.
        """
        self._notifier = notifier
        self._living = LoopingCall(notifier.say, "WATCHDOG=1")
        self._living.clock = clock

    def startService(self) -> None:
        """
        Send READY. All services that were started before this one are ready.
        """
        super().startService()
        self._notifier.say("READY=1")
        if self._notifier.watchdog is not None:
            # Half of the time is what sd_watchdog_enabled(3) recommends.
            self._living.start(self._notifier.watchdog / 2)

    def stopService(self) -> None:
        """
        Send STOPPING.
        """
        super().stopService()
        self._notifier.say("STOPPING=1")
        if self._living.running:
            self._living.stop()


def started_with() -> dict[str, str]:
    """
    Return the environment of this process at its start.  Twisted removes the variables of
    L{inherited_udp} from C{os.environ} as soon as it is imported.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = os.fsdecode(file.read()).split("\0")
    except OSError:  # not Linux, so not systemd
        return dict(os.environ)
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def inherited_udp(environ: Mapping[str, str]) -> dict[int, int]:
    """
    Return the bound UDP sockets that the service manager has opened for this process.

    @param environ: the environment with which it was started.
    @return: the descriptor by address family: C{AF_INET}, C{AF_INET6} or both.
    """
    count, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    found: dict[int, int] = {}
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), MAX_DESCRIPTORS)):
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as opened:
            os.set_inheritable(descriptor, False)
            if opened.type == socket.SOCK_DGRAM and opened.family in (socket.AF_INET, socket.AF_INET6):
                found.setdefault(opened.family, descriptor)
    return found
