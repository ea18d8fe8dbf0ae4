"""
The records found in slots, and the members that they name.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from attrs import evolve, field, frozen

from dtt.identity import is_valid_peer_id
from dtt.records.record import GossipContent, Record
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
    @ivar content: the content that an application has published; C{None} in the record of a member of a
        swarm.
    @ivar channel: the name of the channel that has found it; C{""}: not yet known.  It is the origin of a
        record, not part of its content: comparisons of records ignore it.
    """

    publisher: bytes
    minute: int
    active_peers: tuple[bytes, ...] = ()
    last_message_hashes: tuple[bytes, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()
    content: bytes | None = None
    channel: str = field(default="", eq=False)


#: Reads the content of a verified record: called with the record and our own peer id.
#: Raises L{DecodeError<dtt.errors.DecodeError>}.
ContentReader: TypeAlias = Callable[[Record, bytes], FoundRecord]


def read_member(record: Record, own_id: bytes) -> FoundRecord:
    """
    Read a verified record of a member of a swarm.

    @param record: the record.
    @param own_id: our peer id, 32 bytes: no record names us as a neighbour.
    @raise DecodeError: it has no gossip content.
    """
    content = GossipContent.decode(record.content)
    return FoundRecord(
        record.publisher,
        record.minute,
        tuple(peer for peer in content.active_peers if peer != own_id and is_valid_peer_id(peer)),
        content.last_message_hashes,
        content.addresses,
    )


def read_opaque(record: Record, own_id: bytes) -> FoundRecord:
    """
    Read a verified record of an application, whatever it contains.

    @param record: the record.
    @param own_id: not used.
    """
    return FoundRecord(record.publisher, record.minute, content=record.content)


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
    the union of the contents of its records, in the order of C{records}.  Contents of
    applications are not united: there is one entry for each.
    """
    united: dict[tuple[bytes, bytes | None], FoundRecord] = {}
    for record in records:
        key = record.publisher, record.content
        known = united.get(key)
        if known is not None:
            record = evolve(
                known,
                active_peers=_merged(known.active_peers, record.active_peers),
                last_message_hashes=_merged(known.last_message_hashes, record.last_message_hashes),
                addresses=_merged(known.addresses, record.addresses),
            )
        united[key] = record
    return list(united.values())


def _merged(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*first, *second)))
