"""
Merging the results of one operation on both address families of a node.

Rules: each address family is a separate DHT (BEP32).  Both are queried concurrently;
one sufficient result ends the others. An operation that could be carried out in one of
them has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from dtt.dht.routing.ids import distance
from dtt.interfaces import MutableRead, PutResult
from dtt.krpc.compact import Family
from dtt.krpc.items import mutable_target


def merge_reads(reads: Sequence[MutableRead]) -> MutableRead:
    """
    Merge reads of the same item from different families, nearest nodes first.
    """
    first, *others = reads
    if not others:
        return first
    target = mutable_target(first.public_key, first.salt)
    return evolve(
        first,
        answers=tuple(
            sorted(
                (answer for read in reads for answer in read.answers),
                key=lambda answer: distance(target, answer.contact.node_id),
            )
        ),
        silent=tuple(
            sorted(
                (contact for read in reads for contact in read.silent),
                key=lambda contact: distance(target, contact.node_id),
            )
        ),
    )


def restrict_to_family(read: MutableRead, family: Family) -> MutableRead:
    """
    Return the part of a read that concerns the nodes of one family.
    """
    return evolve(
        read,
        answers=tuple(answer for answer in read.answers if family.has(answer.contact.host)),
        silent=tuple(contact for contact in read.silent if family.has(contact.host)),
    )


def merge_puts(results: Sequence[PutResult]) -> PutResult:
    """
    Merge the results of putting the same value in different families.
    """
    return PutResult(
        tuple(contact for result in results for contact in result.stored),
        tuple(contact for result in results for contact in result.acknowledged),
        tuple(refused for result in results for refused in result.refused),
        tuple(contact for result in results for contact in result.unanswered),
    )
