"""
Which signed messages were seen before.  Pure.

Rules (docs/protocol/signed.md section 2):

  - A message is refused if its time differs from ours by more than L{WINDOW}.
  - Of each author, the last L{SPAN} counters are remembered, as a bitmap below the
    highest one (RFC 4303 section 3.4.3); lower ones are refused.
  - An author is forgotten when all messages of its that were accepted would be refused
    for their time.  Beyond L{MAX_AUTHORS}, the one whose last message is the oldest is
    forgotten before; from then on, messages of authors that are not remembered then are
    refused if they are not newer than that message.  If the last messages of all are
    ahead of our time, the new author is refused instead.  So no message is accepted twice,
    whatever others send, and members with a good clock are always heard.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from attrs import define

from dtt.errors import EnvelopeRefused
from dtt.records.envelope import Envelope, unseal

#: Milliseconds by which the time of a message may differ from ours.  Guess: clocks agree within a
#: minute (docs/protocol/records.md section 6), and neighbours keep contents for 90 s.
WINDOW = 180_000

#: Counters remembered of an author (guess: more messages of one author are hardly on the way at the
#: same time).
SPAN = 1024

#: Authors remembered (guess: some 400 bytes each).
MAX_AUTHORS = 4096

_MASK = (1 << SPAN) - 1


@define(slots=True)
class _Author:
    """
    The remembered state of an author.

    @ivar highest: its highest counter.
    @ivar seen: bit n: whether C{highest - n} was seen.
    @ivar latest: the highest time of its messages, in milliseconds.
    @ivar floor: its messages must be newer: those before may be forgotten.
    """

    highest: int
    seen: int
    latest: int
    floor: int


class Replays:
    """
    The messages of one topic that were accepted.
    """

    def __init__(self, window: int = WINDOW, max_authors: int = MAX_AUTHORS) -> None:
        """
        @param window: milliseconds by which the time of a message may differ from ours.
        @param max_authors: how many authors are remembered.
        """
        self._window = window
        self._max_authors = max_authors
        self._authors: dict[bytes, _Author] = {}
        # (latest, author), the oldest first; entries that are not up to date are skipped.
        self._order: list[tuple[int, bytes]] = []
        # Messages of unknown authors must be newer.
        self._floor = -1

    def __len__(self) -> int:
        return len(self._authors)

    def check(self, message: Envelope, now: int) -> None:
        """
        Accept a message that was not accepted before.

        @param message: a verified message.
        @param now: our time, in milliseconds since 1970.
        @raise EnvelopeRefused: it is too old, too new, or was accepted before.
        """
        ahead = message.time - now
        if abs(ahead) > self._window:
            raise EnvelopeRefused("time", message.author, ahead / 1000)
        self._expire(now)
        known = self._authors.get(message.author)
        if message.time <= (self._floor if known is None else known.floor):
            raise EnvelopeRefused("replay", message.author)
        if known is None:
            known = _Author(message.counter, 1, message.time, self._floor)
            self._authors[message.author] = known
        else:
            self._count(known, message)
            if message.time <= known.latest:
                return
            known.latest = message.time
        if len(self._order) > 4 * self._max_authors:
            self._order = [(each.latest, author) for author, each in self._authors.items()]
            heapify(self._order)
        heappush(self._order, (known.latest, message.author))
        if len(self._authors) > self._max_authors:
            latest, author = self._oldest()
            if latest > now:
                heappush(self._order, (latest, author))
                del self._authors[message.author]
                raise EnvelopeRefused("too many authors", message.author)
            del self._authors[author]
            self._floor = max(self._floor, latest)

    def _count(self, known: _Author, message: Envelope) -> None:
        ahead = message.counter - known.highest
        if ahead > 0:
            known.seen = (known.seen << ahead | 1) & _MASK if ahead < SPAN else 1
            known.highest = message.counter
            return
        bit = 1 << -ahead if -ahead < SPAN else 0
        if not bit or known.seen & bit:
            raise EnvelopeRefused("replay", message.author)
        known.seen |= bit

    def _oldest(self) -> tuple[int, bytes]:
        """
        Remove and return the entry of the author whose last message is the oldest.
        """
        while True:
            latest, author = heappop(self._order)
            known = self._authors.get(author)
            if known is not None and known.latest == latest:
                return latest, author

    def _expire(self, now: int) -> None:
        """
        Forget the authors all of whose messages would be refused for their time.
        """
        order = self._order
        while order and order[0][0] < now - self._window:
            latest, author = heappop(order)
            known = self._authors.get(author)
            if known is not None and known.latest == latest:
                del self._authors[author]


class Verifier:
    """
    Verifies the signed messages of one topic, and refuses replays.
    """

    def __init__(self, topic_id: bytes, own_id: bytes, window: float = WINDOW / 1000) -> None:
        """
        @param topic_id: 32 bytes.
        @param own_id: our peer id, 32 bytes: our own messages are refused if they come back.
        @param window: seconds by which the time of a message may differ from ours.
        """
        self._topic_id = topic_id
        self._own_id = own_id
        self._replays = Replays(round(window * 1000))

    def open(self, data: bytes, now: float) -> Envelope:
        """
        Verify a message.

        @param data: the content of a message of the topic.
        @param now: our time, in seconds since 1970.
        @raise EnvelopeRefused: it is not signed, badly signed, too old, too new or a
            replay.
        """
        message = unseal(self._topic_id, data)
        if message.author == self._own_id:
            raise EnvelopeRefused("replay", message.author)
        self._replays.check(message, round(now * 1000))
        return message
