"""
The members that the discovery channels of a topic find, and their outcomes.  Pure.

Rules: a find belongs to the channel that was first, and ends once: the member has become a
neighbour (C{joined}), could not be reached (C{unreachable}), is another peer (C{wrong_key}),
was reached and has not become a neighbour (C{refused}), or none of these happened in time
(C{expired}).  A member that no channel has found counts for the channel L{PEERS} from when we
are connected to it, or have tried to be.  Everything is bounded; excess finds expire earlier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from attrs import frozen

from dtt.discovery.candidates import FoundRecord
from dtt.interfaces import PeerId

#: Seconds after which a find has expired, and after which a member that was reached has refused us
#: (guesses: a dial takes up to ten seconds, and may wait for its turn).
EXPIRY: Final = 120.0
REFUSED_AFTER: Final = 30.0

#: The most open finds, and the most ended ones that are remembered, so that records that are
#: read again do not count again (guesses: a slot has some thirty records, which name five
#: members each).
MAX_OPEN: Final = 512
MAX_ENDED: Final = 512

#: Records that are remembered, and the seconds for which they are shown (guesses: two full slots,
#: and the time span that matters when looking for a problem).
MAX_RECORDS: Final = 64
RECORDS_FOR: Final = 600.0

#: The channel of members that no channel has found: they have found us, or members have named them.
PEERS: Final = "peers"

#: The kinds of addresses by the source that the address book names.
_KINDS: Final = {"record": "hint", "pkarr": "pkarr", "": "none"}

_WRONG_KEY: Final = "wrong peer key"


@frozen(slots=True)
class SeenRecord:
    """
    A record that a channel has found.

    @ivar record: the record, with its channel.
    @ivar seen: when it was first found, in seconds.
    """

    record: FoundRecord
    seen: float


@frozen(slots=True)
class _Open:
    """
    A find that has not ended.

    @ivar channel: the channel.
    @ivar is_named: whether only the records of others name the member.
    @ivar since: when it was found, in seconds.
    @ivar reached: when it was reached; C{None}: it was not.
    """

    channel: str
    is_named: bool
    since: float
    reached: float | None = None


class Finds:
    """
    The finds of a topic.  All times are seconds on one clock.
    """

    def __init__(self, source: Callable[[PeerId], str] = lambda _: "") -> None:
        """
        @param source: returns the source of a peer's address, see
            L{IAddressBook.source<dtt.interfaces.IAddressBook.source>}.
        """
        self._source = source
        # By channel and what was counted.
        self._counts: Counter[tuple[str, str]] = Counter()
        # By the kind of address and the outcome.
        self._ends: Counter[tuple[str, str]] = Counter()
        # All three in the order of time; of ended ones, the channel and when they ended.
        self._open: dict[PeerId, _Open] = {}
        self._ended: dict[PeerId, tuple[str, float]] = {}
        self._records: dict[tuple[PeerId, int, str], SeenRecord] = {}

    def counters(self, now: float) -> dict[str, int]:
        """
        Return the numbers by channel: C{CHANNEL_found} (publishers), C{CHANNEL_named} (members
        that others' records named first), and for both together C{CHANNEL_joined},
        C{CHANNEL_unreachable}, C{CHANNEL_wrong_key}, C{CHANNEL_refused} and
        C{CHANNEL_expired}; by the kind of address, C{hint}, C{pkarr}, C{gossip} or
        C{none}: C{address_KIND_OUTCOME}.

        @param now: the time, as for the other methods.
        """
        self._expire(now)
        channels = {f"{channel}_{what}": count for (channel, what), count in self._counts.items()}
        addresses = {f"address_{kind}_{outcome}": count for (kind, outcome), count in self._ends.items()}
        return channels | addresses

    def by_channel(self, now: float) -> dict[str, dict[str, int]]:
        """
        Return the same numbers for each channel: C{found}, C{named}, C{joined}, ..., without those
        that are zero.
        """
        self._expire(now)
        numbers: dict[str, dict[str, int]] = {}
        for (channel, what), count in self._counts.items():
            numbers.setdefault(channel, {})[what] = count
        return numbers

    def records(self, now: float) -> tuple[SeenRecord, ...]:
        """
        Return the records of the last ten minutes, at most 64, the latest last.
        """
        return tuple(each for each in self._records.values() if each.seen >= now - RECORDS_FOR)

    def channel_of(self, peer: PeerId) -> str:
        """
        Return the channel that has found a member recently.
        """
        if peer in self._open:
            return self._open[peer].channel
        return self._ended.get(peer, (PEERS, 0.0))[0]

    def found(self, record: FoundRecord, now: float) -> None:
        """
        A channel has reported a record, possibly again.

        @param record: the record, with its channel.
        """
        self._expire(now)
        self._records.setdefault((record.publisher, record.minute, record.channel), SeenRecord(record, now))
        if len(self._records) > MAX_RECORDS:
            del self._records[next(iter(self._records))]
        self._add(record.publisher, _Open(record.channel, is_named=False, since=now))
        for peer in record.active_peers:
            self._add(peer, _Open(record.channel, is_named=True, since=now))

    def dialled(self, peer: PeerId, now: float) -> None:
        """
        A member has been reached.
        """
        find = self._get(peer, now)
        if find is not None and find.reached is None:
            self._open[peer] = _Open(find.channel, find.is_named, find.since, now)

    def joined(self, peer: PeerId, now: float) -> None:
        """
        A member has become a neighbour.
        """
        self._get(peer, now)
        self._end(peer, "joined", now)

    def failed(self, peer: PeerId, reason: str, now: float) -> None:
        """
        A member could not be reached.

        @param reason: why, in a few words.
        """
        self._get(peer, now)
        self._end(peer, "wrong_key" if _WRONG_KEY in reason else "unreachable", now)

    def _expire(self, now: float) -> None:
        """
        End open finds that are too old, and forget ended ones.
        """
        for peer, find in tuple(self._open.items()):
            if find.reached is not None and now - find.reached >= REFUSED_AFTER:
                self._end(peer, "refused", now)
            elif now - find.since >= EXPIRY:
                self._end(peer, "expired" if find.reached is None else "refused", now)
        for peer, (_, at) in tuple(self._ended.items()):
            if now - at < EXPIRY:
                break
            del self._ended[peer]

    def _get(self, peer: PeerId, now: float) -> _Open | None:
        """
        Return the open find of a member, and create it if the member is unknown; C{None}: it has
        ended.
        """
        self._expire(now)
        self._add(peer, _Open(PEERS, is_named=False, since=now))
        return self._open.get(peer)

    def _add(self, peer: PeerId, find: _Open) -> None:
        known = self._open.get(peer)
        if known is not None:
            # Its own record says more than that of another member.
            if not known.is_named or find.is_named or find.channel == PEERS:
                return
            del self._open[peer]
        elif peer in self._ended:
            return
        if len(self._open) >= MAX_OPEN:
            self._end(next(iter(self._open)), "expired", find.since)
        self._open[peer] = find
        self._counts[find.channel, "named" if find.is_named else "found"] += 1

    def _end(self, peer: PeerId, outcome: str, now: float) -> None:
        find = self._open.pop(peer, None)
        if find is None:
            return
        self._counts[find.channel, outcome] += 1
        self._ends[_KINDS.get(self._source(peer), "gossip"), outcome] += 1
        self._ended[peer] = find.channel, now
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
