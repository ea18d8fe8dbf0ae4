"""
An in-memory DHT shared by several members: L{IDHT} without a network.

The operations, their checks, reads and writes are those of a real node, and the values
are stored by the real L{Responder}. Only two parts are replaced: the lookup, because
all nodes are known, and the transactions. If C{latency} is 0, every Deferred fires
synchronously.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final, TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.deferreds import Waiters, gather_until
from dtt.dht.client.client import Client
from dtt.dht.client.lookup import DEFAULTS, INNER_ANSWERS, LookupOptions, Question
from dtt.dht.operations import Operations
from dtt.dht.reach import Reach
from dtt.dht.routing.ids import distance, random_id
from dtt.dht.routing.table import RoutingTable
from dtt.dht.server.resources import Resources
from dtt.dht.server.responder import Responder
from dtt.dht.server.upload import AnswerLimits
from dtt.errors import LookupFailed, QueryRefused, QueryTimeout
from dtt.interfaces import IDHT, Contact, ServedItem
from dtt.krpc.bencode import decode, encode
from dtt.krpc.compact import IPV4, Family
from dtt.krpc.items import mutable_target
from dtt.krpc.messages import Error, Query, Response
from dtt.krpc.messages import decode as decode_message

T = TypeVar("T")

# The id and address that queries appear to come from, for tokens and announcements.
_OWN_ID: Final = b"\x01" * 20
_HOST: Final = "192.0.2.1"
_PORT: Final = 6881


@implementer(IDHT)
class FakeDHT(Operations):
    """
    A DHT for tests. Pass the same instance to all members.

    @ivar contacts: the storage nodes.
    @ivar responders: the responder of each of them, which stores its items.
    @ivar member: the responder of the members, which are not storage nodes.
    @ivar dead: the contacts that do not answer.
    @ivar latency: the round-trip time in seconds; 0: every query is answered
        synchronously.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        nodes: int = 40,
        latency: float = 0.0,
        ready: bool = True,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param nodes: the number of storage nodes.
        @param latency: the round-trip time in seconds.
        @param ready: if false, L{when_ready} and all operations wait for L{become_ready}.
        @param rng: draws the node ids and the tokens; a fixed seed by default.
        """
        super().__init__()
        rng = Random(0) if rng is None else rng
        self.latency = latency
        self.dead: set[Contact] = set()
        self.responders: dict[Contact, Responder] = {}
        for number in range(nodes):
            contact = Contact(random_id(rng), f"10.0.{number >> 8}.{number & 255}", 6881)
            resources = evolve(Resources.create(contact.node_id), limits=AnswerLimits(closed=True))
            self.responders[contact] = Responder(
                reactor, contact.node_id, lambda _: b"", rng=rng, resources=resources
            )
        self.contacts = tuple(self.responders)
        limits = AnswerLimits(closed=True)
        self.member = Responder(
            reactor,
            _OWN_ID,
            lambda _: b"",
            rng=rng,
            resources=evolve(Resources.create(_OWN_ID), limits=limits),
        )
        self._by_host = {contact.host: contact for contact in self.contacts}
        self._reactor = reactor
        self._ready = ready
        self._waiters: Waiters[int] = Waiters()
        self._side = _Side(_Client(reactor, self))

    # Controls for tests

    def become_ready(self) -> None:
        """
        Fire L{when_ready}, as if the first node had answered.
        """
        self._ready = True
        self._waiters.fire(len(self.contacts))

    def stored(self, public_key: bytes, salt: bytes = b"") -> dict[bytes, int]:
        """
        The values stored in a slot, and the number of nodes that hold each, dead nodes
        included.

        @param public_key: the slot's key, 32 bytes.
        @param salt: the slot's salt.
        """
        target = mutable_target(public_key, salt)
        counts: dict[bytes, int] = {}
        for responder in self.responders.values():
            item = responder.items.get(target, self._reactor.seconds())
            if item is not None and not isinstance(item, bytes):
                value = decode(item.encoded)
                counts[value] = counts.get(value, 0) + 1
        return counts

    def contact_at(self, host: str) -> Contact | None:
        """
        Return the node at an address, or C{None}.

        @param host: an IPv4 literal.
        """
        return self._by_host.get(host)

    def nearest(self, target: bytes) -> list[Contact]:
        """
        Return the nodes that are not dead, those nearest to C{target} first.

        @param target: 20 bytes.
        """
        alive = [contact for contact in self.contacts if contact not in self.dead]
        return sorted(alive, key=lambda contact: distance(contact.node_id, target))

    def serve(
        self, targets: Iterable[bytes], source: Callable[[bytes], ServedItem | None]
    ) -> Callable[[], None]:
        """
        Answer queries to the address of the members, which is the same for all:
        C{192.0.2.1}, port 6881.  The first source that has the item answers.
        """
        return self.member.resources.own.add(targets, source)

    # What the operations need

    def side_of(self, host: str) -> _Side:
        """
        Return the only side.
        """
        return self._side

    @property
    def node_id(self) -> bytes:
        """
        The id of the member that asks, which is none of the storage nodes.
        """
        return _OWN_ID

    def when_ready(self) -> Deferred[int]:
        """
        Fire with the number of nodes, immediately or after L{become_ready}.
        """
        if self._ready:
            return succeed(len(self.contacts))
        return self._waiters.wait()

    def when_usable(self) -> Deferred[None]:
        """
        Fire like L{when_ready}: there is no earlier run.
        """
        return self.when_ready().addCallback(lambda _: None)

    def usable_sides(self) -> list[_Side]:
        """
        Return the only side.
        """
        return [self._side]


@frozen
class _Side:
    """
    The only address family.
    """

    client: Client
    family: Family = IPV4
    ready: bool = True

    def before_read(self) -> None:
        pass


class _Client(Client):
    """
    A client that knows all nodes.
    """

    def __init__(self, reactor: IReactorTime, dht: FakeDHT) -> None:
        krpc: Any = _Transactions(reactor, dht)
        table = RoutingTable(_OWN_ID, reactor.seconds(), closed=True)
        super().__init__(reactor, krpc, table, IPV4, _Owner(), Reach(True, ()))
        self.dht = dht

    def lookup(
        self,
        question: Question,
        interpret: Callable[[Contact, Response], T],
        *,
        on_inner: Callable[[list[T]], None] | None = None,
        options: LookupOptions = DEFAULTS,
    ) -> Any:
        return _Lookup(self, question, interpret, on_inner, options.width)


class _Owner:
    """
    A L{ClientOwner<dtt.dht.client.client.ClientOwner>} that learns nothing.
    """

    def wants_both(self) -> bool:
        return False

    def sending(self, host: str) -> None:
        pass

    def timed_out(self, contact: Contact) -> None:
        pass


class _Lookup:
    """
    A replacement for L{Lookup<dtt.dht.client.lookup.Lookup>}: queries the nearest nodes concurrently.
    """

    def __init__(
        self,
        client: _Client,
        question: Question,
        interpret: Callable[[Contact, Response], Any],
        on_inner: Callable[[list[Any]], None] | None,
        width: int,
    ) -> None:
        self._client = client
        self._question = question
        self._interpret = interpret
        self._on_inner = on_inner
        self._width = width
        self._contacts = client.dht.nearest(question.target)
        self._results: dict[Contact, Any] = {}
        self._stopped = False

    def start(self) -> Deferred[list[Any]]:
        return Deferred.fromCoroutine(self._run())

    def check(self) -> None:
        if not self._results:
            raise LookupFailed(f"none of {len(self._contacts)} DHT nodes answered")

    def silent(self) -> list[Contact]:
        return []

    def widen(self, width: int) -> None:
        self._width = max(self._width, width)

    def stop(self) -> None:
        self._stopped = True

    async def _run(self) -> list[Any]:
        asked = 0
        while asked < self._width and not self._stopped:
            queries = [self._ask(contact) for contact in self._contacts[asked : self._width]]
            asked = self._width
            await gather_until(map(Deferred.fromCoroutine, queries), lambda _: self._stopped)
        return [self._results[contact] for contact in self._contacts if contact in self._results]

    async def _ask(self, contact: Contact) -> None:
        question = self._question
        try:
            response = await self._client.ask(contact, question.method, question.arguments)
        except (QueryRefused, QueryTimeout):
            return
        self._results[contact] = self._interpret(contact, response)
        if self._on_inner is not None and len(self._results) == INNER_ANSWERS:
            self._on_inner(list(self._results.values()))


class _Transactions:
    """
    A replacement for L{KRPCProtocol<dtt.krpc.protocol.KRPCProtocol>}: passes queries to the responders.
    """

    trusts_timeout = True

    def __init__(self, reactor: IReactorTime, dht: FakeDHT) -> None:
        self._reactor = reactor
        self._dht = dht

    def may_query(self, host: str, port: int) -> bool:
        return True

    def query(
        self,
        host: str,
        port: int,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        if self._dht.latency == 0:
            return maybeDeferred(self._answer, host, port, method, arguments)
        return deferLater(self._reactor, self._dht.latency, self._answer, host, port, method, arguments)

    def _answer(self, host: str, port: int, method: bytes, arguments: dict[bytes, Any]) -> Response:
        if (host, port) == (_HOST, _PORT):
            responder = self._dht.member
        else:
            contact = self._dht.contact_at(host)
            if contact is None or contact in self._dht.dead:
                raise QueryTimeout("no reply")
            responder = self._dht.responders[contact]
        # Encode and decode, so that the types are those of the wire.
        query = Query(b"tttt", method, _OWN_ID, decode(encode(arguments)), False, b"")
        reply = responder.answer(query, _HOST, _PORT)
        assert reply is not None
        match decode_message(reply):
            case Response() as response:
                return response
            case Error(code=code, text=text):
                raise QueryRefused(code, text)
            case other:
                raise AssertionError(f"not a reply: {other!r}")
