"""
A signal that Twisted leaves alone.
"""

from __future__ import annotations

import signal
from typing import Any


def stop_on_hangup(reactor: Any) -> None:
    """
    Let SIGHUP, which a closed terminal sends, end the reactor as SIGTERM does:
    its default ends the process at once, without goodbyes, and leaves twistd's
    PID file behind.  Whoever ignores it (C{nohup}) or handles it goes on to.

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
