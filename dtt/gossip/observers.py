"""
Who listens to a topic.

Rules (L{dtt.interfaces.IGossipObserver}): an observer is told what happens
from its subscription on, and nothing after its end; one that raises is logged
and does not disturb others.
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
        # Replaced by each change: they may come and go while all are told.
        self._observers: dict[object, IGossipObserver] = {}

    def add(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        Tell C{observer} too.

        @return: ends that; may be called again.
        """
        key = object()
        self._observers = {**self._observers, key: observer}
        return lambda: self._remove(key)

    def tell(self, call: Callable[[IGossipObserver], None]) -> None:
        """
        C{call} each observer.
        """
        for key, observer in self._observers.items():
            # One that was told before may have ended another's subscription.
            if key in self._observers:
                try:
                    call(observer)
                except Exception:
                    self._failed()

    def guard(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """
        C{call} somebody else's code.
        """
        try:
            call(*args, **kwargs)
        except Exception:
            self._failed()

    def clear(self) -> None:
        """
        Tell nobody any more.
        """
        self._observers = {}

    def _failed(self) -> None:
        self._log.failure("an observer of the topic failed")

    def _remove(self, key: object) -> None:
        self._observers = {other: each for other, each in self._observers.items() if other is not key}
