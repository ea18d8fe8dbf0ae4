"""
Placement: which of the nodes near a slot store our record. Pure.

Rules (docs/protocol/dht.md section 4, writer rules 2-6): all members of a topic write
to the same target, so a writer uses only free nodes, few of them, and different ones
from other writers. Candidates are the 32 nearest responsive nodes in three bands of
ranks: inner (1-12), middle (13-20), outer (21-32). Within a band they are ordered by
the rendezvous hash H(own id, node id). Nodes with a valid id (BEP42) come first until
one of them holds a copy, then last: the crate mainline looks at valid ones before all
others.

At first there is one inner and one outer copy; later, with our record seen in the slot,
more; in a slot with many publishers, one copy each, so that 20 find a place. Only a
writer with fewer than two copies and no free node overwrites: junk first, then one
record of the publisher with the most copies.

The crate mainline writes a record to all of the 20 nodes that its readers look at, and on
nodes of its own kind that replaces every other record. A publisher with more copies than
dtt places shows which nodes these are: one of our missing copies takes the place of one
of its copies (rule 8).

The first copy may be placed before the read has ended, on one of the nearest nodes that
have answered by then (L{FirstCopy}; docs/protocol/latency.md section 3, item 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha512
from typing import Final

from attrs import evolve, frozen
from zope.interface import implementer

from dtt.dht.routing.ids import is_valid
from dtt.interfaces import IPlacement, MutableRead, NodeAnswer

#: The number of candidates, and the last ranks of the inner and the middle band
#: (docs/protocol/dht.md section 4, rules 2 and 3).
CANDIDATES: Final = 32
INNER: Final = 12
MIDDLE: Final = 20

#: With more publishers than this each has one copy: two copies of ten publishers, and
#: one of twelve more, fill the 32 nodes.
CROWD: Final = 10

#: With fewer copies than this a writer may overwrite (rules 5 and 6).
FEW: Final = 2

#: A publisher with at least this many copies can lose one (rule 6).
MANY: Final = 3

#: No member places more copies of its record than this; one that writes as the crate
#: mainline does has more (rules 4 and 8).
MOST: Final = 6

#: The highest sequence number (BEP44), which every record has.
MAX_SEQ: Final = 2**63 - 1

#: The first bytes of C{v} of the Rust crate mainline: unlike other implementations, it
#: replaces a value of equal C{seq} (docs/protocol/dht.md section 1).
_MAINLINE: Final = b"RS"


def default_copies(publishers: int) -> int:
    """
    Return the number of copies per publisher (docs/protocol/dht.md section 4, rule 4).

    @param publishers: at least 1.
    """
    return 1 if publishers > CROWD else max(2, min(MOST, 20 // publishers))


def _can_be_overwritten(answer: NodeAnswer) -> bool:
    return answer.version.startswith(_MAINLINE) or (answer.seq is not None and answer.seq < MAX_SEQ)


def _is_valid(answer: NodeAnswer) -> bool:
    return is_valid(answer.contact.node_id, answer.contact.host)


def _valid(answers: Sequence[NodeAnswer], first: bool) -> list[NodeAnswer]:
    """
    Sort the answers of nodes with valid ids (BEP42) before the others, or after them;
    otherwise keep their order.
    """
    return sorted(answers, key=lambda answer: _is_valid(answer) is not first)


@frozen(slots=True)
class _Survey:
    """
    The evaluation of a read.

    @ivar bands: the answers of each band, most preferred first.
    @ivar publishers: the publisher of each record, by the id of the node that holds it.
    @ivar junk: the ids of the nodes that hold a value that is not a record.
    @ivar copies: the number of nodes that hold our record.
    @ivar has_valid: whether any of these has a valid id (BEP42).
    @ivar wanted: the number of copies that we should have.
    @ivar flooded: the answers of nodes that hold a record of a publisher with more than
        L{MOST} copies and can be overwritten, if one of our copies is to replace one.
    """

    bands: tuple[list[NodeAnswer], list[NodeAnswer], list[NodeAnswer]]
    publishers: dict[bytes, bytes]
    junk: frozenset[bytes]
    copies: int
    has_valid: bool
    wanted: int
    flooded: list[NodeAnswer]


@implementer(IPlacement)
class Placement:
    """
    The placement of one member's records.

    @ivar own_id: the result of C{classify} for our own records.
    """

    def __init__(
        self,
        own_id: bytes,
        classify: Callable[[bytes], bytes | None],
        copies: Callable[[int], int] = default_copies,
    ) -> None:
        """
        @param own_id: the initial L{own_id}, our peer id.
        @param classify: returns the publisher of a value found in the slot, or C{None}
            if it is junk (can't be decrypted or verified).
        @param copies: returns the number of copies per publisher, given the number of
            publishers in the slot, including us.
        """
        self.own_id = own_id
        self._classify = classify
        self._wanted = copies

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        Plan the missing copies by rules 2, 3 and 4, except the one that is left to rule 8.
        """
        survey = self._survey(read, value)
        free = [
            [answer for answer in band if answer.value is None and answer.token is not None]
            for band in survey.bands
        ]
        from_inside = [answer for band in free for answer in _valid(band, not survey.has_valid)]
        if not from_inside:
            return []
        # The first copy counts, if it is about to be placed.
        has_valid = survey.has_valid or (survey.copies == 0 and _is_valid(from_inside[0]))
        outer = _valid(free[-1], not has_valid)
        wanted = survey.wanted - bool(survey.flooded)
        if survey.copies < FEW:
            # The second copy leaves the inner ranks to other members' first copies,
            # unless there is no outer band, or nothing is free in it.
            spread = outer if len(read.answers) > MIDDLE else from_inside
            first_two = [from_inside, spread if survey.copies == 0 else spread or from_inside]
            return first_two[survey.copies : wanted]
        return [from_inside] * min(wanted - survey.copies, len(from_inside))

    def copies(self, read: MutableRead, value: bytes) -> int:
        """
        Return the number of nodes that hold our record.

        @param value: our current record.
        """
        return self._survey(read, value).copies

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Choose the values to overwrite by rules 5, 6 and 8, the first to try first. One
        success per copy missing to two is enough, and one if there are two.
        """
        survey = self._survey(read, value)
        answers = [answer for band in survey.bands for answer in band if answer.token is not None]
        if survey.copies >= FEW or any(answer.value is None for answer in answers):
            return survey.flooded if survey.copies < survey.wanted else []
        junk = [answer for answer in answers if answer.contact.node_id in survey.junk]
        # Last those that hold a value of equal seq: replacing it has no effect on
        # libtorrent, but may work on an unknown client.
        junk.sort(key=lambda answer: not _can_be_overwritten(answer))
        return [*junk, *self._from_largest_publishers(survey, answers)]

    def _from_largest_publishers(self, survey: _Survey, answers: list[NodeAnswer]) -> list[NodeAnswer]:
        left = Counter(survey.publishers.values())
        del left[self.own_id]
        chosen: list[NodeAnswer] = []
        candidates = [answer for answer in answers if _can_be_overwritten(answer)]
        for _ in range(FEW - survey.copies):
            largest = [publisher for publisher, copies in left.items() if copies >= MANY]
            largest.sort(key=lambda publisher: (-left[publisher], self._rendezvous(publisher)))
            for answer in (
                answer
                for publisher in largest
                for answer in candidates
                if survey.publishers.get(answer.contact.node_id) == publisher
            ):
                candidates.remove(answer)
                left[survey.publishers[answer.contact.node_id]] -= 1
                chosen.append(answer)
                break
        return chosen

    def _survey(self, read: MutableRead, value: bytes) -> _Survey:
        answers = read.answers[:CANDIDATES]
        values = dict.fromkeys(answer.value for answer in answers)
        known = {held: self._classify(held) for held in values if held}
        known[value] = self.own_id
        publishers: dict[bytes, bytes] = {}
        junk = set()
        for answer in answers:
            if answer.value is None:
                continue
            publisher = known.get(answer.value)
            if publisher is None:
                junk.add(answer.contact.node_id)
            else:
                publishers[answer.contact.node_id] = publisher
        inner, middle, outer = (
            sorted(band, key=lambda answer: self._rendezvous(answer.contact.node_id))
            for band in (answers[:INNER], answers[INNER:MIDDLE], answers[MIDDLE:])
        )
        own = [answer for answer in answers if publishers.get(answer.contact.node_id) == self.own_id]
        has_valid = any(map(_is_valid, own))
        bands = inner, middle, outer
        wanted = self._wanted(len({*publishers.values(), self.own_id}))
        flooded = self._flooded(bands, publishers) if wanted >= FEW else []
        return _Survey(bands, publishers, frozenset(junk), len(own), has_valid, wanted, flooded)

    def _flooded(self, bands: Iterable[list[NodeAnswer]], publishers: dict[bytes, bytes]) -> list[NodeAnswer]:
        copies = Counter(publishers.values())
        del copies[self.own_id]
        return [
            answer
            for band in bands
            for answer in band
            if answer.token is not None
            and _can_be_overwritten(answer)
            and (publisher := publishers.get(answer.contact.node_id)) is not None
            and copies[publisher] > MOST
        ]

    def _rendezvous(self, other_id: bytes) -> bytes:
        return sha512(self.own_id + other_id).digest()[:32]


@implementer(IPlacement)
class FirstCopy:
    """
    The placement of a first copy, based on what the nearest nodes have answered so far:
    on a free one of them, by the same order of preference. It never overwrites, which
    requires the answers of all nodes.
    """

    def __init__(self, placement: Placement) -> None:
        """
        @param placement: the placement of the other copies.
        """
        self._placement = placement

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        Plan one copy on the inner nodes; none if they already hold one.
        """
        inner = evolve(read, answers=read.answers[:INNER])
        return [] if self._placement.copies(inner, value) else self._placement.plan(inner, value)[:1]

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Return nothing.
        """
        return []
