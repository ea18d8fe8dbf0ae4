"""
Tests for L{dtt.aio.service}, on a tracker without a network.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

from twisted.trial.unittest import SynchronousTestCase

from dtt.aio.service import AsyncTopic, AsyncTracker
from dtt.errors import DuplicateContent, TopicLeft
from dtt.events import NeighborDown, NeighborUp
from dtt.testing.fake_tracker import FakeTopicService, FakeTracker
from tests.garbage import ignore_older_objects

PEER = b"p" * 32


class Member:
    """
    A tracker and a topic, whose network is the test.
    """

    def __init__(self) -> None:
        self.fake = FakeTracker()
        self.fake.startService()
        self.tracker = AsyncTracker(self.fake, None)
        self.topic: AsyncTopic = self.tracker.join("name", b"secret")

    @property
    def network(self) -> FakeTopicService:
        """What the topic is to see."""
        return self.fake.topic("name")

    def subscriptions(self) -> int:
        """How many observers there are."""
        return len(self.network._fake._observers)


async def soon(awaitable: Awaitable[object]) -> asyncio.Future[object]:
    """
    Start waiting for something.
    """
    future = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return future


class AsyncTopicTests(SynchronousTestCase):
    """
    Tests for L{AsyncTopic} and L{AsyncTracker}.
    """

    def run_with_member(self, test: Callable[[Member], Awaitable[None]]) -> None:
        """
        Run a coroutine on a separate loop.
        """

        async def main() -> None:
            await test(Member())

        asyncio.run(main())

    def test_joined(self) -> None:
        """
        C{joined} waits for a neighbour; when the topic is left, it raises.
        """

        async def test(member: Member) -> None:
            first = await soon(member.topic.joined())
            self.assertFalse(first.done())
            member.network.up(PEER)
            await first
            await member.topic.joined()
            member.network.down(PEER)
            self.assertEqual(member.topic.neighbors(), ())
            await member.topic.leave()
            with self.assertRaises(TopicLeft):
                await member.topic.joined()

        self.run_with_member(test)

    def test_left_while_waiting(self) -> None:
        """
        A task that waits for a neighbour is notified when the topic is left.
        """

        async def test(member: Member) -> None:
            waiting = await soon(member.topic.joined())
            await member.topic.leave()
            with self.assertRaises(TopicLeft):
                await waiting

        self.run_with_member(test)

    def test_cancel(self) -> None:
        """
        A wait that is cancelled, or that takes too long, ends alone.
        """

        async def test(member: Member) -> None:
            one, other = await soon(member.topic.joined()), await soon(member.topic.joined())
            one.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await one
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0):
                    await member.topic.joined()
            self.assertFalse(other.done())
            member.network.up(PEER)
            await other

        self.run_with_member(test)

    def test_messages(self) -> None:
        """
        Each iterator has all messages since its call; it ends when the topic is left, after
        those that have arrived.
        """

        async def test(member: Member) -> None:
            member.network.up(PEER)
            member.network.receive(b"too early", PEER)
            one = member.topic.messages()
            member.network.receive(b"first", PEER)
            other = member.topic.messages()
            member.network.receive(b"second", PEER)
            await member.topic.leave()
            self.assertEqual([message.content async for message in one], [b"first", b"second"])
            self.assertEqual([message.content async for message in other], [b"second"])

        self.run_with_member(test)

    def test_neighbor_changes(self) -> None:
        """
        Changes begin with the current neighbours.
        """

        async def test(member: Member) -> None:
            member.network.up(PEER)
            changes = member.topic.neighbor_changes()
            member.network.receive(b"not a change", PEER)
            member.network.down(PEER)
            await member.topic.leave()
            topic_id = member.topic.topic_id
            self.assertEqual(
                [change async for change in changes],
                [NeighborUp(topic_id, PEER), NeighborDown(topic_id, PEER)],
            )

        self.run_with_member(test)

    def test_subscriptions_end(self) -> None:
        """
        A subscription ends with C{aclose}, and when nobody refers to the iterator any longer.
        """

        async def test(member: Member) -> None:
            ignore_older_objects(self)
            kept = member.topic.messages()
            lost = member.topic.messages()
            self.assertEqual(member.subscriptions(), 2)
            await kept.aclose()
            self.assertEqual(member.subscriptions(), 1)
            del lost
            gc.collect()
            self.assertEqual(member.subscriptions(), 0)

        self.run_with_member(test)

    def test_broadcast(self) -> None:
        """
        Contents are sent; the errors of a call are raised where it is awaited.
        """

        async def test(member: Member) -> None:
            member.network.up(PEER)
            await member.topic.broadcast(b"one")
            await member.topic.broadcast_neighbors(b"two")
            member.topic.join_peers([PEER])
            self.assertEqual(member.network.sent, [b"one", b"two"])
            self.assertEqual(member.network.asked_for, [PEER])
            self.assertEqual(member.topic.counters(), {})
            with self.assertRaises(DuplicateContent):
                await member.topic.broadcast(b"one")

        self.run_with_member(test)

    def test_async_with(self) -> None:
        """
        At the end of an C{async with} statement the topic has been left, and can be joined
        again.
        """

        async def test(member: Member) -> None:
            async with member.topic as topic:
                messages = topic.messages()
            self.assertEqual([message async for message in messages], [])
            with self.assertRaises(TopicLeft):
                await topic.broadcast(b"late")
            self.assertIsNot(member.tracker.join("name"), topic)

        self.run_with_member(test)

    def test_stop(self) -> None:
        """
        With the tracker, all its topics end.
        """

        async def test(member: Member) -> None:
            messages = member.topic.messages()
            reading = await soon(anext(messages, None))
            await member.tracker._stop()
            self.assertIsNone(await reading)

        self.run_with_member(test)

    def test_reprs(self) -> None:
        """
        The representations name the service.
        """

        async def test(member: Member) -> None:
            self.assertIn(member.tracker.peer_id.hex()[:10], repr(member.tracker))
            self.assertIn(member.topic.topic_id.hex()[:10], repr(member.topic))

        self.run_with_member(test)
