"""
Handling of SIGHUP, which Twisted does not handle.
"""

from __future__ import annotations

import signal
from typing import Any


def stop_on_hangup(reactor: Any) -> None:
    """
    Stop the reactor on SIGHUP, as on SIGTERM.  A closing terminal sends it, and its
    default action kills the process without disconnecting from peers and leaves
    twistd's PID file behind.  If SIGHUP is already ignored (C{nohup}) or handled,
    nothing changes.

    @param reactor: provides IReactorCore and IReactorFromThreads.
    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:
        return
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            reactor.callFromThread(reactor.stop)

    signal.signal(signal.SIGHUP, stop)
