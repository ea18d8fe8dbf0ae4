"""
What was found in slots.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from attrs import evolve, frozen

from dtt.wire.addresses import PeerAddress

T = TypeVar("T")


@frozen(slots=True)
class FoundRecord:
    """
    What one publisher says in a slot; of several valid records by one, united.

    @ivar publisher: its peer id, 32 bytes.
    @ivar minute: the slot's unix minute.
    @ivar active_peers: its neighbours, hearsay; only valid peer ids.
    @ivar last_message_hashes: of messages that it received, 32 bytes each.
    @ivar addresses: where it listens.
    """

    publisher: bytes
    minute: int
    active_peers: tuple[bytes, ...] = ()
    last_message_hashes: tuple[bytes, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()


def recent_minutes(minute: int) -> tuple[int, ...]:
    """
    C{minute} and the one before it; the first minute of all has none.
    """
    return (minute - 1, minute) if minute else (0,)


def candidates(
    records: Sequence[FoundRecord], without: Sequence[bytes] = ()
) -> tuple[list[bytes], list[bytes]]:
    """
    Whom C{records} name, each once: the publishers, and those known from
    hearsay only.

    @param without: peer ids to leave out.
    """
    excluded = frozenset(without)
    publishers = dict.fromkeys(record.publisher for record in records if record.publisher not in excluded)
    hearsay = dict.fromkeys(
        peer
        for record in records
        for peer in record.active_peers
        if peer not in excluded and peer not in publishers
    )
    return list(publishers), list(hearsay)


def unite(records: Sequence[FoundRecord]) -> list[FoundRecord]:
    """
    One entry for each publisher, of C{records} of one slot: everything that
    any of its records says, once each, in the order of C{records}.
    """
    united: dict[bytes, FoundRecord] = {}
    for record in records:
        known = united.get(record.publisher)
        if known is not None:
            record = evolve(
                known,
                active_peers=_merged(known.active_peers, record.active_peers),
                last_message_hashes=_merged(known.last_message_hashes, record.last_message_hashes),
                addresses=_merged(known.addresses, record.addresses),
            )
        united[record.publisher] = record
    return list(united.values())


def _merged(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*first, *second)))
