"""
Replicated state of a topic: one small value for each author, of which the newest wins.

Rules:
  - L{LatestValues.put} broadcasts an entry to the swarm.
  - Two members that become neighbours compare versions, and each sends what the other lacks.  Thus a newcomer
    gets everything from its neighbours, and two partitions agree again after they merge.
  - A member does not broadcast entries that it learns in this way.  It sends its versions to its neighbours
    again, so only entries that are new to them spread further.
  - Once a minute a member compares versions with one neighbour, in case a message was lost.
  - The number of authors and the size of values are bounded.  An entry is sent to a neighbour at most once in
    10 s.

Entries are kept in memory only: they exist as long as any member has them, and are never removed.

The application decides whether to accept an author's entry: C{check} is called with each entry of others
before it is stored.  Without it, any member can write for any author.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random, SystemRandom
from types import NoneType
from typing import Any, Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.arguments import (
    check_bytes,
    check_function,
    check_integer,
    check_reactor,
    check_type,
    truth_of,
)
from dtt.contrib.latest_wire import (
    FIRST,
    LAST,
    MAX_AUTHOR,
    OVERHEAD,
    TO_NEIGHBOR,
    TO_SWARM,
    Entry,
    Summary,
    decode,
    encode_entry,
    encode_summaries,
    in_range,
    key_of,
)
from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, DuplicateContent, LocalError, TopicLeft, UsageError
from dtt.gossip.proto.config import GossipConfig
from dtt.interfaces import GossipMessage, PeerId
from dtt.tracker.topic import TopicService

__all__ = ["Entry", "LatestValues", "Limits"]

# The maximum size of a content in bytes, in a topic with the default settings.
MAX_CONTENT: Final = GossipConfig().max_content

#: The maximum of L{Limits.value}: an entry of the longest author must fit into a message.
MAX_VALUE: Final = MAX_CONTENT - OVERHEAD - MAX_AUTHOR

#: Seconds between two comparisons with a neighbour, and the maximum random addition (guess).
COMPARE_INTERVAL: Final = 60.0
COMPARE_JITTER: Final = 30.0

#: Seconds from learning an entry from a neighbour until the other neighbours are notified: more entries
#: usually follow (guess).
TELL_DELAY: Final = 0.5

#: Seconds in which an entry is sent to a neighbour only once (guess).
REPEAT_DELAY: Final = 10.0


@frozen(slots=True)
class Limits:
    """
    Limits of the stored entries.

    @ivar authors: the maximum number of authors; further ones are refused.
    @ivar value: the maximum size of a value in bytes.
    """

    authors: int = field(default=1000)
    value: int = field(default=2048)

    def __attrs_post_init__(self) -> None:
        """
        @raise WrongType: a limit is not an integer.
        @raise UsageError: it is too small or too large.
        """
        for name, least, most in (("authors", 1, None), ("value", 0, MAX_VALUE)):
            limit = getattr(self, name)
            check_integer(name, limit)
            if limit < least or (most is not None and limit > most):
                expected = f"at least {least}" if most is None else f"{least}..{most}"
                raise UsageError(f"{name} must be {expected}, not {limit}")


class LatestValues:
    """
    The replicated state of a topic, at one member.

    @ivar counters: what was refused, by reason: C{malformed}, C{too_large},
        C{too_many_authors}, C{not_accepted} (by C{check}).
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        topic: TopicService,
        *,
        check: Callable[[Entry], bool] = lambda entry: True,
        on_change: Callable[[Entry], object] = lambda entry: None,
        limits: Limits | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param topic: the topic, which may also carry other messages.
        @param check: returns whether to accept an entry of another member, C{True} or C{False}; an exception
            refuses it.  It is called only for newer entries.
        @param on_change: called with each entry of another member that has been stored.
        @param limits: bounds; C{None}: the defaults.
        @param rng: spreads the comparisons over time; C{None}: the system's.
        @raise WrongType: an argument has a wrong type.
        @raise TopicLeft: the topic was left.
        """
        check_reactor("reactor", reactor)
        check_type("topic", topic, TopicService, "the result of Tracker.join()")
        check_function("check", check)
        check_function("on_change", on_change)
        check_type("limits", limits, (Limits, NoneType), "Limits")
        check_type("rng", rng, (Random, NoneType), "a random.Random")
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._topic = topic
        self._check = check
        self._on_change = on_change
        self._limits = limits or Limits()
        self._rng = rng or SystemRandom()
        self._entries: dict[bytes, Entry] = {}
        # For each neighbour: the versions sent to it, by key, and when the first of them was sent.
        self._sent: dict[PeerId, tuple[float, dict[bytes, Entry]]] = {}
        # The queue of messages and their recipients.
        self._queue: dict[tuple[PeerId, bytes], None] = {}
        self._sending = self._closed = self._left = False
        self._telling: IDelayedCall | None = None
        self._comparing: IDelayedCall | None = None
        self._end = topic.subscribe(self)
        self._schedule_comparison()

    def __len__(self) -> int:
        """
        The number of authors.
        """
        return len(self._entries)

    def put(self, author: bytes, version: int, value: bytes) -> bool:
        """
        Store an entry and send it to all members, unless there is a newer one.

        @param author: 1..64 bytes.
        @param version: 0..2^64-1, larger than that of the author's previous value: for
            example milliseconds of the unix time.
        @param value: the value.
        @return: whether it was stored.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: an argument is too large or too small, or L{close} was called.
        @raise TopicLeft: the topic was left.
        """
        check_bytes("author", author)
        check_integer("version", version)
        check_bytes("value", value)
        self._check_open()
        if not 1 <= len(author) <= MAX_AUTHOR:
            raise UsageError(f"an author has 1..{MAX_AUTHOR} bytes, not {len(author)}")
        if not 0 <= version < 2**64:
            raise UsageError(f"a version is 0..2^64-1, not {version}")
        if len(value) > self._limits.value:
            raise UsageError(f"a value has at most {self._limits.value} bytes here, not {len(value)}")
        entry = Entry(author, version, value)
        key = key_of(author)
        if key not in self._entries and len(self._entries) >= self._limits.authors:
            raise UsageError(f"there are {self._limits.authors} authors already, which is the limit")
        if not entry.beats(self._entries.get(key)):
            return False
        self._entries[key] = entry
        if self._topic.neighbors():
            self._forgive(lambda: self._topic.broadcast(encode_entry(entry, TO_SWARM)))
        return True

    def get(self, author: bytes) -> Entry | None:
        """
        Return the newest entry of an author; C{None} if there is none.

        @raise WrongType: C{author} is not C{bytes}.
        """
        check_bytes("author", author)
        return self._entries.get(key_of(author))

    def entries(self) -> list[Entry]:
        """
        Return the newest entry of each author.
        """
        return list(self._entries.values())

    def close(self) -> None:
        """
        Stop.  Call this when the state is no longer needed; the end of the topic does it, too.  What is known
        can still be read.
        """
        self._closed = True
        self._end()
        cancel_if_active(self._telling)
        cancel_if_active(self._comparing)
        self._queue.clear()

    # Notifications of the topic

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Send our versions to a new neighbour.
        """
        self._sent.pop(peer_id, None)
        self._tell([peer_id])

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        Forget what was sent to it.
        """
        self._sent.pop(peer_id, None)

    def message_received(self, message: GossipMessage) -> None:
        """
        Handle a message, if it is one of ours.
        """
        try:
            decoded = decode(message.content)
        except DecodeError:
            self.counters["malformed"] += 1
            return
        direct = message.scope == "neighbors"
        if isinstance(decoded, Entry):
            self._learn(decoded, message.delivered_from, direct)
        elif decoded is not None and direct:
            self._compare(decoded, message.delivered_from)

    def topic_left(self) -> None:
        """
        Stop.
        """
        self._left = True
        self.close()

    def _check_open(self) -> None:
        if self._left:
            raise TopicLeft("the topic was left")
        if self._closed:
            raise UsageError("close() was called: create a new one")

    # Entries

    def _learn(self, entry: Entry, peer: PeerId, direct: bool) -> None:
        key = key_of(entry.author)
        known = self._entries.get(key)
        if not entry.beats(known):
            return
        if len(entry.value) > self._limits.value:
            self.counters["too_large"] += 1
        elif known is None and len(self._entries) >= self._limits.authors:
            self.counters["too_many_authors"] += 1
        elif not self._is_accepted(entry):
            self.counters["not_accepted"] += 1
        else:
            self._entries[key] = entry
            if direct:
                self._note_sent(peer, key, entry)
                if self._telling is None or not self._telling.active():
                    self._telling = self._reactor.callLater(TELL_DELAY, self._tell_all)
            try:
                self._on_change(entry)
            except Exception:
                self._log.failure("on_change failed")

    def _is_accepted(self, entry: Entry) -> bool:
        try:
            return truth_of("check", self._check(entry))
        except Exception:
            self._log.failure("check failed")
            return False

    # Comparison

    def _tell(self, peers: list[PeerId]) -> None:
        """
        Send our versions to neighbours.
        """
        versions = {key: entry.version for key, entry in self._entries.items()}
        for content in encode_summaries(Summary(FIRST, LAST, versions), MAX_CONTENT):
            for peer in peers:
                self._send(peer, content)

    def _tell_all(self) -> None:
        self._tell(list(self._topic.neighbors()))

    def _compare(self, theirs: Summary, peer: PeerId) -> None:
        """
        Send a neighbour the entries that it lacks; if we lack one, send it our versions.
        """
        ours = {key: self._entries[key].version for key in in_range(list(self._entries), theirs)}
        now = self._reactor.seconds()
        since, sent = self._sent.get(peer, (now, {}))
        if now - since >= REPEAT_DELAY:
            sent = {}
        for key, version in ours.items():
            if version > theirs.versions.get(key, -1) and sent.get(key) != self._entries[key]:
                self._queue[peer, key] = None
        if any(version > ours.get(key, -1) for key, version in theirs.versions.items()):
            for content in encode_summaries(Summary(theirs.first, theirs.last, ours), MAX_CONTENT):
                self._send(peer, content)
        if self._queue and not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send_queue())

    async def _send_queue(self) -> None:
        while self._queue:
            peer, key = next(iter(self._queue))
            del self._queue[peer, key]
            if peer in self._topic.neighbors():
                entry = self._entries[key]
                self._note_sent(peer, key, entry)
                await self._send(peer, encode_entry(entry, TO_NEIGHBOR))
        self._sending = False

    def _note_sent(self, peer: PeerId, key: bytes, entry: Entry) -> None:
        now = self._reactor.seconds()
        since, sent = self._sent.get(peer, (now, {}))
        if now - since >= REPEAT_DELAY:
            since, sent = now, {}
        sent[key] = entry
        self._sent[peer] = since, sent

    def _schedule_comparison(self) -> None:
        delay = COMPARE_INTERVAL + self._rng.uniform(0, COMPARE_JITTER)
        self._comparing = self._reactor.callLater(delay, self._compare_with_one)

    def _compare_with_one(self) -> None:
        self._schedule_comparison()
        neighbors = self._topic.neighbors()
        if neighbors:
            self._tell([self._rng.choice(neighbors)])

    # Sending

    def _send(self, peer: PeerId, content: bytes) -> Deferred[None]:
        return self._forgive(lambda: self._topic.send(peer, content))

    def _forgive(self, send: Callable[[], Deferred[Any]]) -> Deferred[None]:
        """
        Send a message.  Ignore errors because it was sent already or the recipient has gone.
        """
        done: Deferred[None] = Deferred()
        try:
            sending = send()
        except (DuplicateContent, LocalError):
            done.callback(None)
        else:
            sending.addBoth(lambda _: done.callback(None))
        return done
