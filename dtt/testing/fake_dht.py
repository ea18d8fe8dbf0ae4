"""
An in-memory DHT shared by several members: L{IDHT} without a network.

Values are stored by the real L{Responder}, and read and written by the real code of
L{dtt.dht}. Only the lookup is replaced: the fake knows all nodes. If C{latency} is 0,
every Deferred fires synchronously.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from dtt.deferreds import Waiters
from dtt.dht.arguments import check_immutable, check_key, check_target, item_to_put
from dtt.dht.client.lookup import ALPHA, INNER_ANSWERS, SLOT_WIDTH
from dtt.dht.client.puts import Holder, Put, put_latest, store_on
from dtt.dht.client.reads import read_again, token_in
from dtt.dht.client.samples import Sampler
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import distance, random_id
from dtt.dht.server.resources import Resources
from dtt.dht.server.responder import Responder
from dtt.dht.server.upload import AnswerLimits
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import IDHT, Contact, InfohashSample, IPlacement, MutableRead, NodeAnswer, PutResult
from dtt.krpc.bencode import Encoded, decode, encode
from dtt.krpc.compact import decode_peers
from dtt.krpc.items import immutable_target, mutable_target
from dtt.krpc.messages import Error, Query, Response
from dtt.krpc.messages import decode as decode_message

# The address that queries appear to come from, for tokens and announcements.
_HOST: Final = "192.0.2.1"
_PORT: Final = 6881


@implementer(IDHT)
class FakeDHT:
    """
    A DHT for tests. Pass the same instance to all members.

    @ivar contacts: the storage nodes.
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
        rng = Random(0) if rng is None else rng
        self.latency = latency
        self.dead: set[Contact] = set()
        self._reactor = reactor
        self._nodes: dict[Contact, Responder] = {}
        for number in range(nodes):
            contact = Contact(random_id(rng), f"10.0.{number >> 8}.{number & 255}", 6881)
            resources = evolve(Resources.create(contact.node_id), limits=AnswerLimits(closed=True))
            self._nodes[contact] = Responder(
                reactor, contact.node_id, lambda _: b"", rng=rng, resources=resources
            )
        self.contacts = tuple(self._nodes)
        self._ready = ready
        self._waiters: Waiters[int] = Waiters()
        self._sampler = Sampler(self._ask, reactor.seconds)

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
        for responder in self._nodes.values():
            item = responder.items.get(target, self._reactor.seconds())
            if item is not None and not isinstance(item, bytes):
                value = decode(item.encoded)
                counts[value] = counts.get(value, 0) + 1
        return counts

    # IDHT

    def when_ready(self) -> Deferred[int]:
        """
        Fire with the number of nodes, immediately or after L{become_ready}.
        """
        if self._ready:
            return succeed(len(self.contacts))
        return self._waiters.wait()

    def get_mutable(
        self,
        public_key: bytes,
        salt: bytes = b"",
        on_answer: Callable[[NodeAnswer], None] | None = None,
        on_inner: Callable[[MutableRead], None] | None = None,
        *,
        known: MutableRead | None = None,
        alpha: int = ALPHA,
        width: int = SLOT_WIDTH,
    ) -> Deferred[MutableRead]:
        """
        Read a mutable item from the C{width} nearest living nodes. C{known} and C{alpha}
        have no effect.
        """
        check_key(public_key, salt)
        target = mutable_target(public_key, salt)
        inner: list[NodeAnswer] = []

        def answered(answer: NodeAnswer) -> None:
            if on_answer is not None:
                on_answer(answer)
            inner.append(answer)
            if on_inner is not None and len(inner) == INNER_ANSWERS:
                on_inner(MutableRead(public_key, salt, tuple(inner)))

        async def get() -> MutableRead:
            await self.when_ready()
            empty = tuple(NodeAnswer(contact, None) for contact in self._nearest(target, width))
            return await read_again(MutableRead(public_key, salt, empty), self._ask, lambda _: True, answered)

        return Deferred.fromCoroutine(get())

    def refresh(
        self,
        read: MutableRead,
        on_answer: Callable[[NodeAnswer], None] | None = None,
        nearest: int | None = None,
    ) -> Deferred[MutableRead]:
        """
        Ask the nodes of an earlier read again.
        """
        return read_again(read, self._ask, lambda _: True, on_answer or (lambda _: None), nearest)

    def put_mutable(
        self,
        signing_seed: bytes,
        salt: bytes,
        value: bytes,
        placement: IPlacement,
        read: MutableRead,
        seq: int = 2**63 - 1,
        *,
        read_back: bool = True,
    ) -> Deferred[PutResult]:
        """
        Write one value where C{placement} says.
        """
        item = item_to_put(signing_seed, salt, seq, value, None, read)
        return Put(self._ask, read, item, value, placement, read_back).run()

    def put_latest(
        self,
        signing_seed: bytes,
        value: bytes,
        seq: int,
        salt: bytes = b"",
        *,
        cas: int | None = None,
        read: MutableRead | None = None,
        copies: int = K,
    ) -> Deferred[PutResult]:
        """
        Write a new version of a mutable item to the C{copies} nearest nodes.
        """
        item = item_to_put(signing_seed, salt, seq, value, cas, read)

        async def put() -> PutResult:
            found = await self.get_mutable(item.public_key, salt) if read is None else read
            return await put_latest(self._ask, item, value, found, cas, copies)

        return Deferred.fromCoroutine(put())

    def get_immutable(self, target: bytes) -> Deferred[bytes | None]:
        """
        Read an immutable item; C{None} if no node has it.
        """
        check_target(target)

        async def get() -> bytes | None:
            for response in await self._responses(target, b"get", {b"target": target}):
                if b"v" in response.values:
                    encoded = encode(response.values[b"v"])
                    if immutable_target(encoded) == target:
                        return encoded
            return None

        return Deferred.fromCoroutine(get())

    def put_immutable(self, value: bytes) -> Deferred[PutResult]:
        """
        Store a bencoded value on the K nearest nodes.
        """
        check_immutable(value)
        target = immutable_target(value)
        return Deferred.fromCoroutine(
            self._store(
                target, b"get", {b"target": target}, b"put", {b"target": target, b"v": Encoded(value)}
            )
        )

    def get_peers(
        self,
        info_hash: bytes,
        on_peer: Callable[[str, int], None] | None = None,
    ) -> Deferred[frozenset[tuple[str, int]]]:
        """
        Collect the peers that the K nearest nodes know for an info hash.
        """
        check_target(info_hash)

        async def get() -> frozenset[tuple[str, int]]:
            peers: dict[tuple[str, int], None] = {}
            for response in await self._responses(info_hash, b"get_peers", {b"info_hash": info_hash}):
                peers.update(dict.fromkeys(decode_peers(response.values.get(b"values", []))))
            if on_peer is not None:
                for peer in peers:
                    on_peer(*peer)
            return frozenset(peers)

        return Deferred.fromCoroutine(get())

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        Announce a port to the K nearest nodes; 0: the port of the query (implied_port).

        @raise ValueError: the port is not within 0..65535.
        """
        check_target(info_hash)
        if not 0 <= port < 0x10000:
            raise ValueError("not a port")
        arguments = {b"info_hash": info_hash, b"port": port or 1, b"implied_port": int(port == 0)}
        return Deferred.fromCoroutine(
            self._store(info_hash, b"get_peers", {b"info_hash": info_hash}, b"announce_peer", arguments)
        )

    def sample_infohashes(
        self,
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Sample the info hashes of the K nearest nodes (BEP51).
        """
        check_target(target)

        async def sample() -> tuple[InfohashSample, ...]:
            await self.when_ready()
            return await self._sampler.sample(self._nearest(target, K), on_sample or (lambda _: None))

        return Deferred.fromCoroutine(sample())

    # Storage nodes

    def _nearest(self, target: bytes, count: int) -> list[Contact]:
        alive = [contact for contact in self.contacts if contact not in self.dead]
        return sorted(alive, key=lambda contact: distance(contact.node_id, target))[:count]

    async def _holders(self, target: bytes, method: bytes, arguments: dict[bytes, Any]) -> list[Holder]:
        return [
            Holder(contact, token_in(await self._ask(contact, method, arguments)))
            for contact in self._nearest(target, K)
        ]

    async def _responses(self, target: bytes, method: bytes, arguments: dict[bytes, Any]) -> list[Response]:
        await self.when_ready()
        return [await self._ask(contact, method, arguments) for contact in self._nearest(target, K)]

    async def _store(
        self,
        target: bytes,
        read: bytes,
        read_arguments: dict[bytes, Any],
        write: bytes,
        arguments: dict[bytes, Any],
    ) -> PutResult:
        await self.when_ready()
        holders = await self._holders(target, read, read_arguments)
        return await store_on(self._ask, holders, write, arguments)

    def _ask(
        self,
        contact: Contact,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        if self.latency == 0:
            return self._answer(contact, method, arguments)
        answer: Deferred[Response] = Deferred(lambda _: call.cancel())

        def arrive() -> None:
            self._answer(contact, method, arguments).chainDeferred(answer)

        call = self._reactor.callLater(self.latency, arrive)
        return answer

    def _answer(self, contact: Contact, method: bytes, arguments: dict[bytes, Any]) -> Deferred[Response]:
        if contact in self.dead:
            return fail(QueryTimeout("no reply"))
        # Encode and decode, so that the types are those of the wire.
        query = Query(b"tttt", method, b"\x01" * 20, decode(encode(arguments)), False, b"")
        reply = self._nodes[contact].answer(query, _HOST, _PORT)
        assert reply is not None
        match decode_message(reply):
            case Response() as response:
                return succeed(response)
            case Error(code=code, text=text):
                return fail(QueryRefused(code, text))
            case _:
                return fail(CancelledError())
