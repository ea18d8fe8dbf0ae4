"""
Tests for L{dtt.aio.discovery}, on a tracker without a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from twisted.trial.unittest import SynchronousTestCase

from dtt.aio.discovery import AsyncDiscovery
from dtt.aio.service import AsyncTracker
from dtt.errors import ContentTooLarge, TopicLeft
from dtt.testing.fake_discovery import FakeDiscoveryService
from dtt.testing.fake_tracker import FakeTracker
from tests.aio.test_service import soon

ALICE, BOB = b"a" * 32, b"b" * 32


class AsyncDiscoveryTests(SynchronousTestCase):
    """
    Tests for L{AsyncDiscovery}.
    """

    def run_test(
        self, test: Callable[[AsyncTracker, AsyncDiscovery, FakeDiscoveryService], Awaitable[None]]
    ) -> None:
        """
        Run a coroutine on a separate loop.
        """

        async def main() -> None:
            fake = FakeTracker()
            fake.startService()
            tracker = AsyncTracker(fake, None)
            discovery = tracker.discover("printers", secret=b"s", content=b"ours")
            await test(tracker, discovery, fake.discovery("printers"))

        asyncio.run(main())

    def test_results(self) -> None:
        """
        Each iterator has what was found before and after; it ends after C{leave}.
        """

        async def test(
            tracker: AsyncTracker, discovery: AsyncDiscovery, network: FakeDiscoveryService
        ) -> None:
            network.find(ALICE, b"one")

            async def contents() -> list[bytes]:
                return [found.content async for found in discovery]

            reading = [await soon(contents()) for _ in range(2)]
            network.find(BOB, b"two")
            await asyncio.sleep(0)
            self.assertEqual([found.content for found in discovery.found()], [b"one", b"two"])
            await discovery.leave()
            self.assertEqual([await each for each in reading], [[b"one", b"two"]] * 2)
            await discovery.leave()
            with self.assertRaises(TopicLeft):
                discovery.publish(b"late")

        self.run_test(test)

    def test_cancelled(self) -> None:
        """
        A task that waits can be cancelled; its subscription ends.
        """

        async def test(
            tracker: AsyncTracker, discovery: AsyncDiscovery, network: FakeDiscoveryService
        ) -> None:
            async def read() -> None:
                async for _ in discovery:
                    raise AssertionError("nothing was found")

            reading = await soon(read())
            self.assertEqual(len(network._feeds), 1)
            reading.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await reading
            self.assertEqual(len(network._feeds), 0)

        self.run_test(test)

    def test_publish(self) -> None:
        """
        The content can be changed, and is checked; C{async with} leaves the topic.
        """

        async def test(
            tracker: AsyncTracker, discovery: AsyncDiscovery, network: FakeDiscoveryService
        ) -> None:
            async with discovery as entered:
                self.assertIs(entered, discovery)
                discovery.publish(b"other")
                self.assertEqual(network.content, b"other")
                with self.assertRaises(ContentTooLarge):
                    discovery.publish(bytes(713))
                self.assertEqual(discovery.counters(), {})
                self.assertEqual(discovery.topic_id, network.topic_id)
                self.assertEqual(repr(discovery), f"<AsyncDiscovery of {network!r}>")
            self.assertEqual(tracker.service.discoveries(), ())

        self.run_test(test)
