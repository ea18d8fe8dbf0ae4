"""
Tests for L{dtt.tracker.history}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.events import DHTReady, Event, Message
from dtt.records.topic import TopicId
from dtt.tracker.history import MAX_EVENTS, EventHistory, event_status

TOPIC = TopicId.from_name("garden party")


class EventHistoryTests(SynchronousTestCase):
    """
    Tests for L{EventHistory}.
    """

    def test_bounded(self) -> None:
        """The latest events are kept; messages are not, so that they can't displace the others."""
        clock = Clock()
        history = EventHistory(clock)
        for number in range(MAX_EVENTS + 10):
            history.add(DHTReady(number))
            history.add(Message(TOPIC, bytes(32), "swarm", b"hello"))
            clock.advance(1)
        events = history.status()
        self.assertEqual(len(events), MAX_EVENTS)
        self.assertEqual((events[0].time, events[-1].time), (10.0, MAX_EVENTS + 9.0))
        self.assertEqual(events[-1].text, f"The DHT answers; {MAX_EVENTS + 9} nodes known.")

    def test_observers(self) -> None:
        """Observers get every event, also messages, with its time, until they end that."""
        clock = Clock()
        clock.advance(5)
        history = EventHistory(clock)
        seen: list[tuple[str, Event, float]] = []
        ends = [
            history.observe(lambda event, time, name=name: seen.append((name, event, time)))  # type: ignore[misc]
            for name in "ab"
        ]
        message = Message(TOPIC, bytes(32), "swarm", b"hello")
        history.add(message)
        self.assertEqual(seen, [("a", message, 5.0), ("b", message, 5.0)])
        ends[0]()
        ends[0]()
        history.add(DHTReady(1))
        self.assertEqual(seen[2:], [("b", DHTReady(1), 5.0)])

    def test_end_within_an_event(self) -> None:
        """An observer may end within an event, and add another one; the others still get the event."""
        history = EventHistory(Clock())
        seen: list[str] = []

        def first(event: Event, time: float) -> None:
            seen.append("first")
            end()
            history.observe(lambda event, time: seen.append("new"))

        end = history.observe(first)
        history.observe(lambda event, time: seen.append("second"))
        history.add(DHTReady(1))
        self.assertEqual(seen, ["first", "second"])
        history.add(DHTReady(1))
        self.assertEqual(seen[2:], ["second", "new"])

    def test_same_observer_twice(self) -> None:
        """A function that observes twice is called twice, and ends one at a time."""
        history = EventHistory(Clock())
        seen: list[Event] = []

        def observer(event: Event, time: float) -> None:
            seen.append(event)

        end, _ = history.observe(observer), history.observe(observer)
        history.add(DHTReady(1))
        end()
        history.add(DHTReady(2))
        self.assertEqual(seen, [DHTReady(1), DHTReady(1), DHTReady(2)])

    def test_status(self) -> None:
        """An event of a topic names it; one of the tracker names none."""
        message = event_status(Message(TOPIC, bytes(32), "swarm", b"hello"), 5.0)
        self.assertEqual((message.time, message.name, message.topic), (5.0, "message", bytes(TOPIC)))
        ready = event_status(DHTReady(3), 6.0)
        self.assertEqual((ready.topic, ready.is_warning, ready.text), (None, False, DHTReady(3).text()))
