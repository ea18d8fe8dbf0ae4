"""
Which of the nodes near a slot keep our record.  Pure.

Rules (docs/protocol/dht.md section 4, writer rules 2-6): every member of a topic
writes to the same target, so a writer takes free nodes only, few of them, and
each writer others.  Candidates are the 32 nearest responsive nodes in three
bands of ranks: inner (1-12), middle (13-20), outer (21-32).  Within a band
they are ordered by the rendezvous hash H(own id, node id), those whose id is
valid (BEP42) first until one of them holds a copy, then last: the crate mainline
looks at valid ones before all others.  First one inner
and one outer copy; later, with our record seen in the slot, more; in a slot of
many publishers, one copy each, so that 20 find a place.  Only a
writer that has fewer than two copies and finds no free node overwrites: junk
first, then one record of the publisher that has the most.
The first copy may be placed before the read has ended, on one of the nearest
nodes that have answered by then (L{FirstCopy}; docs/protocol/latency.md section 3,
item 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha512
from typing import Final

from attrs import evolve, frozen
from zope.interface import implementer

from dtt.dht.routing.ids import is_valid
from dtt.interfaces import IPlacement, MutableRead, NodeAnswer

#: Candidates, and the last ranks of the inner and the middle band
#: (docs/protocol/dht.md section 4, rules 2 and 3).
CANDIDATES: Final = 32
INNER: Final = 12
MIDDLE: Final = 20

#: With more publishers than this each has one copy: two of ten and one of twelve
#: more fill the 32 nodes.
CROWD: Final = 10

#: Below this many copies a writer may overwrite (rules 5 and 6).
FEW: Final = 2

#: A publisher with this many copies can lose one (rule 6).
MANY: Final = 3

#: The highest sequence number (BEP44): what every record is written with.
MAX_SEQ: Final = 2**63 - 1

#: How the Rust crate mainline starts its C{v}: with an equal C{seq} it
#: replaces the value, as no other does (docs/protocol/dht.md section 1).
_MAINLINE: Final = b"RS"


def default_copies(publishers: int) -> int:
    """
    How many copies each of C{publishers} (at least 1) should have
    (docs/protocol/dht.md section 4, rule 4).
    """
    return 1 if publishers > CROWD else max(2, min(6, 20 // publishers))


def _can_be_overwritten(answer: NodeAnswer) -> bool:
    return answer.version.startswith(_MAINLINE) or (answer.seq is not None and answer.seq < MAX_SEQ)


def _is_valid(answer: NodeAnswer) -> bool:
    return is_valid(answer.contact.node_id, answer.contact.host)


def _valid(answers: Sequence[NodeAnswer], first: bool) -> list[NodeAnswer]:
    """
    The answers of nodes whose ids are valid (BEP42) before the others, or
    behind them; else in their order.
    """
    return sorted(answers, key=lambda answer: _is_valid(answer) is not first)


@frozen(slots=True)
class _Survey:
    """
    What a read says.

    @ivar bands: the answers of each band, in order of preference.
    @ivar publishers: of each node id that holds one's record, the publisher.
    @ivar junk: node ids that hold something that is no record.
    @ivar copies: how many nodes hold our record.
    @ivar has_valid: whether the id of one of these is valid (BEP42).
    """

    bands: tuple[list[NodeAnswer], list[NodeAnswer], list[NodeAnswer]]
    publishers: dict[bytes, bytes]
    junk: frozenset[bytes]
    copies: int
    has_valid: bool


@implementer(IPlacement)
class Placement:
    """
    The placement of one member's records.

    @ivar own_id: what C{classify} returns for our own records.
    """

    def __init__(
        self,
        own_id: bytes,
        classify: Callable[[bytes], bytes | None],
        copies: Callable[[int], int] = default_copies,
    ) -> None:
        """
        @param classify: the publisher of a value found in the slot, or
            L{None} if it is junk (can't be decrypted or verified).
        @param copies: from the number of publishers in the slot, ours
            included, to the copies that each should have.
        """
        self.own_id = own_id
        self._classify = classify
        self._wanted = copies

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        See L{IPlacement.plan}: rules 2, 3 and 4.
        """
        survey = self._survey(read, value)
        free = [
            [answer for answer in band if answer.value is None and answer.token is not None]
            for band in survey.bands
        ]
        from_inside = [answer for band in free for answer in _valid(band, not survey.has_valid)]
        if not from_inside:
            return []
        # Where the first copy will be, if there is none yet.
        has_valid = survey.has_valid or (survey.copies == 0 and _is_valid(from_inside[0]))
        outer = _valid(free[-1], not has_valid)
        wanted = self._wanted(len({*survey.publishers.values(), self.own_id}))
        if survey.copies < FEW:
            # The second copy leaves the inner ranks to the first ones of
            # others, unless there is no outer rank at all, or none is left.
            spread = outer if len(read.answers) > MIDDLE else from_inside
            first_two = [from_inside, spread if survey.copies == 0 else spread or from_inside]
            return first_two[survey.copies : wanted]
        return [from_inside] * min(wanted - survey.copies, len(from_inside))

    def copies(self, read: MutableRead, value: bytes) -> int:
        """
        On how many nodes a record of ours lies.

        @param value: our present one.
        """
        return self._survey(read, value).copies

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        See L{IPlacement.overwrite}: rules 5 and 6.  The first ones are to be
        tried first; one is enough for each copy that is missing.
        """
        survey = self._survey(read, value)
        answers = [answer for band in survey.bands for answer in band if answer.token is not None]
        if survey.copies >= FEW or any(answer.value is None for answer in answers):
            return []
        junk = [answer for answer in answers if answer.contact.node_id in survey.junk]
        # What can't work on libtorrent, a replacement at equal seq, may work
        # on a client that we do not know: last.
        junk.sort(key=lambda answer: not _can_be_overwritten(answer))
        return [*junk, *self._from_the_richest(survey, answers)]

    def _from_the_richest(self, survey: _Survey, answers: list[NodeAnswer]) -> list[NodeAnswer]:
        left = Counter(survey.publishers.values())
        del left[self.own_id]
        chosen: list[NodeAnswer] = []
        candidates = [answer for answer in answers if _can_be_overwritten(answer)]
        for _ in range(FEW - survey.copies):
            rich = [publisher for publisher, copies in left.items() if copies >= MANY]
            rich.sort(key=lambda publisher: (-left[publisher], self._rendezvous(publisher)))
            for answer in (
                answer
                for publisher in rich
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
        known = {held: self._classify(held) for held in {answer.value for answer in answers} if held}
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
        return _Survey((inner, middle, outer), publishers, frozenset(junk), len(own), has_valid)

    def _rendezvous(self, other_id: bytes) -> bytes:
        return sha512(self.own_id + other_id).digest()[:32]


@implementer(IPlacement)
class FirstCopy:
    """
    The placement of a first copy, from what the nearest nodes have answered so
    far: on one of them that is free, by the same preference.  Nothing is
    overwritten: that is for who knows all of them.
    """

    def __init__(self, placement: Placement) -> None:
        """
        @param placement: that of the other copies.
        """
        self._placement = placement

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        See L{IPlacement.plan}: none if a copy of ours is there.
        """
        inner = evolve(read, answers=read.answers[:INNER])
        return [] if self._placement.copies(inner, value) else self._placement.plan(inner, value)[:1]

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        See L{IPlacement.overwrite}: nothing.
        """
        return []
