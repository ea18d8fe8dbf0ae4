"""
Port mapping by UPnP, with the package miniupnpc (C{pip install
'distributed-topic-tracker[upnp]'}).

The library blocks for seconds, so it runs in a separate daemon thread, which does not delay the exit.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from dtt.portmap.mapper import IPortMapper, Mapping
from dtt.portmap.wire import Transport

T = TypeVar("T")

#: Milliseconds to wait for routers to answer (the library's default is 2000; guess).
DISCOVER_DELAY: Final = 1000

#: What the router's page shows for a mapping.
DESCRIPTION: Final = "dtt"


def is_installed() -> bool:
    """
    Return whether UPnP can be used.
    """
    return importlib.util.find_spec("miniupnpc") is not None


class UPnP(IPortMapper):
    """
    Maps ports by UPnP.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads) -> None:
        """
        @param reactor: receives the results from the thread.
        """
        self._reactor = reactor
        self._lock = threading.Lock()
        # The router where a mapping was made last: finding it takes a second.
        self._router: Any = None

    def map(self, transport: Transport, port: int, lifetime: int) -> Deferred[Mapping | None]:
        """
        Find a router and map a port.
        """

        def work() -> Mapping | None:
            router = self._router = _find()
            if router is None:
                return None
            # Requested first: it may fail, and then nothing must be mapped.
            outside = _literal(router.externalipaddress())
            for external in (port, *(1024 + (port * 31 + n * 7919) % 64000 for n in range(1, 4))):
                try:
                    if router.addportmapping(
                        external, transport.name, router.lanaddr, port, DESCRIPTION, "", lifetime
                    ):
                        return Mapping(transport, port, outside, external, "UPnP", lifetime)
                except Exception:  # the library raises bare exceptions; another port may be free
                    continue
            return None

        return self._in_thread(work, None)

    def unmap(self, mapping: Mapping) -> Deferred[None]:
        """
        Remove a mapping.
        """

        def work() -> None:
            router = self._router
            if router is not None:
                router.deleteportmapping(mapping.external, mapping.transport.name)

        return self._in_thread(work, None)

    def _in_thread(self, work: Callable[[], T], otherwise: T) -> Deferred[T]:
        """
        Run C{work} in a thread; a failure gives C{otherwise}.  Cancelling the result
        abandons it.
        """
        done: Deferred[T] = Deferred(lambda _: None)

        def finish(result: T) -> None:
            if not done.called:
                done.callback(result)

        def run() -> None:
            try:
                with self._lock:
                    result = work()
            except Exception:
                result = otherwise
            self._reactor.callFromThread(finish, result)

        threading.Thread(target=run, name="dtt UPnP", daemon=True).start()
        return done


def _literal(host: Any) -> str | None:
    """
    Return what a router calls its address outside, if it is an IP address.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _find() -> Any:
    """
    Return the library's object for the router; C{None} if there is none.
    """
    router = importlib.import_module("miniupnpc").UPnP()
    router.discoverdelay = DISCOVER_DELAY
    if not router.discover():
        return None
    router.selectigd()
    return router
