"""
Writes to nodes that gave tokens, above all puts of a mutable item according to a
placement (docs/protocol/dht.md section 4).

Rules: a plain put goes to the nearest nodes, concurrently. With a placement, each
sequence of its plan is tried in order by put-if-absent (C{cas=0}) until one node
stores: the first sequence alone, then all others concurrently. A node is used once. A
writer that met others' records on the way to its first copy is one of many writing at
this moment, and leaves the remaining places to those without a copy.

A copy counts once it has been read back: a node's reply proves nothing
(docs/protocol/dht.md section 4, rule 7), least of all to a put without C{cas}. When a
node is slow the next one is tried; the slow one's reply still counts while the put
runs. Then the values that the placement allows are overwritten by puts without C{cas}:
as many as copies are missing to two, and otherwise one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from dtt.dht.client.lookup import Ask
from dtt.dht.client.reads import answer_in, read_arguments
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import Contact, IPlacement, MutableRead, NodeAnswer, PutResult
from dtt.krpc.items import MutableItem
from dtt.krpc.messages import CAS_MISMATCH, Response

#: As many values are overwritten as copies are missing to this number, but at least one, if
#: the placement allows any (docs/protocol/dht.md section 4, rules 5, 6 and 8).
ENOUGH: Final = 2

#: This many refusals mean that the slot is crowded: of 20 members writing
#: simultaneously on 12 inner nodes, about ten are refused less often, so that 32 nodes
#: hold a record of each; of five, one in ten is refused this often.
CROWDED: Final = 2

#: The most nodes that one put tries to overwrite. Guess: most of them will not run
#: mainline, and a later put tries again.
MAX_OVERWRITES: Final = 8


@frozen(slots=True)
class Holder:
    """
    A node that responded, and its write token, if any.
    """

    contact: Contact
    token: bytes | None


def store_on(
    ask: Ask, holders: Iterable[Holder], method: bytes, arguments: dict[bytes, Any]
) -> Deferred[PutResult]:
    """
    Send the same write to all nodes that gave a token, concurrently.

    @param ask: sends a query.
    @param method: the method of the write.
    @param arguments: its arguments, without C{id} and C{token}.
    @return: fires when each node has answered or is slow and one has stored, or once
        all have answered or timed out. Cancelling it cancels all queries.
    """
    stored: list[Contact] = []
    refused: list[tuple[Contact, int]] = []
    # Nodes that have not answered yet, and whether they are slow.
    waiting: dict[Contact, bool] = {}
    queries: list[Deferred[Response]] = []

    def cancel(_: Deferred[PutResult]) -> None:
        for query in queries:
            query.cancel()

    done: Deferred[PutResult] = Deferred(cancel)

    def check() -> None:
        if not done.called and all(waiting.values()) and (stored or not waiting):
            done.callback(PutResult(tuple(stored), (), tuple(refused), (*waiting, *unanswered)))

    def slow(contact: Contact) -> None:
        waiting[contact] = True
        check()

    def accepted(_: Response, contact: Contact) -> None:
        del waiting[contact]
        stored.append(contact)
        check()

    def rejected(failure: Failure, contact: Contact) -> None:
        del waiting[contact]
        if isinstance(failure.value, QueryRefused):
            refused.append((contact, failure.value.code))
        elif isinstance(failure.value, QueryTimeout):
            unanswered.append(contact)
        elif not done.called:
            done.errback(failure)
        check()

    unanswered: list[Contact] = []
    targets = {holder.contact: holder.token for holder in holders if holder.token is not None}
    waiting.update(dict.fromkeys(targets, False))
    for contact, token in targets.items():
        query = ask(contact, method, {**arguments, b"token": token}, partial(slow, contact))
        queries.append(query)
        query.addCallbacks(accepted, rejected, callbackArgs=(contact,), errbackArgs=(contact,))
    check()
    return done


async def put_latest(
    ask: Ask, item: MutableItem, value: bytes, read: MutableRead, cas: int | None, copies: int
) -> PutResult:
    """
    Put C{value}, signed as C{item}, on the nearest nodes of C{read}; see
    L{IDHT.put_latest<dtt.interfaces.IDHT.put_latest>}.
    """
    answers = [answer for answer in read.answers if answer.token is not None][:copies]
    arguments: dict[bytes, Any] = {**item.arguments(), b"target": item.target}
    if cas is not None:
        arguments[b"cas"] = cas
    holders = [Holder(answer.contact, answer.token) for answer in answers]
    result = await store_on(ask, holders, b"put", arguments)
    # libtorrent accepts an equal seq but keeps its value (section 1).
    doubtful = {
        answer.contact
        for answer in answers
        if answer.seq is not None and answer.seq >= item.seq and answer.value != value
    }
    return evolve(
        result,
        stored=tuple(contact for contact in result.stored if contact not in doubtful),
        acknowledged=tuple(contact for contact in result.stored if contact in doubtful),
    )


class Put:
    """
    One put of one mutable item according to a placement.
    """

    def __init__(
        self,
        ask: Ask,
        read: MutableRead,
        item: MutableItem,
        value: bytes,
        placement: IPlacement,
        read_back: bool = True,
    ) -> None:
        """
        @param ask: sends a query.
        @param read: the read that the tokens come from.
        @param item: C{value}, signed.
        @param value: the byte string to store.
        @param placement: chooses the nodes.
        @param read_back: whether a copy counts only once it has been read back.
        """
        self._read_back = read_back
        self._ask = ask
        self._read = read
        self._item = item
        self._value = value
        self._placement = placement
        # Dictionaries, used as ordered sets.
        self._stored = dict.fromkeys(answer.contact for answer in read.answers if answer.value == value)
        self._acknowledged: dict[Contact, None] = {}
        self._refused: dict[Contact, int] = {}
        self._unanswered: dict[Contact, None] = {}
        self._open: dict[Contact, Deferred[Response]] = {}
        self._running = True

    def run(self) -> Deferred[PutResult]:
        """
        Run the put.

        @return: fires with the result. Cancelling it cancels all queries.
        """
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> PutResult:
        try:
            used: set[Contact] = set()
            first, *others = self._placement.plan(self._read, self._value) or ((),)
            await self._place(first, used)
            await self._concurrently(self._place(sequence, used, CROWDED) for sequence in others)
            while not self._stored and self._open:
                # All nodes are slow: probably our own network is, so wait.
                await self._all_ended()
            answers = self._placement.overwrite(self._current_read(used), self._value)
            candidates = iter([a for a in answers if a.contact not in used][:MAX_OVERWRITES])
            count = max(1, ENOUGH - len(self._stored))
            await self._concurrently(self._overwrite(candidates) for _ in range(count))
        except BaseException:
            for query in list(self._open.values()):
                query.cancel()
            raise
        finally:
            self._running = False
        return PutResult(
            tuple(self._stored),
            tuple(self._acknowledged),
            tuple(self._refused.items()),
            tuple(self._unanswered),
        )

    async def _concurrently(self, tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
        try:
            await gatherResults([Deferred.fromCoroutine(task) for task in tasks], consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    async def _place(
        self, sequence: Iterable[NodeAnswer], used: set[Contact], patience: float = math.inf
    ) -> None:
        # Place one more copy; stop when this many nodes turned out to hold another
        # member's record.
        for answer in sequence:
            if list(self._refused.values()).count(CAS_MISMATCH) >= patience:
                return
            if answer.contact not in used and answer.contact not in self._stored:
                used.add(answer.contact)
                if await self._put(answer, {b"cas": 0}, self._read_back):
                    return

    async def _overwrite(self, candidates: Iterator[NodeAnswer]) -> None:
        for answer in candidates:
            if await self._put(answer, {}, True):
                return

    def _current_read(self, used: set[Contact]) -> MutableRead:
        # A node that refused or did not answer is neither free nor junk.
        answers = (
            evolve(answer, value=self._value) if answer.contact in self._stored else answer
            for answer in self._read.answers
            if answer.contact in self._stored or answer.contact not in used
        )
        return evolve(self._read, answers=tuple(answers))

    def _put(self, answer: NodeAnswer, more: dict[bytes, Any], read_back: bool) -> Deferred[bool]:
        """
        Put the item on one node.

        @return: fires with whether the node stores it; with C{False} as soon as the
            node is slow.
        """
        contact = answer.contact
        outcome: Deferred[bool] = Deferred(lambda _: self._open[contact].cancel())

        def finish(stored: bool) -> None:
            if not outcome.called:
                outcome.callback(stored)

        def ask(method: bytes, arguments: dict[bytes, Any], succeeded: Callable[[Response], None]) -> None:
            query = self._ask(contact, method, arguments, lambda: finish(False))
            self._open[contact] = query
            query.addCallbacks(succeeded, failed)

        def accepted(_: Response) -> None:
            del self._open[contact], self._unanswered[contact]
            if read_back:
                self._acknowledged[contact] = None
                # After the end of the put, the outcome no longer matters.
                if self._running:
                    ask(b"get", read_arguments(self._item.target), read)
            else:
                self._stored[contact] = None
                finish(True)

        def read(response: Response) -> None:
            del self._open[contact]
            held = answer_in(contact, response, self._item.public_key, self._item.salt)
            if held.value == self._value:
                del self._acknowledged[contact]
                self._stored[contact] = None
            finish(held.value == self._value)

        def failed(failure: Failure) -> None:
            del self._open[contact]
            if isinstance(failure.value, QueryRefused):
                if self._unanswered.pop(contact, self) is None:
                    self._refused[contact] = failure.value.code
            elif not isinstance(failure.value, QueryTimeout) and not outcome.called:
                outcome.errback(failure)
            finish(False)

        self._unanswered[contact] = None
        arguments = {**self._item.arguments(), b"target": self._item.target, b"token": answer.token, **more}
        ask(b"put", arguments, accepted)
        return outcome

    async def _all_ended(self) -> None:
        # _put handles the replies; here only the end of each query matters.
        waiting: list[Deferred[None]] = []
        for query in self._open.values():
            ended: Deferred[None] = Deferred()
            query.addCallback(self._end, ended)
            waiting.append(ended)
        try:
            await gatherResults(waiting, consumeErrors=True)
        except FirstError as error:  # it can only have been cancelled
            error.subFailure.raiseException()

    def _end(self, _: object, ended: Deferred[None]) -> None:
        ended.callback(None)
