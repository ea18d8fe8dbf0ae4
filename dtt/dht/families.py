"""
Merging the results of one operation on both address families of a node.

Rules: each address family is a DHT of its own (BEP32). Both are queried concurrently;
one sufficient result ends the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.routing.ids import distance
from dtt.interfaces import MutableRead, PutResult
from dtt.krpc.compact import Family
from dtt.krpc.items import mutable_target

T = TypeVar("T")


def gather_until(
    running: Iterable[Deferred[T]], enough: Callable[[T], bool] | None = None
) -> Deferred[list[T]]:
    """
    Wait for all Deferreds, or until one result is C{enough}; then cancel the rest.

    @param enough: returns whether a result is sufficient; C{None}: wait for all.
    @return: fires with the results in order, without those of cancelled Deferreds;
        fails with the first failure. Cancelling it cancels all Deferreds.
    """
    deferreds = list(running)
    results: dict[int, T] = {}
    left = set(range(len(deferreds)))

    def cancel(_: object) -> None:
        for deferred in deferreds:
            deferred.cancel()

    done: Deferred[list[T]] = Deferred(cancel)

    def succeeded(result: T, index: int) -> None:
        left.discard(index)
        results[index] = result
        if not done.called and (not left or (enough is not None and enough(result))):
            done.callback([results[number] for number in sorted(results)])
            cancel(done)

    def failed(failure: Failure, index: int) -> None:
        left.discard(index)
        if not done.called:
            done.errback(failure)
            cancel(done)

    for index, deferred in enumerate(deferreds):
        deferred.addCallbacks(succeeded, failed, callbackArgs=(index,), errbackArgs=(index,))
    return done


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
