"""
The observers of a topic.

Rules (L{dtt.interfaces.IGossipObserver}): an observer is notified of events from its
subscription to its end; an exception in one is logged and does not affect others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from twisted.logger import Logger

from dtt.interfaces import IGossipObserver

P = ParamSpec("P")


class Observers:
    """
    The observers of one topic.
    """

    _log = Logger()

    def __init__(self) -> None:
        # Copied on change, because observers may be added and removed during a notification.
        self._observers: dict[object, IGossipObserver] = {}

    def add(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        Add an observer.

        @return: a function that removes it; may be called again.
        """
        key = object()
        self._observers = {**self._observers, key: observer}
        return lambda: self._remove(key)

    def notify(self, call: Callable[[IGossipObserver], None]) -> None:
        """
        Run C{call} with each observer.
        """
        for key, observer in self._observers.items():
            # An earlier observer may have ended this one's subscription.
            if key in self._observers:
                try:
                    call(observer)
                except Exception:
                    self._failed()

    def guard(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """
        Run C{call}, and log any exception.
        """
        try:
            call(*args, **kwargs)
        except Exception:
            self._failed()

    def clear(self) -> None:
        """
        Remove all observers.
        """
        self._observers = {}

    def _failed(self) -> None:
        self._log.failure("unexpected error in an observer of the topic")

    def _remove(self, key: object) -> None:
        self._observers = {other: each for other, each in self._observers.items() if other is not key}
