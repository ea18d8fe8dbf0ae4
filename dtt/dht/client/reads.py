"""
Reading one mutable item from the nodes near its target (docs/protocol/dht.md section
4).

Rules: a read has C{seq=0}, so that an immutable item put under the same target does not
hide the real one. Values are verified before they are reported. A node that returns an
invalid item is not written to either.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.client.lookup import Ask
from dtt.dht.routing.ids import distance
from dtt.errors import DecodeError, QueryRefused, QueryTimeout
from dtt.interfaces import Contact, MutableRead, NodeAnswer
from dtt.krpc import bencode
from dtt.krpc.compact import IPV4, USABLE, Family, decode_nodes, decode_nodes6
from dtt.krpc.items import mutable_target, read_item
from dtt.krpc.messages import Response
from dtt.net.networks import Scope

#: The most bytes of a write token; longer ones are ignored. The longest observed has
#: 20. Guess.
MAX_TOKEN_SIZE = 64


def contacts_in(
    response: Response, family: Family = IPV4, scopes: Container[Scope] = USABLE
) -> list[Contact]:
    """
    Return the nodes of a family in a response; none if they are missing or malformed.

    @param scopes: the scopes of the addresses that the sender may name; see
        L{Reach.named_by<dtt.dht.reach.Reach.named_by>}.
    """
    nodes = response.values.get(family.nodes)
    if not nodes:
        return []
    try:
        return decode_nodes(nodes, scopes) if family is IPV4 else decode_nodes6(nodes, scopes)
    except DecodeError:
        return []


def token_in(response: Response) -> bytes | None:
    """
    Return the write token in a response, or C{None}.
    """
    token = response.values.get(b"token")
    return token if type(token) is bytes and len(token) <= MAX_TOKEN_SIZE else None


def read_arguments(target: bytes) -> dict[bytes, Any]:
    """
    Return the arguments of a C{get} for a mutable item.
    """
    return {b"target": target, b"seq": 0}


def answer_in(contact: Contact, response: Response, public_key: bytes, salt: bytes) -> NodeAnswer:
    """
    Interpret a response to C{get} for a mutable item. A value other than a byte string
    is returned in its encoded form: it is not a record, but occupies the node.
    """
    try:
        item = read_item(response.values, public_key, salt)
    except DecodeError:
        return NodeAnswer(contact, None, version=response.version)
    token = token_in(response)
    if item is None:
        return NodeAnswer(contact, token, version=response.version)
    value = bencode.decode_message(item.encoded)
    return NodeAnswer(
        contact, token, value if type(value) is bytes else item.encoded, item.seq, response.version
    )


def _placed(target: bytes, answers: list[NodeAnswer], late: Iterable[NodeAnswer]) -> tuple[NodeAnswer, ...]:
    """
    Insert late answers into the others, each before the first that is farther.
    """
    for answer in late:
        own = distance(target, answer.contact.node_id)
        farther = (
            place for place, other in enumerate(answers) if distance(target, other.contact.node_id) > own
        )
        answers.insert(next(farther, len(answers)), answer)
    return tuple(answers)


def contacts_of(read: MutableRead, own_id: bytes) -> list[Contact]:
    """
    Return the nodes of a read except ourselves.
    """
    return [answer.contact for answer in read.answers if answer.contact.node_id != own_id]


def read_again(
    read: MutableRead,
    ask: Ask,
    may_ask: Callable[[Contact], bool],
    on_answer: Callable[[NodeAnswer], None] = lambda _: None,
    nearest: int | None = None,
) -> Deferred[MutableRead]:
    """
    Query the nodes of C{read} again, including the silent ones, concurrently. A node
    that does not answer, or may not be queried now, keeps its earlier answer.

    @param may_ask: returns whether a query would be sent immediately.
    @param on_answer: called with each answer as it arrives.
    @param nearest: query only this many of the nearest, and none of the silent ones;
        C{None}: query all.
    @return: fires when each node has answered or is slow. Cancelling it cancels all
        queries.
    """
    answers = {answer.contact: answer for answer in read.answers}
    target = mutable_target(read.public_key, read.salt)
    arguments = read_arguments(target)
    asked = (*answers, *read.silent) if nearest is None else tuple(answers)[:nearest]
    waiting = dict.fromkeys(contact for contact in asked if may_ask(contact))
    queries: list[Deferred[Response]] = []

    def cancel(_: Deferred[MutableRead]) -> None:
        for query in queries:
            query.cancel()

    done: Deferred[MutableRead] = Deferred(cancel)

    def over(contact: Contact) -> None:
        waiting.pop(contact, None)
        if not waiting and not done.called:
            late = [answers.pop(contact) for contact in read.silent if contact in answers]
            silent = () if nearest is None else read.silent
            done.callback(evolve(read, answers=_placed(target, [*answers.values()], late), silent=silent))

    def answered(response: Response, contact: Contact) -> None:
        if not done.called:
            answer = answers[contact] = answer_in(contact, response, read.public_key, read.salt)
            on_answer(answer)
        over(contact)

    def failed(failure: Failure, contact: Contact) -> None:
        if not done.called and not isinstance(failure.value, QueryRefused | QueryTimeout):
            done.errback(failure)
        over(contact)

    if not waiting:
        over(Contact(b"", "", 0))
    for contact in list(waiting):
        query = ask(contact, b"get", arguments, partial(over, contact))
        queries.append(query)
        query.addCallbacks(answered, failed, callbackArgs=(contact,), errbackArgs=(contact,))
    return done
