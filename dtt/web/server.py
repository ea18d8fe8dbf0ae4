"""
The HTTP server, which answers the requests to all ports.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dtt.tracker.tracker import Tracker
from dtt.web.bounds import BoundedFactory
from dtt.web.events import EventStreams
from dtt.web.guard import Guard
from dtt.web.root import Root, Routes


class Server:
    """
    Answers requests about one tracker.
    """

    def __init__(self, reactor: Any, tracker: Tracker) -> None:
        """
        @param reactor: provides C{IReactorTime}.
        @param tracker: the tracker.
        """
        self._reactor = reactor
        self._streams = EventStreams(reactor, tracker.observe_events)
        self._routes = Routes(tracker, self._streams)

    def factory(self, token: bytes | None, hosts: Collection[str] | None) -> BoundedFactory:
        """
        Return the factory for the connections of a port; the parameters are the attributes of L{Guard}.
        """
        return BoundedFactory(self._reactor, Root(self._routes, Guard(token, hosts)))

    def end_streams(self) -> None:
        """
        End all event streams.
        """
        self._streams.end_all()
