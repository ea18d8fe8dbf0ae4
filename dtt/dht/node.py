"""
A Mainline node as a service: one UDP port, one routing table, L{IDHT}.

What happens: the port is bound; bootstrap hosts and nodes known from the last
run are asked side by side; with the first answer the node is I{ready}, so that
slots can be read at once, and looks its own id up meanwhile.  From then on
whoever answers enters the routing table, who asks is answered by
L{Responder}: see L{dtt.dht.neighbourhood}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import Random, SystemRandom
from typing import Any, Final, TypeVar, cast

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger
from zope.interface import implementer

from dtt.dht.bootstrap import Bootstrap
from dtt.dht.client import Client
from dtt.dht.neighbourhood import Neighbourhood
from dtt.dht.node_id import random_id
from dtt.dht.puts import Put
from dtt.dht.reads import read_again
from dtt.dht.responder import Responder
from dtt.dht.routing import RoutingTable
from dtt.errors import DecodeError, ListenError, LocalError
from dtt.interfaces import IDHT, Contact, IPlacement, MutableRead, NodeAnswer, PutResult
from dtt.krpc.bencode import decode
from dtt.krpc.items import (
    MAX_SALT_SIZE,
    MAX_VALUE_SIZE,
    PUBLIC_KEY_SIZE,
    MutableItem,
    mutable_target,
    sign_item,
)
from dtt.krpc.messages import VERSION, Response
from dtt.krpc.protocol import KRPCProtocol

T = TypeVar("T")

#: Seconds without any answer after which the operator is told: before
#: somebody who waits gives up.  Guess.
UNREACHABLE_AFTER: Final = 10.0

#: Contacts for the state file (more than a full table usually has).  Guess.
MAX_KNOWN_NODES: Final = 200

#: Bytes of events that the reactor reads from the port before it looks at its
#: timers: the default of 256 KiB makes them 34 ms late under a flood
#: (specs/dht.md section 6).
MAX_THROUGHPUT: Final = 16 * 1024


@implementer(IDHT)
class DHTNode(Service):
    """
    See the module.  All L{IDHT} operations may be called before the node is
    ready, also before it is started: they wait for it.

    @ivar node_id: 20 bytes, to be kept over restarts; changes when our
        external address becomes known and it is not valid there (BEP42).
    @ivar port: the UDP port; once bound, the real one.
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
        interface: str = "",
        bootstrap: Sequence[tuple[str, int]] = (),
        known_nodes: Sequence[Contact] = (),
        node_id: bytes | None = None,
        closed: bool = False,
        plain: bool = False,
        on_external_host: Callable[[str], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime}, C{IReactorUDP} and
            C{IReactorPluggableNameResolver}.
        @param port: 0 for any.
        @param interface: an IPv4 literal, or C{""} for all.
        @param bootstrap: names or IPv4 literals, and ports.
        @param known_nodes: what L{known_nodes} returned in an earlier run.
        @param closed: a network of our own, where many nodes share an IP
            address and nobody has to be protected.
        @param plain: a node for its own sake: never read-only.
        @param on_external_host: told the IP address that others see us at,
            once they agree on it, and again when it changes.
        @param rng: must not be predictable; the system's by default.
        """
        self.port = port
        self.unreachable = False
        self._reactor = reactor
        self._interface = interface
        self._rng = SystemRandom() if rng is None else rng
        self._known = list(known_nodes)
        self._bootstrap = Bootstrap(reactor, bootstrap, self._ask_host, self._rng)
        self._neighbourhood = Neighbourhood(
            reactor,
            random_id(self._rng) if node_id is None else node_id,
            closed=closed,
            always_serves=plain or closed,
            rng=self._rng,
            on_response=self._heard,
            on_empty=self._find_first_nodes,
            on_external_host=on_external_host,
        )
        self._listening: IListeningPort | None = None
        self._warning: IDelayedCall | None = None
        self._ready = False
        self._stopped = False
        # Callers of when_ready, and what is under way; in their order.
        self._waiting: dict[Deferred[int], None] = {}
        self._operations: dict[Deferred[Any], None] = {}

    @property
    def node_id(self) -> bytes:
        """
        See the class.
        """
        return self._neighbourhood.node_id

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
        Bind the port.

        @raise ListenError: it can't be bound.
        """
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        """
        Find the first nodes.
        """
        self._bind()
        super().startService()
        self._neighbourhood.start()
        self._find_first_nodes()

    def stopService(self) -> Deferred[None]:
        """
        End all that is under way; fires when the port is closed.
        """
        super().stopService()
        self._stopped = True
        self._ready = False
        self._bootstrap.stop()
        self._cancel_warning()
        for operation in [*self._operations, *self._waiting]:
            operation.cancel()
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        self._neighbourhood.close()
        closed: Deferred[None] = maybeDeferred(cast("Callable[[], Deferred[None]]", listening.stopListening))
        return closed

    def _bind(self) -> None:
        if self._listening is not None:
            return
        protocol = self._neighbourhood.open()
        try:
            listening = self._reactor.listenUDP(
                self.port, protocol, interface=self._interface, maxPacketSize=8192
            )
        except CannotListenError as error:
            where = f"{self._interface or '*'}:{self.port}"
            raise ListenError(
                f"UDP {where} can't be bound ({error.socketError}): choose another DHT port, or 0 for any"
            ) from error
        self._stopped = False
        self._listening = listening
        listening.maxThroughput = MAX_THROUGHPUT
        self.port = listening.getHost().port

    # The first nodes

    def when_ready(self) -> Deferred[int]:
        """
        See L{IDHT.when_ready}.
        """
        if self._ready:
            return succeed(len(self.table))
        if self._stopped:
            return fail(LocalError("the DHT node has been stopped"))

        def cancel(_: Deferred[int]) -> None:
            self._waiting.pop(waiting, None)

        waiting: Deferred[int] = Deferred(cancel)
        self._waiting[waiting] = None
        return waiting

    def add_node(self, host: str, port: int) -> None:
        """
        A further bootstrap host, a name or an IPv4 literal; asked at once if
        the node runs.
        """
        self._bootstrap.hosts.append((host, port))
        if self.running:
            self._bootstrap.ask(host, port)

    def known_nodes(self) -> list[Contact]:
        """
        Up to L{MAX_KNOWN_NODES} contacts for the next run, the best first.
        """
        return (self.table.contacts() or self._known)[:MAX_KNOWN_NODES]

    def _find_first_nodes(self) -> None:
        if self._bootstrap.running or not self.running:
            return
        self._ready = False
        known = self.known_nodes()
        if (known or self._bootstrap.hosts) and self._warning is None and not self.unreachable:
            self._warning = self._reactor.callLater(UNREACHABLE_AFTER, self._warn)
        self._bootstrap.start(known)

    def _warn(self) -> None:
        self._warning = None
        self.unreachable = True
        hosts = ", ".join(f"{host}:{port}" for host, port in self._bootstrap.hosts) or "none"
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

    def _ask_host(self, host: str, port: int) -> None:
        self._neighbourhood.ask_host(host, port)

    def _heard(self, response: Response) -> None:
        if self._ready or not self.running or not len(self.table):
            return
        self._ready = True
        self.unreachable = False
        self._bootstrap.stop()
        self._cancel_warning()
        self._neighbourhood.find_neighbours(response)
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting:
            if not deferred.called:
                deferred.callback(len(self.table))

    # IDHT

    def _operation(self, deferred: Deferred[T]) -> Deferred[T]:
        self._operations[deferred] = None

        def over(result: T) -> T:
            self._operations.pop(deferred, None)
            return result

        return deferred.addBoth(over)

    def _run(self, operation: Callable[[Client], Coroutine[Any, Any, T]]) -> Deferred[T]:
        async def run() -> T:
            await self.when_ready()
            return await operation(self._neighbourhood.client)

        return self._operation(Deferred.fromCoroutine(run()))

    def get_mutable(
        self,
        public_key: bytes,
        salt: bytes = b"",
        on_answer: Callable[[NodeAnswer], None] | None = None,
    ) -> Deferred[MutableRead]:
        """
        See L{IDHT.get_mutable}.
        """
        if len(public_key) != PUBLIC_KEY_SIZE or len(salt) > MAX_SALT_SIZE:
            raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, a salt at most {MAX_SALT_SIZE}")

        async def get(client: Client) -> MutableRead:
            own = self._own_answer(public_key, salt)
            for answer in own:
                client.tell(on_answer, answer)
            read = await client.get_mutable(public_key, salt, on_answer)
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
        return (NodeAnswer(Contact(self.node_id, "127.0.0.1", self.port), None, value, item.seq, VERSION),)

    def refresh(self, read: MutableRead) -> Deferred[MutableRead]:
        """
        See L{IDHT.refresh}.
        """

        async def again(client: Client) -> MutableRead:
            others = tuple(a for a in read.answers if a.contact.node_id != self.node_id)
            again = await read_again(evolve(read, answers=others), client.ask, client.may_ask)
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
    ) -> Deferred[PutResult]:
        """
        See L{IDHT.put_mutable}.
        """
        item = sign_item(signing_seed, salt, seq, value)
        if (item.public_key, salt) != (read.public_key, read.salt):
            raise ValueError("the read is of another item")

        async def put(client: Client) -> PutResult:
            return await Put(client.ask, read, item, value, placement).run()

        return self._run(put)

    def get_immutable(self, target: bytes) -> Deferred[bytes | None]:
        """
        See L{IDHT.get_immutable}.
        """
        return self._run(lambda client: client.get_immutable(target))

    def put_immutable(self, value: bytes) -> Deferred[PutResult]:
        """
        See L{IDHT.put_immutable}.

        @raise ValueError: at once, if the value is too long or not bencoded.
        """
        if len(value) > MAX_VALUE_SIZE:
            raise ValueError(f"the value has more than {MAX_VALUE_SIZE} bytes")
        try:
            decode(value)
        except DecodeError as error:
            raise ValueError(f"the value is not bencoded: {error}") from None
        return self._run(lambda client: client.put_immutable(value))

    def get_peers(
        self,
        info_hash: bytes,
        on_peer: Callable[[str, int], None] | None = None,
    ) -> Deferred[frozenset[tuple[str, int]]]:
        """
        See L{IDHT.get_peers}.
        """
        return self._run(lambda client: client.get_peers(info_hash, on_peer))

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        See L{IDHT.announce_peer}.
        """
        return self._run(lambda client: client.announce_peer(info_hash, port))
