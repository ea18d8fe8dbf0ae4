"""
Name resolution that can be abandoned.

Twisted resolves names with C{getaddrinfo} in the threads of the reactor's pool, and
a process ends only when these have ended: with name servers that don't answer,
after 20 s and more.  Here each name has a daemon thread, which ends with the
process.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from twisted.internet._resolver import GAIResolver
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

#: The number of names that are resolved at once; further ones wait (guess: all
#: bootstrap hosts in both address families, and some relays).
MAX_THREADS: Final = 24

#: The number of names that wait; a further one has no address (guess).
MAX_WAITING: Final = 256


def get_addresses(*args: Any, **kwargs: Any) -> list[Any]:
    """
    Call C{socket.getaddrinfo}.

    @raise socket.gaierror: the name can't be resolved, whatever the reason.
    """
    try:
        return socket.getaddrinfo(*args, **kwargs)
    except socket.gaierror:
        raise
    except (OSError, ValueError, OverflowError) as error:  # also a name that can't be encoded
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None


class DaemonThreads:
    """
    The part of C{ThreadPool} that C{GAIResolver} uses, with daemon threads that run
    one call each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """
        Call C{function} in a thread.

        @param on_result: called in the thread with whether it succeeded, and its
            result or a C{Failure}.
        """

        def call() -> None:
            try:
                result: Any = function(*args, **kwargs)
            except Exception:
                succeeded, result = False, Failure()
            else:
                succeeded = True
            with suppress(Exception):  # the reactor may have ended
                on_result(succeeded, result)

        with self._lock:
            if self._running < MAX_THREADS:
                self._running += 1
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append(call)
                return
            else:
                on_result(False, Failure(socket.gaierror(socket.EAI_AGAIN, "too many names at once")))
                return
        try:
            threading.Thread(target=self._run, args=(call,), name="dtt names", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            with self._lock:
                self._running -= 1
            on_result(False, Failure(socket.gaierror(socket.EAI_AGAIN, str(error))))

    def _run(self, call: Callable[[], None]) -> None:
        while True:
            call()
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                call = self._waiting.popleft()


def resolve_abandonably(reactor: Any) -> None:
    """
    Let C{reactor} resolve names in daemon threads, if it resolves them as Twisted
    does by default.  Any other resolver stays.

    @param reactor: a reactor.
    """
    current = getattr(reactor, "nameResolver", None)
    if type(current) is GAIResolver and current._getaddrinfo is not get_addresses:
        threads = cast(ThreadPool, DaemonThreads())
        reactor.installNameResolver(GAIResolver(reactor, lambda: threads, get_addresses))
