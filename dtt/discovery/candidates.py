"""
The records found in slots, and the members that they name.  Pure.
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
    The content of a publisher's record in a slot; if it has several valid records
    there, the union of their contents.

    @ivar publisher: the peer id of the publisher, 32 bytes.
    @ivar minute: the slot's unix minute.
    @ivar active_peers: the peer ids of its neighbours (hearsay); only valid ids,
        32 bytes each.
    @ivar last_message_hashes: the hashes of messages that it has received, 32
        bytes each.
    @ivar addresses: the addresses on which it listens.
    """

    publisher: bytes
    minute: int
    active_peers: tuple[bytes, ...] = ()
    last_message_hashes: tuple[bytes, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()


def recent_minutes(minute: int) -> tuple[int, ...]:
    """
    Return the previous minute and C{minute}; only C{minute} if it is 0.
    """
    return (minute - 1, minute) if minute else (0,)


def candidates(
    records: Sequence[FoundRecord], without: Sequence[bytes] = ()
) -> tuple[list[bytes], list[bytes]]:
    """
    Return the peer ids that C{records} name, each once.

    @param records: the records.
    @param without: peer ids to leave out.
    @return: the publishers, and the members that are known only from hearsay.
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
    Merge the records of one slot by publisher: one entry for each publisher, with
    the union of the contents of its records, in the order of C{records}.
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
