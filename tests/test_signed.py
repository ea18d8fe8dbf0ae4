"""
Tests for L{dtt.signed}: signed topics of members in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dtt.errors import ContentTooLarge, TopicLeft, UsageError, WrongType
from dtt.events import MessageRefused, duration
from dtt.identity import PeerKey
from dtt.records.envelope import OVERHEAD, seal
from dtt.signed import REPORT_INTERVAL, WINDOW, SignedMessage, SignedTopic
from dtt.testing.fake_tracker import FakeTracker
from tests.tracker.test_topic import Member, TopicTestCase


class Listener:
    """
    Keeps messages.
    """

    def __init__(self) -> None:
        self.messages: list[SignedMessage] = []

    def message_received(self, message: SignedMessage) -> None:
        """Keep it."""
        self.messages.append(message)


class SignedTopicTests(TopicTestCase):
    """
    Three members; the third one is hostile.
    """

    def setUp(self) -> None:
        super().setUp()
        self.members = [self.member(number) for number in range(3)]
        self.advance(10)
        self.assertEqual([len(member.topic.neighbors()) for member in self.members], [2] * 3)
        self.topics = [SignedTopic(self.topic(member)) for member in self.members[:2]]
        self.listeners = [Listener(), Listener()]
        for signed, listener in zip(self.topics, self.listeners, strict=True):
            signed.subscribe(listener)

    def topic(self, member: Member) -> Any:
        """The topic of a member."""
        return member.topic

    def now(self) -> float:
        """The time."""
        return self.clock.seconds()

    def inject(self, content: bytes) -> None:
        """Let the hostile member send anything."""
        self.topic(self.members[2]).broadcast(content)
        self.advance(1)

    def refused(self, member: int = 1) -> list[MessageRefused]:
        """The events of a member."""
        return self.members[member].of(MessageRefused)

    def test_author(self) -> None:
        """A message names its author, also if it came another way; equal contents are two messages."""
        for _ in range(2):
            self.topics[0].broadcast(b"hello")
        self.advance(1)
        first, second = self.listeners[1].messages
        self.assertEqual((first.author, first.content), (self.members[0].peer_id, b"hello"))
        self.assertLess(abs(first.time - self.now()), 2)
        self.assertGreater(second.counter, first.counter)
        self.assertEqual(self.listeners[0].messages, [])
        self.topics[0].broadcast_neighbors(b"to neighbours")
        self.advance(1)
        self.assertEqual(self.listeners[1].messages[-1].scope, "neighbors")
        self.assertIn("counter=", repr(first))
        self.assertNotIn("hello", repr(first))

    def test_refused(self) -> None:
        """
        What is not signed, badly signed, or in another member's name is not delivered; it is counted
        and reported.
        """
        victim = self.members[0].peer_id
        own = PeerKey(b"k" * 32)
        forged = bytearray(seal(own, self.topic(self.members[0]).topic_id, int(self.now() * 1000), 1, b"x"))
        forged[1:33] = victim
        self.inject(b"plain")
        self.inject(bytes(forged))
        self.inject(seal(own, b"t" * 32, int(self.now() * 1000), 1, b"of another topic"))
        self.assertEqual(self.listeners[1].messages, [])
        counted = self.topics[1].counters()
        self.assertEqual(counted, {"refused_not_signed": 1, "refused_bad_signature": 2})
        events = self.refused()
        self.assertEqual([event.reason for event in events], ["not signed", "bad signature"])
        self.assertEqual({event.author for event in events}, {None})
        self.assertIn("Refused a message through", events[0].text())

    def test_replay(self) -> None:
        """
        A message is not delivered twice: not while gossip remembers it, not later, and not to its author.
        """
        heard: list[Any] = []

        class Thief:
            """Keeps what passes."""

            def neighbor_up(self, peer_id: bytes) -> None: ...

            def neighbor_down(self, peer_id: bytes) -> None: ...

            def message_received(self, message: Any) -> None:
                heard.append(message.content)

        self.topic(self.members[2]).subscribe(Thief())
        self.topics[0].broadcast(b"pay 5")
        self.advance(100)
        self.inject(heard[0])
        self.advance(WINDOW)
        self.inject(heard[0])
        self.assertEqual(len(self.listeners[1].messages), 1)
        self.assertEqual(self.listeners[0].messages, [])
        self.assertEqual(self.topics[1].counters(), {"refused_replay": 1, "refused_time": 1})
        self.assertEqual(self.topics[0].counters()["refused_replay"], 2)

    def test_time(self) -> None:
        """A member whose clock is wrong is not heard, and the event says whose clock, and by how much."""
        key, topic_id = PeerKey(b"k" * 32), self.topic(self.members[0]).topic_id
        for number, hours in enumerate((3, -3)):
            time = int((self.now() + 3600 * hours) * 1000)
            self.inject(seal(key, topic_id, time, number, b"late"))
            self.advance(REPORT_INTERVAL)
        ahead, behind = self.refused()
        self.assertEqual((ahead.reason, ahead.author), ("time", key.peer_id))
        self.assertLess(abs((ahead.ahead or 0) - 10_800), 2)
        self.assertLess(abs((behind.ahead or 0) + 10_800), 2)
        self.assertIn(f"its time is {duration(10_800)} ahead of ours", ahead.text())
        self.assertIn(f"its time is {duration(10_800)} behind ours", behind.text())
        self.assertEqual(self.listeners[1].messages, [])

    def test_reports_are_few(self) -> None:
        """Many refusals for one reason are one event in 10 s, which counts the others."""
        for number in range(5):
            self.inject(b"plain %d" % number)
        self.advance(REPORT_INTERVAL)
        self.inject(b"one more")
        self.assertEqual([event.omitted for event in self.refused()], [0, 4])
        self.assertIn("(4 others were not reported)", self.refused()[1].text())

    def test_estimated_time(self) -> None:
        """
        A member whose clock is wrong by an hour is heard, and hears others, once it knows by how much.
        """
        topic = self.topic(self.members[0])
        before = topic.signing.now()
        topic.signing._now = lambda: self.now() - 3600
        self.topics[0].broadcast(b"wrong clock")
        self.advance(1)
        self.assertEqual(self.listeners[1].messages, [])
        topic.signing._now = lambda: self.now() - 3600 + 3599
        self.topics[0].broadcast(b"estimated")
        self.advance(1)
        self.assertEqual([m.content for m in self.listeners[1].messages], [b"estimated"])
        self.assertLess(abs(before - self.now()), 5)

    def test_send_and_feed(self) -> None:
        """A message can be sent to a single neighbour, and messages can be iterated over, until the topic is
        left."""
        feed = self.topics[1].messages()
        self.topics[0].send(self.members[1].peer_id, b"for you")
        self.advance(1)
        heard: list[bytes] = []

        async def read() -> None:
            async for message in feed:
                note(message)
            heard.append(b"end")

        def note(message: SignedMessage) -> None:
            heard.append(message.content)

        reading = Deferred.fromCoroutine(read())
        self.assertEqual(heard, [b"for you"])
        self.topics[0].broadcast(b"for all")
        self.advance(1)
        self.topic(self.members[1]).leave()
        self.advance(2)
        self.successResultOf(reading)
        self.assertEqual(heard, [b"for you", b"for all", b"end"])

    def test_fakes(self) -> None:
        """Signed topics work with the fakes, in an application's own tests."""
        tracker = FakeTracker()
        topic = tracker.join("garden party")
        listener = Listener()
        SignedTopic(topic).subscribe(listener)
        tracker.startService()
        topic.up(b"n" * 32)
        key = PeerKey(b"k" * 32)
        topic.receive(seal(key, topic.topic_id, int(topic.signing.now() * 1000), 1, b"hello"), b"n" * 32)
        self.assertEqual([m.author for m in listener.messages], [key.peer_id])
        with self.assertRaises(UsageError):
            tracker.server_endpoint(b"app/1")

    def test_observers(self) -> None:
        """A subscription can be ended; an observer that fails does not disturb others."""

        class Failing:
            """Fails."""

            def message_received(self, message: SignedMessage) -> None:
                raise ZeroDivisionError

        self.topics[1].subscribe(Failing())
        late = Listener()
        end = self.topics[1].subscribe(late)
        self.topics[0].broadcast(b"1")
        self.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        end()
        end()
        self.topics[0].broadcast(b"2")
        self.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(([m.content for m in late.messages], len(self.listeners[1].messages)), ([b"1"], 2))

    def test_arguments(self) -> None:
        """Wrong arguments are refused at the call, and contents that are too large."""

        class Asynchronous:
            async def message_received(self, message: SignedMessage) -> None:
                """Nobody would wait for it."""

        wrong: Any
        for wrong in (lambda: 0, None, object(), Listener, Asynchronous()):
            with self.assertRaises(WrongType):
                self.topics[0].subscribe(wrong)
        for wrong in (None, "topic", self.topics[0]):
            with self.assertRaises(WrongType):
                SignedTopic(wrong)
        for wrong in (0, -1, "60", float("nan"), float("inf")):
            with self.assertRaises(UsageError):
                SignedTopic(self.topic(self.members[0]), wrong)
        for wrong in ("text", None):
            with self.assertRaises(WrongType):
                self.topics[0].broadcast(wrong)
        self.topics[0].broadcast(bytes(4055 - OVERHEAD))
        with self.assertRaises(ContentTooLarge):
            self.topics[0].broadcast(bytes(4056 - OVERHEAD))
        self.advance(1)
        self.assertEqual(len(self.listeners[1].messages[0].content), 3942)
        self.topic(self.members[0]).leave()
        self.advance(1)
        with self.assertRaises(TopicLeft):
            self.topics[0].broadcast(b"late")
        with self.assertRaises(TopicLeft):
            self.topics[0].subscribe(Listener())
