"""
Tests for L{dtt.discovery.channels}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.channels import Channels
from dtt.discovery.interfaces import ContentSource, SearchState
from dtt.errors import LocalError
from dtt.records.record import GossipContent
from dtt.testing.memory_channel import MemoryChannel
from tests.tracker.common import IDS, MINUTE, start_clock


def content() -> GossipContent:
    """Return the content of a record."""
    return GossipContent((IDS[5],))


class BrokenChannel(MemoryChannel):
    """
    A channel with a bug.
    """

    name = "broken"

    def find(self, source: str, search: SearchState | None = None) -> Deferred[Any]:
        """Raise at once."""
        raise ZeroDivisionError

    async def _publish(self, source: ContentSource) -> int:
        await self._wait()
        raise ZeroDivisionError


class ReadyLater(MemoryChannel):
    """
    A channel that becomes ready later.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ready: Deferred[None] = Deferred()

    def when_ready(self) -> Deferred[None]:
        """Return the prepared Deferred."""
        return self.ready


class ChannelsTests(SynchronousTestCase):
    """
    Tests for L{Channels}.
    """

    def setUp(self) -> None:
        """A quick and a slow channel, each with a record of another member."""
        self.clock = start_clock()
        self.stores = [{IDS[number]: FoundRecord(IDS[number], MINUTE)} for number in (1, 2)]
        self.quick = MemoryChannel(self.clock, IDS[0], self.stores[0], 1.0)
        self.slow = MemoryChannel(self.clock, IDS[0], self.stores[1], 3.0)
        self.channels = Channels([self.slow, self.quick])
        self.reported: list[tuple[float, bytes]] = []
        self.channels.on_record = lambda record: self.reported.append((self.elapsed(), record.publisher))

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock.seconds() - start_clock().seconds()

    def pump(self) -> None:
        """Advance the clock."""
        self.clock.pump([0.5] * 8)

    def test_concurrently(self) -> None:
        """All channels are asked at the same time; each record is reported when it arrives."""
        found = self.channels.find("test")
        self.clock.pump([0.5] * 5)
        self.assertEqual(self.reported, [(1.0, IDS[1])])
        self.assertNoResult(found)
        self.clock.pump([0.5])
        self.assertEqual(self.reported, [(1.0, IDS[1]), (3.0, IDS[2])])
        self.assertEqual([record.publisher for record in self.successResultOf(found)], [IDS[2], IDS[1]])

    def test_watch(self) -> None:
        """Looks report records as they arrive, until the end."""
        arrived: list[tuple[float, bytes]] = []
        looking = self.channels.watch("test", lambda each: arrived.append((self.elapsed(), each.publisher)))
        self.clock.pump([0.5] * 5)
        self.assertEqual(arrived, [(1.0, IDS[1])])
        looking.addErrback(lambda _: None).cancel()
        found = self.channels.watch("test")
        self.pump()
        self.assertEqual(len(self.successResultOf(found)), 2)
        self.assertEqual(arrived, [(1.0, IDS[1])])

    def test_publish(self) -> None:
        """A record is published on all channels, and the places are added up."""
        published = self.channels.publish(content, "test")
        self.pump()
        self.assertEqual(self.successResultOf(published), 2)
        for store in self.stores:
            self.assertEqual(store[IDS[0]].active_peers, (IDS[5],))

    def test_without_channels(self) -> None:
        """No channel finds nothing."""
        channels = Channels([])
        self.assertEqual(self.successResultOf(channels.find("test")), [])
        self.assertEqual(self.successResultOf(channels.publish(content, "test")), 0)

    def test_arguments(self) -> None:
        """Each channel receives the arguments of the call."""
        calls: list[tuple[Any, ...]] = []
        state = SearchState(1.0, 2, lambda: True)

        class Recording(MemoryChannel):
            def find(self, *args: Any) -> Deferred[Any]:
                calls.append(args)
                return super().find(*args)

            def publish(self, *args: Any) -> Deferred[Any]:
                calls.append(args)
                return super().publish(*args)

        channels = Channels([Recording(self.clock, IDS[0], {}) for _ in range(2)])
        channels.find("source", state)
        channels.publish(content, "source", True)
        self.assertEqual(calls, [("source", state)] * 2 + [(content, "source", True)] * 2)

    def test_bug(self) -> None:
        """An unexpected error in one channel is logged with its name; the others work."""
        broken = BrokenChannel(self.clock, IDS[0], {}, 0.5)
        channels = Channels([broken, self.quick])
        found, published = channels.find("test"), channels.publish(content, "test")
        self.pump()
        self.assertEqual([record.publisher for record in self.successResultOf(found)], [IDS[1]])
        self.assertEqual(self.successResultOf(published), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_stopped_node(self) -> None:
        """If the application stops its DHT node, a channel says so: this is no bug of dtt."""

        class Stopped(MemoryChannel):
            def find(self, source: str, search: SearchState | None = None) -> Deferred[Any]:
                raise LocalError("the DHT node has been stopped")

        with capturedLogs() as logs:
            found = Channels([Stopped(self.clock, IDS[0], {}), self.quick]).find("test")
            self.pump()
        self.assertEqual([record.publisher for record in self.successResultOf(found)], [IDS[1]])
        (event,) = logs
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertTrue((formatEvent(event) or "").endswith("failed: the DHT node has been stopped"))

    def test_cancel(self) -> None:
        """Cancelling a call cancels it on all channels, without an error in the log."""
        for call in (self.channels.find("test"), self.channels.publish(content, "test")):
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel_late(self) -> None:
        """The same if some channels have ended."""
        found = self.channels.find("test")
        self.clock.pump([0.5] * 4)
        found.cancel()
        self.failureResultOf(found, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ready(self) -> None:
        """The first channel that is ready is sufficient."""
        one, other = (ReadyLater(self.clock, IDS[0], {}) for _ in range(2))
        ready = Channels([one, other]).when_ready()
        self.assertNoResult(ready)
        other.ready.callback(None)
        self.assertIsNone(self.successResultOf(ready))

    def test_ready_one_after_another(self) -> None:
        """Channels that can't be used yet are not asked; each that becomes ready is reported."""
        one, other = (ReadyLater(self.clock, IDS[0], self.stores[0]) for _ in range(2))
        channels = Channels([one, other])
        channels.when_ready()
        self.assertEqual(channels.ready, 0)
        other.ready.callback(None)
        more = channels.when_more_ready()
        self.assertEqual((channels.ready, len(self.successResultOf(channels.find("test")))), (1, 1))
        self.assertNoResult(more)
        one.ready.callback(None)
        self.successResultOf(more)
        self.assertEqual((channels.ready, len(self.successResultOf(channels.find("test")))), (2, 2))

    def test_stop_waiting(self) -> None:
        """Who waits no longer asks all channels."""
        one, other = (ReadyLater(self.clock, IDS[0], {}) for _ in range(2))
        channels = Channels([one, other])
        channels.when_ready()
        other.ready.callback(None)
        channels.stop_waiting()
        self.assertTrue(one.ready.called)
        self.assertEqual(channels.ready, 2)

    def test_ready_cancelled(self) -> None:
        """Waiting can be cancelled."""
        one = ReadyLater(self.clock, IDS[0], {})
        ready = Channels([one]).when_ready()
        ready.cancel()
        self.failureResultOf(ready, CancelledError)
        self.assertTrue(one.ready.called)
