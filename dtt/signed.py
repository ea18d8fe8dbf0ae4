"""
Topics whose messages prove their author.

Without this, a message is authenticated hop by hop only: a member can change the messages that it forwards,
and claim any author. With it, each message is signed with the key of its author, whose public key is the peer
id.  Messages that are not signed, badly signed, too old, too new or replayed do not reach the application;
they are counted, and reported as events.  All members of the topic must use it: the messages of others are
refused.

docs/protocol/signed.md specifies the format, for other implementations;
L{dtt.records.envelope} and L{dtt.records.replays} are the codec and the check for
replays, without any I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dtt.arguments import check_bytes, check_function, check_methods, check_seconds, check_type
from dtt.errors import EnvelopeRefused, TopicLeft
from dtt.events import MessageRefused
from dtt.feed import Feed
from dtt.interfaces import GossipMessage, PeerId
from dtt.records.envelope import OVERHEAD as OVERHEAD
from dtt.records.replays import WINDOW as _WINDOW
from dtt.records.replays import Verifier
from dtt.tracker.topic import TopicService

#: Seconds by which the time of a message may differ from ours.
WINDOW = _WINDOW / 1000

#: Seconds between two events for the same reason (guess: an operator can read them).
REPORT_INTERVAL = 10.0


def _size(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@frozen(slots=True)
class SignedMessage:
    """
    A message whose author is proved.

    @ivar author: the peer id of the member that wrote it, 32 bytes.
    @ivar time: when, by its clock, in seconds since 1970; it differs from ours by at most
        the window.
    @ivar counter: higher than in all messages that this author wrote before.
    @ivar content: the content.
    @ivar delivered_from: the peer id of the neighbour that delivered it, 32 bytes.
    @ivar scope: C{"swarm"} or C{"neighbors"}; the author has not signed this.
    """

    author: PeerId = field(repr=bytes.hex)
    time: float
    counter: int
    content: bytes = field(repr=_size)
    delivered_from: PeerId = field(repr=bytes.hex)
    scope: str


class SignedObserver(Protocol):
    """
    The type of an observer of a L{SignedTopic}.
    """

    def message_received(self, message: SignedMessage, /) -> object:
        """
        Called when a message of the topic has arrived whose author is proved.
        """


class SignedTopic:
    """
    A topic whose messages are signed::

        signed = SignedTopic(tracker.join("garden party", secret=b"between us"))
        signed.subscribe(observer)

    Create one for each topic, before messages arrive. The object remembers accepted messages while it exists:
    after a restart, messages of the last minutes could be replayed once.

    @ivar topic: the topic; use its other methods directly.
    """

    _log = Logger()

    def __init__(self, topic: TopicService, window: float = WINDOW) -> None:
        """
        @param topic: the topic.
        @param window: seconds by which the time of a message may differ from ours, more
            than 0: clocks differ, and messages take time.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: the window is not such a number.
        @raise TopicLeft: the topic was left.
        """
        check_type("topic", topic, TopicService, "the result of Tracker.join()")
        check_seconds("window", window)
        self.topic = topic
        self._signing = topic.signing
        self._verifier = Verifier(self._signing.topic_id, self._signing.own_id, window)
        self._observers: dict[object, SignedObserver] = {}
        self._counters: Counter[str] = Counter()
        # When each reason was last reported, and how many refusals were not.
        self._reported: dict[str, float] = {}
        self._omitted: Counter[str] = Counter()
        self._left = False
        topic.subscribe(_Receiver(self._received, self._topic_left))

    def __repr__(self) -> str:
        return f"<SignedTopic {self.topic!r}>"

    def subscribe(self, observer: SignedObserver) -> Callable[[], None]:
        """
        Call C{observer.message_received} with each L{SignedMessage} from now on.  Neighbours
        are reported by the topic itself.

        @return: a function that ends the subscription.
        @raise WrongType: the observer has no such method, or it is a coroutine function.
        @raise TopicLeft: the topic was left.
        """
        check_methods("observer", observer, ("message_received",), "an object with a method message_received")
        check_function("message_received of the observer", observer.message_received)
        if self._left:
            raise TopicLeft("the topic was left")
        key = object()
        self._observers = {**self._observers, key: observer}

        def end() -> None:
            self._observers = {each: self._observers[each] for each in self._observers if each is not key}

        return end

    def broadcast(self, content: bytes) -> Deferred[Any]:
        """
        Sign C{content}, and send it to the whole swarm.  Equal contents are different
        messages.

        @param content: L{OVERHEAD} (113) bytes less than a message may have: 3942 bytes by
            default.
        @return: as L{TopicService.broadcast<dtt.tracker.topic.TopicService.broadcast>},
            whose errors it also raises.
        """
        return self._send(self.topic.broadcast, content)

    def broadcast_neighbors(self, content: bytes) -> Deferred[Any]:
        """
        Sign C{content}, and send it to direct neighbours only; otherwise as L{broadcast}.
        """
        return self._send(self.topic.broadcast_neighbors, content)

    def send(self, peer_id: PeerId, content: bytes) -> Deferred[None]:
        """
        Sign C{content}, and send it to one direct neighbour; otherwise as
        L{TopicService.send<dtt.tracker.topic.TopicService.send>}.
        """
        return self._send(lambda envelope: self.topic.send(peer_id, envelope), content)

    def messages(self) -> Feed[SignedMessage]:
        """
        Return an asynchronous iterator over the messages that arrive from now on; otherwise
        as L{TopicService.messages<dtt.tracker.topic.TopicService.messages>}.

        @raise TopicLeft: the topic was left.
        """

        def closed() -> None:
            unsubscribe()
            end()

        feed: Feed[SignedMessage] = Feed(closed)
        end = self.topic.subscribe(_Receiver(lambda message: None, feed.end))
        unsubscribe = self.subscribe(_Feeder(feed.put))
        return feed

    def counters(self) -> dict[str, int]:
        """
        Return how many messages were refused, by reason: C{refused_not_signed},
        C{refused_bad_signature}, C{refused_time}, C{refused_replay} and
        C{refused_too_many_authors}.
        """
        return dict(self._counters)

    # Internals

    def _send(self, send: Callable[[bytes], Deferred[Any]], content: bytes) -> Deferred[Any]:
        check_bytes("content", content)
        return send(self._signing.seal(content))

    def _topic_left(self) -> None:
        self._left = True

    def _received(self, message: GossipMessage) -> None:
        try:
            opened = self._verifier.open(message.content, self._signing.now())
        except EnvelopeRefused as refusal:
            self._refused(message, refusal)
            return
        signed = SignedMessage(
            opened.author,
            opened.time / 1000,
            opened.counter,
            opened.content,
            message.delivered_from,
            message.scope,
        )
        for key, observer in self._observers.items():
            # An earlier observer may have ended this one's subscription.
            if key in self._observers:
                try:
                    observer.message_received(signed)
                except Exception:
                    self._log.failure("unexpected error in an observer of a signed topic")

    def _refused(self, message: GossipMessage, refusal: EnvelopeRefused) -> None:
        reason, now = refusal.reason, self._signing.now()
        self._counters["refused_" + reason.replace(" ", "_")] += 1
        last = self._reported.get(reason)
        if last is not None and last <= now < last + REPORT_INTERVAL:
            self._omitted[reason] += 1
            return
        self._reported[reason] = now
        author = None if reason == "bad signature" else refusal.author
        self._signing.emit(
            MessageRefused(
                self._signing.topic_id,
                message.delivered_from,
                reason,
                author,
                refusal.ahead,
                self._omitted.pop(reason, 0),
            )
        )


class _Receiver:
    """
    Observes a topic for its messages.
    """

    def __init__(
        self, received: Callable[[GossipMessage], None], left: Callable[[], object] = lambda: None
    ) -> None:
        self._received = received
        self._left = left

    def neighbor_up(self, peer_id: PeerId) -> None:
        """Do nothing."""

    def neighbor_down(self, peer_id: PeerId) -> None:
        """Do nothing."""

    def message_received(self, message: GossipMessage) -> None:
        """Pass it on."""
        self._received(message)

    def topic_left(self) -> None:
        """Pass it on."""
        self._left()


class _Feeder:
    """
    Observes a signed topic for a L{Feed}.
    """

    def __init__(self, put: Callable[[SignedMessage], None]) -> None:
        self._put = put

    def message_received(self, message: SignedMessage) -> None:
        """Pass it on."""
        self._put(message)
