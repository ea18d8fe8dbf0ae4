"""
The limits on members that records may name.  Pure.

Rules (docs/protocol/records.md section 6, "Budgets"): of the members that the records of
one publisher name, at most 10 new ones a minute are joined.  An honest publisher names
its five neighbours, and few of these change within a minute; a hostile one could name five
other ids in each of its records.  Of those that all publishers together name, at most 10 new
ones a minute are joined as well, chosen round-robin among the publishers: most cost a lookup
of their address, and an insider can invent any number of publishers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final

from attrs import evolve

from dtt.discovery.candidates import FoundRecord, candidates

#: Members that one publisher may name within C{WINDOW} seconds (guess: twice the neighbours
#: of a member).
MAX_NAMED: Final = 10
WINDOW: Final = 60.0

#: New members that all publishers together may name within C{WINDOW} seconds (guess: a lookup costs
#: about 60 datagrams).
MAX_NEW: Final = 10

#: The publishers that are remembered; the one that was heard longest ago is forgotten first.
#: Guess: the values of a slot that are remembered.
MAX_PUBLISHERS: Final = 256


class Hearsay:
    """
    The members that each publisher has named in the last minute.
    """

    def __init__(self) -> None:
        # When each was first named; the publisher heard last is the last.
        self._named: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()
        # When each member was first named by any publisher.
        self._all: dict[bytes, float] = {}

    def candidates(
        self, records: Sequence[FoundRecord], now: float, without: Sequence[bytes] = ()
    ) -> tuple[list[bytes], list[bytes]]:
        """
        Return the peer ids that C{records} name, as
        L{candidates<dtt.discovery.candidates.candidates>} does, without those that their
        publishers may not name now.

        @param records: the records.
        @param now: seconds, monotonic.
        @param without: peer ids to leave out.
        """
        limited = [self._limited(record, now) for record in records]
        publishers, named = candidates(limited, without)
        self._all = {peer: at for peer, at in self._all.items() if at > now - WINDOW}
        unknown = set(named)
        for peer in chain.from_iterable(zip_longest(*(record.active_peers for record in limited))):
            if len(self._all) >= MAX_NEW:
                break
            if peer in unknown:
                self._all.setdefault(peer, now)
        return publishers, [peer for peer in named if peer in self._all]

    def _limited(self, record: FoundRecord, now: float) -> FoundRecord:
        publisher = record.publisher
        named = {peer: at for peer, at in self._named.get(publisher, {}).items() if at > now - WINDOW}
        for peer in record.active_peers:
            if len(named) < MAX_NAMED:
                named.setdefault(peer, now)
        self._named[publisher] = named
        self._named.move_to_end(publisher)
        if len(self._named) > MAX_PUBLISHERS:
            self._named.popitem(last=False)
        return evolve(record, active_peers=tuple(peer for peer in record.active_peers if peer in named))
