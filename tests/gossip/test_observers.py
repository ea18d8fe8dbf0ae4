"""
Tests for L{dtt.gossip.observers}: which observers are accepted, and when they are called.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import WrongType
from dtt.gossip.observers import Observers, check_observer
from dtt.interfaces import GossipMessage, GossipObserver, LinkObserver, TopicObserver
from tests.gossip.test_member import MembersCase


class Plain:
    """An observer of a plain class."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """Record it."""
        self.told.append(("up", peer_id))

    def neighbor_down(self, peer_id: bytes) -> None:
        """Record it."""
        self.told.append(("down", peer_id))

    def message_received(self, message: GossipMessage) -> None:
        """Record it."""
        self.told.append(message.content)


class Full(Plain):
    """An observer with all optional methods."""

    def topic_left(self) -> None:
        """Record it."""
        self.told.append("left")

    def link_broken(self, peer_id: bytes, reason: str, unconfirmed: int) -> None:
        """Record it."""
        self.told.append(reason)

    def broadcast_unheard(self) -> None:
        """Record it."""
        self.told.append("unheard")


class CheckTests(SynchronousTestCase):
    """
    Which observers are refused when they subscribe.
    """

    def test_types(self) -> None:
        """A plain class is an observer to a type checker."""
        observer: GossipObserver = Plain()
        with_end: TopicObserver = Full()
        with_links: LinkObserver = Full()
        for each in (observer, with_end, with_links):
            check_observer(each)

    def test_accepted(self) -> None:
        """Methods may be any callables; other methods don't matter."""
        check_observer(Mock())
        observer: Any = Plain()
        observer.neighbor_up = partial(print, "up")
        observer.topic_left = None
        observer.other = 5
        check_observer(observer)

    def test_refused(self) -> None:
        """
        An object without the methods, a class, and methods that can't be called or are
        coroutine functions are refused, with words that say what is wrong.
        """

        async def coroutine(*args: object) -> None: ...

        async def generator(*args: object) -> Any:
            yield

        class CalledLater:
            async def __call__(self, *args: object) -> None: ...

        class Half:
            def neighbor_up(self, peer_id: bytes) -> None: ...

        wrong: Any
        for wrong, words in (
            (lambda: 0, "this function has no neighbor_up, neighbor_down, message_received"),
            (Half(), "this Half has no neighbor_down, message_received"),
            (None, "this None has no neighbor_up"),
            (Plain, "an observer must be an object, not the class Plain"),
        ):
            error = self.assertRaises(WrongType, check_observer, wrong)
            self.assertIn(words, str(error))
        for name in ("neighbor_up", "message_received", "topic_left", "link_broken", "broadcast_unheard"):
            for method in (coroutine, generator, CalledLater(), partial(coroutine, 1)):
                observer: Any = Full()
                setattr(observer, name, method)
                error = self.assertRaises(WrongType, check_observer, observer)
                self.assertIn(f"{name} of the observer is a coroutine function", str(error))
        observer = Plain()
        observer.message_received = "text"
        error = self.assertRaises(WrongType, Observers().add, observer)
        self.assertEqual(
            str(error), "message_received of the observer must be a function, not str of length 4"
        )


class CallTests(MembersCase):
    """
    When observers are called.
    """

    def test_optional(self) -> None:
        """
        An observer is notified of a broadcast that nobody received, and once of the end, whether it has all
        methods or only some; after the end of its subscription, it is not notified.
        """
        a, b = self.joined(2)
        full, plain, ended = Full(), Plain(), Full()
        for observer in (full, plain):
            a.member.subscribe(observer)
        a.member.subscribe(ended)()
        b.member.leave()
        self.advance(1)
        a.member.broadcast(b"nobody")
        leaving = [a.member.leave(), a.member.leave()]
        for each in leaving:
            self.successResultOf(each)
        told = [("up", b.peer_id), ("down", b.peer_id)]
        self.assertEqual(plain.told, told)
        self.assertEqual(full.told, [*told, "unheard", "left"])
        self.assertEqual(ended.told, [("up", b.peer_id)])

    def test_left_before_start(self) -> None:
        """A topic that is left before it was started tells its observers, too, once."""
        a = self.peer(start=False)
        observer = Full()
        a.member.subscribe(observer)
        leaving: list[Deferred[None]] = [a.member.leave(), a.member.leave()]
        for each in leaving:
            self.successResultOf(each)
        self.assertEqual(observer.told, ["left"])

    def test_raising_at_the_end(self) -> None:
        """An exception in C{topic_left} is logged, and others are notified."""
        a = self.peer()
        raising, observer = Full(), Full()
        raising.topic_left = lambda: 1 / 0  # type: ignore[assignment, method-assign]
        a.member.subscribe(raising)
        a.member.subscribe(observer)
        a.member.leave()
        self.assertEqual(observer.told, ["left"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
