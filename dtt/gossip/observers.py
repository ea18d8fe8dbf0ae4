"""
The observers of a topic.

Rules (L{dtt.GossipObserver}): an observer is notified of events from its
subscription to its end; an exception in one is logged and does not affect others.  One
that could not be called is refused when it subscribes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from twisted.logger import Logger

from dtt.arguments import check_function, kind_of
from dtt.errors import WrongType
from dtt.interfaces import GossipObserver

P = ParamSpec("P")

#: The methods of an observer: those that it must have, and those that it may have.
REQUIRED = ("neighbor_up", "neighbor_down", "message_received")
OPTIONAL = ("topic_left", "link_broken", "broadcast_unheard")


def check_observer(observer: object) -> None:
    """
    Check that an observer can be called.

    @raise WrongType: a method is missing, or one is a coroutine function.
    """
    if isinstance(observer, type):
        raise WrongType(f"an observer must be an object, not the class {observer.__name__}")
    missing = [name for name in REQUIRED if not hasattr(observer, name)]
    if missing:
        raise WrongType(
            f"an observer must have the methods {', '.join(REQUIRED)}; this {kind_of(observer)}"
            f" has no {', '.join(missing)}"
        )
    for name in (*REQUIRED, *OPTIONAL):
        check_function(f"{name} of the observer", getattr(observer, name, None), optional=name in OPTIONAL)


class Observers:
    """
    The observers of one topic.
    """

    _log = Logger()

    def __init__(self) -> None:
        # Copied on change, because observers may be added and removed during a notification.
        self._observers: dict[object, GossipObserver] = {}

    def __len__(self) -> int:
        """
        Return the number of subscriptions.
        """
        return len(self._observers)

    def add(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Add an observer.

        @return: a function that removes it; may be called again.
        @raise WrongType: it could not be called.
        """
        check_observer(observer)
        key = object()
        self._observers = {**self._observers, key: observer}
        return lambda: self._remove(key)

    def notify(self, call: Callable[[GossipObserver], object]) -> None:
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

    def notify_optional(self, method: str, *args: object) -> None:
        """
        Call a method of each observer that has it.

        @param method: one of L{OPTIONAL}.
        """

        def call_if_present(observer: Any) -> None:
            called = getattr(observer, method, None)
            if called is not None:
                called(*args)

        self.notify(call_if_present)

    def guard(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """
        Run C{call}, and log any exception.
        """
        try:
            call(*args, **kwargs)
        except Exception:
            self._failed()

    def end(self) -> None:
        """
        Notify all observers that the topic is left, and remove them.
        """
        self.notify_optional("topic_left")
        self._observers = {}

    def _failed(self) -> None:
        self._log.failure("unexpected error in an observer of the topic")

    def _remove(self, key: object) -> None:
        self._observers = {other: each for other, each in self._observers.items() if other is not key}
