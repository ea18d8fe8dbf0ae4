"""
A Mainline node as a service: a side for IPv4, one for IPv6, or both; L{IDHT}.

What happens: the ports are bound and each side looks for its first nodes, see
L{dtt.dht.family}; with the first answer on one of them the node is I{ready}, so
that slots can be read at once.  Each operation is made on all sides that are
ready, and their results are merged; what others store with us is one store.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import zip_longest
from random import Random, SystemRandom
from typing import Any, Final, TypeVar

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from dtt.dht.arguments import check_immutable, check_key, check_target, item_to_put
from dtt.dht.client.lookup import ALPHA, SLOT_WIDTH
from dtt.dht.client.puts import Put
from dtt.dht.client.reads import contacts_of, read_again
from dtt.dht.families import merge_puts, merge_reads, part_of, side_by_side
from dtt.dht.family import Side, make_sides
from dtt.dht.maintenance import Neighbourhood
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import generate, random_id
from dtt.dht.routing.table import RoutingTable
from dtt.dht.server.responder import Responder
from dtt.dht.server.upload import UPLOAD_RATE
from dtt.dht.statistics import statistics
from dtt.errors import ListenError, LocalError
from dtt.interfaces import IDHT, Contact, InfohashSample, IPlacement, MutableRead, NodeAnswer, PutResult
from dtt.krpc.bencode import decode
from dtt.krpc.compact import IPV6
from dtt.krpc.items import MutableItem, mutable_target
from dtt.krpc.messages import VERSION
from dtt.krpc.protocol import KRPCProtocol

T = TypeVar("T")

#: Seconds without any answer after which the operator is told: before
#: somebody who waits gives up.  Guess.
UNREACHABLE_AFTER: Final = 10.0

#: Contacts for the state file (more than a full table usually has).  Guess.
MAX_KNOWN_NODES: Final = 200


@implementer(IDHT)
class DHTNode(Service):
    """
    See the module.  All L{IDHT} operations may be called before the node is
    ready, also before it is started: they wait for it.

    @ivar node_id: 20 bytes, to be kept over restarts; changes when our
        external address becomes known and it is not valid there (BEP42).
    @ivar port: the UDP port of the first side; once bound, the real one.
    @ivar port6: that of IPv6, once bound: the same one, or if it was to be any
        and that one is taken, another; L{None} without IPv6.
    @ivar sides: that of IPv4, that of IPv6; one may be missing.  What follows
        is the first one's:
    @ivar table: the routing table.
    @ivar responder: answers the queries of others.
    @ivar krpc: the protocol, once bound; its counters tell what happened.
    @ivar unreachable: nobody has answered for L{UNREACHABLE_AFTER} seconds.
    """

    name = "dht"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        port: int = 0,
        interface: str | None = "",
        interface6: str | None = None,
        bootstrap: Sequence[tuple[str, int]] = (),
        known_nodes: Sequence[Contact] = (),
        node_id: bytes | None = None,
        closed: bool = False,
        plain: bool = False,
        upload_rate: float = UPLOAD_RATE,
        external_host: str | None = None,
        on_external_host: Callable[[str], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime}, C{IReactorUDP} and
            C{IReactorPluggableNameResolver}.
        @param port: 0 for any.
        @param interface: an IPv4 literal, C{""} for all, or L{None} for no
            IPv4.
        @param interface6: an IPv6 literal, C{"::"} for all, or L{None} for no
            IPv6: the default, since not every host has it.
        @param bootstrap: names or IP literals, and ports.
        @param known_nodes: what L{known_nodes} returned in an earlier run.
        @param closed: a network of our own, where many nodes share an IP
            address and nobody has to be protected.
        @param plain: a node for its own sake: never read-only.
        @param upload_rate: bytes a second that answers may take; of no effect
            in a closed network.
        @param external_host: what L{external_host} was in an earlier run.
        @param on_external_host: told the IP address that others see us at,
            once they agree on it, and again when it changes; if there are two
            sides, of IPv4.
        @param rng: must not be predictable; the system's by default.
        """
        self.port = port
        self.unreachable = False
        self.port6: int | None = None
        self._reactor = reactor
        rng = SystemRandom() if rng is None else rng
        if node_id is None:
            node_id = random_id(rng) if external_host is None else generate(external_host, rng)
        self.sides = make_sides(
            reactor,
            interface,
            interface6,
            node_id,
            bootstrap=bootstrap,
            known_nodes=known_nodes,
            closed=closed,
            always_serves=plain or closed,
            upload_rate=upload_rate,
            external_host=external_host,
            on_ready=self._ready,
            on_searching=self._searching,
            on_external_host=on_external_host,
            rng=rng,
        )
        self._warning: IDelayedCall | None = None
        self._stopped = False
        # Callers of when_ready, and what is under way; in their order.
        self._waiting: dict[Deferred[int], None] = {}
        self._operations: dict[Deferred[Any], None] = {}

    @property
    def _neighbourhood(self) -> Neighbourhood:
        return self.sides[0].neighbourhood

    @property
    def node_id(self) -> bytes:
        """
        See the class.
        """
        return self._neighbourhood.node_id

    @property
    def external_host(self) -> str | None:
        """
        The IP address that others see us at, or L{None} while they do not
        agree on one; if there are two sides, of IPv4.
        """
        return self._neighbourhood.external_host

    @property
    def table(self) -> RoutingTable:
        """
        See the class.
        """
        return self._neighbourhood.table

    @property
    def responder(self) -> Responder:
        """
        See the class.
        """
        return self._neighbourhood.responder

    @property
    def krpc(self) -> KRPCProtocol:
        """
        See the class.
        """
        return self._neighbourhood.krpc

    # Life

    def privilegedStartService(self) -> None:
        """
        Bind the ports.

        @raise ListenError: one can't be bound.
        """
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        """
        Find the first nodes.
        """
        self._bind()
        super().startService()
        for side in self.sides:
            side.start()

    def stopService(self) -> Deferred[None]:
        """
        End all that is under way; fires when the ports are closed.
        """
        super().stopService()
        self._stopped = True
        self._cancel_warning()
        for side in self.sides:
            side.ready = False
        for operation in [*self._operations, *self._waiting]:
            operation.cancel()
        return gatherResults([side.stop() for side in self.sides]).addCallback(lambda _: None)

    def _bind(self) -> None:
        first, *others = self.sides
        if first.bound:
            return
        port = first.bind(self.port)
        try:
            for side in others:
                self.port6 = self._bind_beside(side, port)
        except ListenError:
            first.stop()
            raise
        self.port = port
        if self.port6 is None and first.family is IPV6:
            self.port6 = port
        self._stopped = False

    def _bind_beside(self, side: Side, port: int) -> int:
        try:
            return side.bind(self.port6 or port)
        except ListenError:
            if self.port:
                raise
            return side.bind(0)

    # The first nodes

    def when_ready(self) -> Deferred[int]:
        """
        See L{IDHT.when_ready}.
        """
        if any(side.ready for side in self.sides):
            return succeed(self._count())
        if self._stopped:
            return fail(LocalError("the DHT node has been stopped"))

        def cancel(_: Deferred[int]) -> None:
            self._waiting.pop(waiting, None)

        waiting: Deferred[int] = Deferred(cancel)
        self._waiting[waiting] = None
        return waiting

    def add_node(self, host: str, port: int) -> None:
        """
        A further bootstrap host, a name or an IP literal; asked at once if
        the node runs.
        """
        for side in self.sides:
            side.add_host(host, port)

    def known_nodes(self) -> list[Contact]:
        """
        Up to L{MAX_KNOWN_NODES} contacts for the next run, the best of each
        family first.
        """
        groups = zip_longest(*(side.known_nodes() for side in self.sides))
        known = [contact for group in groups for contact in group if contact is not None]
        return known[:MAX_KNOWN_NODES]

    def statistics(self) -> dict[str, float]:
        """
        All that was counted, and how much there is of what: see
        L{dtt.dht.statistics}.
        """
        return statistics(self.sides)

    def _count(self) -> int:
        return sum(side.neighbourhood.known for side in self.sides)

    def _searching(self) -> None:
        if any(side.ready for side in self.sides) or self.unreachable or self._warning is not None:
            return
        if self.sides[0].hosts or self.known_nodes():
            self._warning = self._reactor.callLater(UNREACHABLE_AFTER, self._warn)

    def _warn(self) -> None:
        self._warning = None
        self.unreachable = True
        hosts = ", ".join(f"{host}:{port}" for host, port in self.sides[0].hosts) or "none"
        self._log.warn(
            "No DHT node has answered for {seconds:.0f} s; trying on."
            " Check this machine's network, whether UDP passes its firewall,"
            " and the bootstrap hosts: {hosts}.",
            seconds=UNREACHABLE_AFTER,
            hosts=hosts,
        )

    def _cancel_warning(self) -> None:
        if self._warning is not None:
            self._warning.cancel()
            self._warning = None

    def _ready(self) -> None:
        self.unreachable = False
        self._cancel_warning()
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting:
            if not deferred.called:
                deferred.callback(self._count())

    # IDHT

    def _operation(self, deferred: Deferred[T]) -> Deferred[T]:
        self._operations[deferred] = None

        def over(result: T) -> T:
            self._operations.pop(deferred, None)
            return result

        return deferred.addBoth(over)

    def _run(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        async def run() -> T:
            await self.when_ready()
            return await operation()

        return self._operation(Deferred.fromCoroutine(run()))

    def _on_each(
        self,
        operation: Callable[[Side], Coroutine[Any, Any, T]],
        enough: Callable[[T], bool] | None = None,
    ) -> Deferred[list[T]]:
        """
        Make an operation on all sides that are ready: a family without a
        network delays nothing.
        """
        ready = [side for side in self.sides if side.ready]
        return side_by_side([Deferred.fromCoroutine(operation(side)) for side in ready], enough)

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
        See L{IDHT.get_mutable}.
        """
        check_key(public_key, salt)

        async def read_on(side: Side) -> MutableRead:
            side.neighbourhood.settle()
            contacts = () if known is None else contacts_of(part_of(known, side.family), self.node_id)
            return await side.client.get_mutable(
                public_key, salt, on_answer, on_inner, known=contacts, alpha=alpha, width=width
            )

        async def get() -> MutableRead:
            own = self._own_answer(public_key, salt)
            for answer in own:
                self.sides[0].client.tell(on_answer, answer)
            read = merge_reads(await self._on_each(read_on))
            return evolve(read, answers=(*read.answers, *own))

        return self._run(get)

    def _own_answer(self, public_key: bytes, salt: bytes) -> tuple[NodeAnswer, ...]:
        """
        Others may have put theirs on this very node: then it is the last of
        the answers, without a token.
        """
        item = self.responder.items.get(mutable_target(public_key, salt), self._reactor.seconds())
        if not isinstance(item, MutableItem):
            return ()
        value = decode(item.encoded)
        if type(value) is not bytes:
            return ()
        contact = Contact(self.node_id, self.sides[0].family.loopback, self.port)
        return (NodeAnswer(contact, None, value, item.seq, VERSION),)

    def refresh(
        self,
        read: MutableRead,
        on_answer: Callable[[NodeAnswer], None] | None = None,
        nearest: int | None = None,
    ) -> Deferred[MutableRead]:
        """
        See L{IDHT.refresh}.
        """

        others = evolve(read, answers=tuple(a for a in read.answers if a.contact.node_id != self.node_id))

        async def again_on(side: Side) -> MutableRead:
            client = side.client
            return await read_again(
                part_of(others, side.family),
                client.ask,
                client.may_ask,
                partial(client.tell, on_answer),
                nearest,
            )

        async def again() -> MutableRead:
            again = merge_reads(await self._on_each(again_on))
            return evolve(again, answers=(*again.answers, *self._own_answer(read.public_key, read.salt)))

        return self._run(again)

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
        See L{IDHT.put_mutable}.
        """
        item = item_to_put(signing_seed, salt, seq, value, None, read)

        async def put_on(side: Side) -> PutResult:
            # Who knows one family only has to find the record, too.
            mine = part_of(read, side.family)
            return await Put(side.client.ask, mine, item, value, placement, read_back).run()

        async def put() -> PutResult:
            return merge_puts(await self._on_each(put_on))

        return self._run(put)

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
        See L{IDHT.put_latest}.
        """
        item = item_to_put(signing_seed, salt, seq, value, cas, read)

        async def put_on(side: Side) -> PutResult:
            known = None if read is None else part_of(read, side.family)
            return await side.client.put_latest(item, value, known, cas, copies)

        async def put() -> PutResult:
            return merge_puts(await self._on_each(put_on))

        return self._run(put)

    def get_immutable(self, target: bytes) -> Deferred[bytes | None]:
        """
        See L{IDHT.get_immutable}.
        """
        check_target(target)

        async def get() -> bytes | None:
            found = await self._on_each(
                lambda side: side.client.get_immutable(target), lambda value: value is not None
            )
            return next((value for value in found if value is not None), None)

        return self._run(get)

    def put_immutable(self, value: bytes) -> Deferred[PutResult]:
        """
        See L{IDHT.put_immutable}.

        @raise ValueError: at once, if the value is too long or not bencoded.
        """
        check_immutable(value)

        async def put() -> PutResult:
            return merge_puts(await self._on_each(lambda side: side.client.put_immutable(value)))

        return self._run(put)

    def get_peers(
        self,
        info_hash: bytes,
        on_peer: Callable[[str, int], None] | None = None,
    ) -> Deferred[frozenset[tuple[str, int]]]:
        """
        See L{IDHT.get_peers}.
        """
        check_target(info_hash)

        async def get() -> frozenset[tuple[str, int]]:
            peers = await self._on_each(lambda side: side.client.get_peers(info_hash, on_peer))
            return frozenset().union(*peers)

        return self._run(get)

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        See L{IDHT.announce_peer}.
        """
        check_target(info_hash)
        if not 0 <= port < 0x10000:
            raise ValueError("not a port")

        async def announce() -> PutResult:
            return merge_puts(await self._on_each(lambda side: side.client.announce_peer(info_hash, port)))

        return self._run(announce)

    def sample_infohashes(
        self,
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        See L{IDHT.sample_infohashes}.
        """
        check_target(target)

        async def sample() -> tuple[InfohashSample, ...]:
            samples = await self._on_each(lambda side: side.client.sample_infohashes(target, on_sample))
            return tuple(sample for each in samples for sample in each)

        return self._run(sample)
