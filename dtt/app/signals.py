"""
Signals that end a program: SIGINT, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from twisted.internet.error import ReactorNotRunning

_Handler: TypeAlias = Callable[[int, Any], Any]


def stop_on_signals(reactor: Any) -> None:
    """
    Stop the reactor at the first SIGINT, SIGTERM or SIGHUP, and ignore later ones: the reactor is already
    stopping, and stopping it twice is an error.

    Twisted does not handle SIGHUP, which a closing terminal sends; its default
    action kills the process without disconnecting from peers and leaves twistd's
    PID file behind.  Signals that are ignored (C{nohup}) or that other code handles are left alone.  A SIGINT
    with the default action is handled from now on, others when the reactor has installed its handlers.

    @param reactor: provides IReactorCore and IReactorFromThreads.
    """
    stopping = False

    def once(handler: _Handler) -> _Handler:
        def handle(number: int, frame: Any) -> None:
            nonlocal stopping
            if not stopping:
                stopping = True
                handler(number, frame)

        handle.stops_dtt = True  # type: ignore[attr-defined]
        return handle

    def stop(number: int, frame: Any) -> None:
        reactor.callFromThread(_stop, reactor)

    def running() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if getattr(handler, "__self__", None) is reactor:
                signal.signal(number, once(handler))  # type: ignore[arg-type]

    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, once(stop))
    reactor.callWhenRunning(running)


def reload_on_hangup(reactor: Any, reload: Callable[[], object]) -> None:
    """
    Call C{reload} on each SIGHUP, instead of stopping; but stop if the terminal of this process was closed,
    which also sends SIGHUP. Call this after L{stop_on_signals}.  A SIGHUP that is ignored, or that other code
    handles, is left alone.

    @param reactor: provides IReactorCore and IReactorFromThreads.
    @param reload: called in the reactor's thread.
    """
    had_terminal = _has_terminal()
    stop = signal.getsignal(signal.SIGHUP)
    if not callable(stop) or not getattr(stop, "stops_dtt", False):
        return

    def handle(number: int, frame: Any) -> None:
        if had_terminal and not _has_terminal():
            stop(number, frame)
        else:
            reactor.callFromThread(reload)

    signal.signal(signal.SIGHUP, handle)


def _has_terminal() -> bool:
    """
    Return whether this process has a terminal that is open.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it has stopped by itself meanwhile
        reactor.stop()
