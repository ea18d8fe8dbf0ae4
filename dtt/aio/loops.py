"""
The Twisted reactor of an asyncio event loop that is already running.

Rules:
  - If the program has installed a reactor that runs on this loop, it is used.
  - If no reactor is installed, a reactor is created for the loop and installed, so other code that uses
    Twisted shares it.
  - If the installed one belongs to another loop or is of another kind, the loop gets a separate reactor,
    which is closed with its last user.  This happens in a test suite that has a loop for each test.
  - Our reactors never stop the loop, and do not keep the process alive: their threads are daemons.
"""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop
from functools import partial
from threading import Thread
from typing import Any

from attrs import define
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.main import installReactor
from twisted.python.failure import Failure

_INSTALLED = "twisted.internet.reactor"


class LoopReactor(AsyncioSelectorReactor):
    """
    A reactor on a loop that other code runs.
    """

    def crash(self) -> None:
        """
        Stop, but let the loop run.
        """
        self._started = self.running = False

    def _initThreadPool(self) -> None:
        super()._initThreadPool()
        assert self.threadpool is not None
        self.threadpool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]

    def close(self) -> None:
        """
        Close the reactor's own resources.  It can no longer be used.
        """
        self.disconnectAll()
        for reader in tuple(self._internalReaders):
            self._internalReaders.discard(reader)
            self.removeReader(reader)
            reader.connectionLost(Failure(ConnectionDone()))
        timer: Any = self._timerHandle
        if timer is not None:
            timer.cancel()
        if self.threadpool is not None:
            self._stopThreadPool()


@define
class _Own:
    """
    A reactor that is not the installed one, and the number of its users.
    """

    reactor: LoopReactor
    users: int = 0


# By loop.
_own: dict[AbstractEventLoop, _Own] = {}


def acquire(loop: AbstractEventLoop) -> Any:
    """
    Return the reactor of a loop.  Call L{release} after each call.

    @param loop: the running loop.
    """
    installed: Any = sys.modules.get(_INSTALLED)
    if installed is None:
        installed = LoopReactor(loop)
        installReactor(installed)
    if getattr(installed, "_asyncioEventloop", None) is loop:
        if not installed._started:
            installed.startRunning(installSignalHandlers=False)
        return installed
    own = _own.get(loop)
    if own is None:
        own = _own[loop] = _Own(LoopReactor(loop))
        own.reactor.startRunning(installSignalHandlers=False)
    own.users += 1
    return own.reactor


def release(loop: AbstractEventLoop) -> None:
    """
    End a use of the reactor of a loop.
    """
    own = _own.get(loop)
    if own is not None:
        own.users -= 1
        if own.users == 0:
            del _own[loop]
            own.reactor.close()
