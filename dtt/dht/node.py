"""
A Mainline node as a service with an IPv4 side, an IPv6 side, or both;
L{IDHT<dtt.interfaces.IDHT>}.

Sequence: the ports are bound, and each side bootstraps, see L{dtt.dht.family}. With the
first response on any side the node is I{ready}, so slots can be read without further
delay. Each operation runs on all ready sides, and the results are merged. The sides
share one store for other nodes' items.
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

from dtt.deferreds import Waiters
from dtt.dht.arguments import check_immutable, check_key, check_target, item_to_put
from dtt.dht.client.lookup import ALPHA, SLOT_WIDTH, LookupOptions
from dtt.dht.client.puts import Put
from dtt.dht.client.reads import contacts_of, read_again
from dtt.dht.families import gather_until, merge_puts, merge_reads, restrict_to_family
from dtt.dht.family import Side, make_sides
from dtt.dht.maintenance import Neighbourhood
from dtt.dht.options import NodeOptions
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

#: Seconds without any response after which a warning is logged: earlier than a waiting
#: user gives up. Guess.
UNREACHABLE_AFTER: Final = 10.0

#: The most contacts for the state file (more than a full table usually has). Guess.
MAX_KNOWN_NODES: Final = 200


@implementer(IDHT)
class DHTNode(Service):
    """
    A Mainline DHT node. All L{IDHT<dtt.interfaces.IDHT>} operations may be called
    before the node is ready, even before it is started: they wait.

    @ivar node_id: our 20-byte id, to be kept across restarts. It changes when our
        external address becomes known and the id is not valid there (BEP42).
    @ivar port: the UDP port of the first side; once bound, the actual one.
    @ivar port6: the UDP port of IPv6, once bound; C{None} without IPv6. It differs from
        C{port} only if C{port} was chosen by the system and is taken on IPv6.
    @ivar sides: the IPv4 side and the IPv6 side, or one of them. The following
        attributes belong to the first.
    @ivar table: the routing table.
    @ivar responder: answers queries from others.
    @ivar krpc: the protocol, once bound, with its counters.
    @ivar unreachable: there was no response for L{dtt.dht.node.UNREACHABLE_AFTER} seconds.
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
        @param port: the UDP port, 0 for any.
        @param interface: an IPv4 literal, C{""} for all, or C{None} for no IPv4.
        @param interface6: an IPv6 literal, C{"::"} for all, or C{None} for no IPv6: the
            default, since not every host has it.
        @param bootstrap: (name or IP literal, port) pairs.
        @param known_nodes: the result of L{known_nodes} in an earlier run.
        @param node_id: the 20-byte id of an earlier run; random by default.
        @param closed: this is a private network in which many nodes share an IP address
            and need no protection from each other.
        @param plain: a node for its own sake: never announce it as read-only.
        @param upload_rate: the most bytes per second sent in answers; ignored in a
            closed network.
        @param external_host: the value of L{external_host} in an earlier run.
        @param on_external_host: called with our external IP address once other nodes
            agree on it, and when it changes; with two sides, only for IPv4.
        @param rng: the source of ids and tokens, which must be unpredictable; the
            system's by default.
        """
        self.port = port
        self.unreachable = False
        self.port6: int | None = None
        self._reactor = reactor
        rng = SystemRandom() if rng is None else rng
        if node_id is None:
            node_id = random_id(rng) if external_host is None else generate(external_host, rng)
        self._on_external_host = on_external_host
        options = NodeOptions(
            rng=rng,
            node_id=node_id,
            bootstrap=bootstrap,
            known_nodes=known_nodes,
            closed=closed,
            always_serves=plain or closed,
            upload_rate=upload_rate,
            external_host=external_host,
        )
        self.sides = make_sides(reactor, options, interface, interface6, self)
        self._warning: IDelayedCall | None = None
        self._stopped = False
        # Pending when_ready() calls and running operations, in order.
        self._waiters: Waiters[int] = Waiters()
        self._operations: dict[Deferred[Any], None] = {}

    @property
    def _neighbourhood(self) -> Neighbourhood:
        return self.sides[0].neighbourhood

    @property
    def node_id(self) -> bytes:
        """
        Our 20-byte id; see the class.
        """
        return self._neighbourhood.node_id

    @property
    def external_host(self) -> str | None:
        """
        Our external IP address, or C{None} while other nodes do not agree on one; with
        two sides, that of IPv4.
        """
        return self._neighbourhood.external_host

    @property
    def table(self) -> RoutingTable:
        """
        The routing table of the first side.
        """
        return self._neighbourhood.table

    @property
    def responder(self) -> Responder:
        """
        The responder of the first side.
        """
        return self._neighbourhood.responder

    @property
    def krpc(self) -> KRPCProtocol:
        """
        The protocol of the first side.
        """
        return self._neighbourhood.krpc

    # Service

    def privilegedStartService(self) -> None:
        """
        Bind the ports.

        @raise ListenError: a port can't be bound.
        """
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        """
        Bind the ports if necessary, and start to look for nodes.
        """
        self._bind()
        super().startService()
        for side in self.sides:
            side.start()

    def stopService(self) -> Deferred[None]:
        """
        Cancel all operations and close the ports.

        @return: fires when the ports are closed.
        """
        super().stopService()
        self._stopped = True
        self._cancel_warning()
        for side in self.sides:
            side.ready = False
        for operation in list(self._operations):
            operation.cancel()
        self._waiters.cancel()
        return gatherResults([side.stop() for side in self.sides]).addCallback(lambda _: None)

    def _bind(self) -> None:
        first, *others = self.sides
        if first.bound:
            return
        port = first.bind(self.port)
        try:
            for side in others:
                self.port6 = self._bind_second(side, port)
        except ListenError:
            first.stop()
            raise
        self.port = port
        if self.port6 is None and first.family is IPV6:
            self.port6 = port
        self._stopped = False

    def _bind_second(self, side: Side, port: int) -> int:
        try:
            return side.bind(self.port6 or port)
        except ListenError:
            if self.port:
                raise
            return side.bind(0)

    # Bootstrapping

    def when_ready(self) -> Deferred[int]:
        """
        Wait for the first response from any node.

        @return: fires with the number of known nodes; fails with
            L{LocalError<dtt.errors.LocalError>} if the node has been stopped.
        """
        if any(side.ready for side in self.sides):
            return succeed(self._count())
        if self._stopped:
            return fail(LocalError("the DHT node has been stopped"))
        return self._waiters.wait()

    def add_node(self, host: str, port: int) -> None:
        """
        Add a bootstrap host, a name or an IP literal; query it immediately if the node
        is running.
        """
        for side in self.sides:
            side.add_host(host, port)

    def known_nodes(self) -> list[Contact]:
        """
        Return up to L{MAX_KNOWN_NODES} contacts for the next run, the best of each
        family first.
        """
        groups = zip_longest(*(side.known_nodes() for side in self.sides))
        known = [contact for group in groups for contact in group if contact is not None]
        return known[:MAX_KNOWN_NODES]

    def statistics(self) -> dict[str, float]:
        """
        Return all counters and gauges; see L{dtt.dht.statistics}.
        """
        return statistics(self.sides)

    def _count(self) -> int:
        return sum(side.neighbourhood.known for side in self.sides)

    def _warn(self) -> None:
        self._warning = None
        self.unreachable = True
        hosts = ", ".join(f"{host}:{port}" for host, port in self.sides[0].hosts) or "none"
        self._log.warn(
            "No DHT node has answered for {seconds:.0f} s; still trying."
            " Check this machine's network, whether UDP passes its firewall,"
            " and the bootstrap hosts: {hosts}.",
            seconds=UNREACHABLE_AFTER,
            hosts=hosts,
        )

    def _cancel_warning(self) -> None:
        if self._warning is not None:
            self._warning.cancel()
            self._warning = None

    # For the sides

    def side_ready(self) -> None:
        """
        End the waiting.
        """
        self.unreachable = False
        self._cancel_warning()
        self._waiters.fire(self._count())

    def side_searching(self) -> None:
        """
        Schedule a warning unless another side is ready.
        """
        if any(side.ready for side in self.sides) or self.unreachable or self._warning is not None:
            return
        if self.sides[0].hosts or self.known_nodes():
            self._warning = self._reactor.callLater(UNREACHABLE_AFTER, self._warn)

    def side_external_host_changed(self, side: Side, host: str) -> None:
        """
        Tell the observer, if it is the first side.
        """
        if self._on_external_host is not None and side is self.sides[0]:
            self._on_external_host(host)

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
        Run an operation on all ready sides: a family without connectivity delays
        nothing.
        """
        ready = [side for side in self.sides if side.ready]
        return gather_until([Deferred.fromCoroutine(operation(side)) for side in ready], enough)

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
        Read a mutable item in all families.
        """
        check_key(public_key, salt)

        async def read_on(side: Side) -> MutableRead:
            side.neighbourhood.find_neighbours_now()
            contacts = (
                () if known is None else contacts_of(restrict_to_family(known, side.family), self.node_id)
            )
            options = LookupOptions(width=width, alpha=alpha, known=contacts, mainline=True)
            return await side.client.get_mutable(public_key, salt, on_answer, on_inner, options)

        async def get() -> MutableRead:
            own = self._own_answer(public_key, salt)
            for answer in own:
                self.sides[0].client.notify(on_answer, answer)
            read = merge_reads(await self._on_each(read_on))
            return evolve(read, answers=(*read.answers, *own))

        return self._run(get)

    def _own_answer(self, public_key: bytes, salt: bytes) -> tuple[NodeAnswer, ...]:
        """
        Return what our own node stores, as the last answer, without a token: others may
        have put the item on this very node.
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
        Repeat a read without a lookup.
        """

        others = evolve(read, answers=tuple(a for a in read.answers if a.contact.node_id != self.node_id))

        async def again_on(side: Side) -> MutableRead:
            client = side.client
            return await read_again(
                restrict_to_family(others, side.family),
                client.ask,
                client.may_ask,
                partial(client.notify, on_answer),
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
        Put a mutable item in all families, according to a placement.
        """
        item = item_to_put(signing_seed, salt, seq, value, None, read)

        async def put_on(side: Side) -> PutResult:
            # Readers that know only one family must find the record too.
            mine = restrict_to_family(read, side.family)
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
        Put a mutable item on the nearest nodes of each family.
        """
        item = item_to_put(signing_seed, salt, seq, value, cas, read)

        async def put_on(side: Side) -> PutResult:
            known = None if read is None else restrict_to_family(read, side.family)
            return await side.client.put_latest(item, value, known, cas, copies)

        async def put() -> PutResult:
            return merge_puts(await self._on_each(put_on))

        return self._run(put)

    def get_immutable(self, target: bytes) -> Deferred[bytes | None]:
        """
        Get an immutable item from the first family that has it.
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
        Put an immutable item in all families.

        @raise ValueError: the value is too long or not bencoded.
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
        Collect the peers of an info hash from all families.
        """
        check_target(info_hash)

        async def get() -> frozenset[tuple[str, int]]:
            peers = await self._on_each(lambda side: side.client.get_peers(info_hash, on_peer))
            return frozenset().union(*peers)

        return self._run(get)

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        Announce a peer in all families.

        @raise ValueError: C{port} is not 0..65535.
        """
        check_target(info_hash)
        if not 0 <= port < 0x10000:
            raise ValueError("a port must be within 0..65535")

        async def announce() -> PutResult:
            return merge_puts(await self._on_each(lambda side: side.client.announce_peer(info_hash, port)))

        return self._run(announce)

    def sample_infohashes(
        self,
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Sample info hashes in all families.
        """
        check_target(target)

        async def sample() -> tuple[InfohashSample, ...]:
            samples = await self._on_each(lambda side: side.client.sample_infohashes(target, on_sample))
            return tuple(sample for each in samples for sample in each)

        return self._run(sample)
