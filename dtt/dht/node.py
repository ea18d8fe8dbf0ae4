"""
A Mainline node as a service with an IPv4 side, an IPv6 side, or both;
L{IDHT<dtt.interfaces.IDHT>}.

Sequence: the ports are bound, and each side bootstraps, see L{dtt.dht.family}. With the
first response on any side the node is I{ready}, so slots can be read without further
delay. The operations are in L{dtt.dht.operations}. The sides share one store for other
nodes' items.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import zip_longest
from random import Random, SystemRandom
from types import NoneType
from typing import Any, Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from dtt.arguments import check_type
from dtt.deferreds import Waiters
from dtt.dht.arguments import check_node
from dtt.dht.family import Side, make_sides
from dtt.dht.maintenance import Neighbourhood
from dtt.dht.mapped_address import MappingKind, MappingVotes
from dtt.dht.operations import Operations
from dtt.dht.options import NodeOptions
from dtt.dht.reach import Reach
from dtt.dht.routing.ids import generate, random_id
from dtt.dht.routing.table import RoutingTable
from dtt.dht.server.responder import Responder
from dtt.dht.server.upload import UPLOAD_RATE
from dtt.dht.statistics import statistics
from dtt.dht.turns import Turns
from dtt.errors import ListenError, LocalError, UsageError
from dtt.interfaces import IDHT, Contact, NodeAnswer, ServedItem
from dtt.krpc.bencode import decode_message
from dtt.krpc.compact import IPV6
from dtt.krpc.items import MutableItem, mutable_target
from dtt.krpc.messages import VERSION
from dtt.krpc.protocol import KRPCProtocol
from dtt.net.names import resolve_abandonably
from dtt.net.networks import Scope, scope

#: Seconds without any response after which a warning is logged: earlier than a waiting
#: user gives up. Guess.
UNREACHABLE_AFTER: Final = 10.0

#: The most contacts for the state file (more than a full table usually has). Guess.
MAX_KNOWN_NODES: Final = 200


@frozen(slots=True, eq=False)
class NodeObserver:
    """
    The observers of a node.

    @ivar on_external_host: called with our external IP address.
    @ivar on_mapping: called when a mapped address has changed.
    @ivar on_returned: called when nodes answer again after an outage.
    """

    on_external_host: Callable[[str], object]
    on_mapping: Callable[[], object]
    on_returned: Callable[[], object]


@implementer(IDHT)
class DHTNode(Operations, Service):
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
        needs_ipv6: bool = True,
        bootstrap: Sequence[tuple[str, int]] = (),
        known_nodes: Sequence[Contact] = (),
        node_id: bytes | None = None,
        closed: bool = False,
        plain: bool = False,
        upload_rate: float = UPLOAD_RATE,
        external_host: str | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime}, C{IReactorUDP} and
            C{IReactorPluggableNameResolver}. If it resolves names as Twisted does by
            default, it does so in daemon threads from now on (L{dtt.net.names}).
        @param port: the UDP port, 0 for any.
        @param interface: an IPv4 literal, C{""} for all, or C{None} for no IPv4.
        @param interface6: an IPv6 literal, C{"::"} for all, or C{None} for no IPv6: the
            default, since not every host has it.
        @param needs_ipv6: whether it is an error if the IPv6 port can't be bound; otherwise the node
            continues with IPv4 alone.
        @param bootstrap: (name or IP literal, port) pairs.
        @param known_nodes: the result of L{known_nodes} in an earlier run.
        @param node_id: the 20-byte id of an earlier run; random by default.
        @param closed: this is a private network in which many nodes share an IP address
            and need no protection from each other.
        @param plain: a node without topics: never announce it as read-only.
        @param upload_rate: the maximum number of bytes per second sent in answers; ignored in a
            closed network.
        @param external_host: the value of L{external_host} in an earlier run; ignored
            unless it is a global address.
        @param rng: the source of ids and tokens, which must be unpredictable; the
            system's by default.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: an argument has a wrong value.
        """
        check_node(reactor, port, node_id, upload_rate, bootstrap, known_nodes)
        check_type("external_host", external_host, (str, NoneType), "an IP address in text")
        check_type("rng", rng, (Random, NoneType), "a random.Random")
        super().__init__()
        self.port = port
        self.unreachable = False
        self.port6: int | None = None
        self._needs_ipv6 = needs_ipv6
        self._reactor = reactor
        resolve_abandonably(reactor)
        rng = SystemRandom() if rng is None else rng
        if external_host is not None and scope(external_host) is not Scope.GLOBAL:
            external_host = None
        if node_id is None:
            node_id = random_id(rng) if external_host is None else generate(external_host, rng)
        self._observers: dict[object, NodeObserver] = {}
        self._sharing: tuple[Callable[[bytes, str, int], None], Container[bytes]] | None = None
        self._reach = Reach(closed, [host for host, _ in bootstrap])
        options = NodeOptions(
            rng=rng,
            node_id=node_id,
            bootstrap=bootstrap,
            known_nodes=known_nodes,
            reach=self._reach,
            closed=closed,
            always_serves=plain or closed,
            upload_rate=upload_rate,
            external_host=external_host,
        )
        self.sides = make_sides(reactor, options, interface, interface6, self)
        self._turns = Turns(reactor, self._held_back)
        self._warning: IDelayedCall | None = None
        self._stopped = False
        # Pending when_ready() and when_usable() calls.
        self._waiters: Waiters[int] = Waiters()
        self._usable: Waiters[None] = Waiters()

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
    def on_loopback(self) -> bool:
        """
        Whether our network extends to loopback addresses of this machine; see
        L{dtt.dht.reach}.
        """
        return Scope.LOOPBACK in self._reach.scopes

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

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "running" if self.running else "not running"
        return f"<DHTNode {self.node_id.hex()[:10]}: UDP port {self.port}, {self.known} nodes known, {state}>"

    def observe(
        self,
        on_external_host: Callable[[str], object] = lambda host: None,
        on_mapping: Callable[[], object] = lambda: None,
        on_returned: Callable[[], object] = lambda: None,
    ) -> Callable[[], None]:
        """
        Observe changes from now on.

        @param on_external_host: called with our external IP address once other nodes
            agree on it, and when it changes; with two sides, only for IPv4.
        @param on_mapping: called when L{mapped} or L{mapping_kind} has changed.
        @param on_returned: called when known nodes answer again after an outage, in which none did.
        @return: a function that ends this.
        """
        key = object()
        self._observers[key] = NodeObserver(on_external_host, on_mapping, on_returned)

        def end() -> None:
            self._observers.pop(key, None)

        return end

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

        @raise UsageError: the node has started already.
        @raise ListenError: a port can't be bound.
        """
        if self.running:
            raise UsageError("the DHT node has started already; it starts with its parent service")
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
        self.cancel_operations()
        self._waiters.cancel()
        self._usable.cancel()
        return gatherResults([side.stop() for side in self.sides]).addCallback(lambda _: None)

    def _bind(self) -> None:
        first, *others = self.sides
        if first.bound:
            return
        port = first.bind(self.port)
        try:
            for side in others:
                self.port6 = self._bind_second(side, port)
        except ListenError as error:
            if self._needs_ipv6:
                first.stop()
                raise
            self._log.info("Going on without IPv6: {reason}", reason=error.reason)
            first.neighbourhood.leave_other()
            self.sides = [first]
        self.port = port
        if self._sharing is not None:
            self._share()
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
            return succeed(self.known)
        if self._stopped:
            return fail(LocalError("the DHT node has been stopped"))
        return self._waiters.wait()

    def when_usable(self) -> Deferred[None]:
        """
        Wait until operations can begin: after the first response, or, if enough nodes
        are known from the last run, as soon as the node is running.

        @return: fires with C{None}; fails with
            L{LocalError<dtt.errors.LocalError>} if the node has been stopped.
        """
        if any(side.usable for side in self.sides):
            return succeed(None)
        if self._stopped:
            return fail(LocalError("the DHT node has been stopped"))
        return self._usable.wait()

    def add_node(self, host: str, port: int) -> None:
        """
        Add a bootstrap host, a name or an IP literal; query it immediately if the node
        is running.
        """
        for side in self.sides:
            side.add_host(host, port)

    def serve(
        self, targets: Iterable[bytes], source: Callable[[bytes], ServedItem | None]
    ) -> Callable[[], None]:
        """
        Serve our own items; see L{IDHT.serve<dtt.interfaces.IDHT.serve>}.
        """
        return self._neighbourhood.responder.resources.own.add(targets, source)

    # Sharing the socket

    def share(self, receiver: Callable[[bytes, str, int], None], connection_ids: Container[bytes]) -> None:
        """
        Share the node's sockets with another protocol; see
        L{KRPCProtocol.share<dtt.krpc.protocol.KRPCProtocol.share>}.

        @raise UsageError: they are already shared.
        """
        if self._sharing is not None:
            raise UsageError("the sockets of this DHT node already carry the QUIC of another tracker")
        self._sharing = receiver, connection_ids
        self._share()

    def unshare(self) -> None:
        """
        End the sharing.
        """
        if self._sharing is not None:
            self._sharing = lambda datagram, host, port: None, ()
            self._share()
            self._sharing = None

    def _share(self) -> None:
        assert self._sharing is not None
        receiver, connection_ids = self._sharing
        for side in self.sides:
            if side.bound:
                side.neighbourhood.krpc.share(receiver, connection_ids)

    def send_datagram(self, datagram: bytes, host: str, port: int) -> None:
        """
        Send a datagram of the other protocol; one that can't be sent is lost.

        @param host: an IP literal, formatted as the socket formats it.
        """
        for side in self.sides:
            if side.bound and side.family.has(host):
                side.neighbourhood.krpc.send_datagram(datagram, host, port)

    def bound_addresses(self) -> list[tuple[str, int]]:
        """
        Return the IP literal and the port of each socket; C{"0.0.0.0"} and C{"::"} stand
        for all addresses.
        """
        return [address for side in self.sides if (address := side.bound_address) is not None]

    def mapped(self) -> list[tuple[str, int]]:
        """
        Return the addresses and ports at which other nodes see our sockets, at most one
        of each family (docs/protocol/quic.md section 1).
        """
        found = [side.neighbourhood.mapping.elected for side in self.sides]
        return [(str(ipaddress.ip_address(each[0])), each[1]) for each in found if each is not None]

    def mapping_votes(self) -> list[MappingVotes]:
        """
        Return what other nodes say about the mapped address of each socket.
        """
        return [side.neighbourhood.mapping for side in self.sides]

    def mapping_kind(self) -> MappingKind:
        """
        Return how the NAT in front of our socket, of the first family, maps it.
        """
        return self._neighbourhood.mapping.kind

    def mapped_hosts(self) -> list[str]:
        """
        Return the IP literals at which other nodes see our sockets, at most one of each
        family; unlike L{mapped}, also of a family without a single port.
        """
        found = [side.neighbourhood.mapping.ip for side in self.sides]
        return [str(ipaddress.ip_address(each)) for each in found if each is not None]

    def mapping_moves(self) -> int:
        """
        Return how often the address at which others see one of our sockets has changed.
        """
        return sum(side.neighbourhood.mapping.moves for side in self.sides)

    def keep_mapping(self, *, behind_nat: bool) -> None:
        """
        Set whether a NAT maps our sockets. If so, a node is pinged every few seconds, which keeps the mapping
        alive and detects changes.
        """
        for side in self.sides:
            side.neighbourhood.mapping_watch.enabled = behind_nat

    def network_changed(self) -> None:
        """
        Look for nodes as at the start, and for our mapped address: the network of this
        machine has changed.
        """
        for side in self.sides:
            side.network_changed()

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

    @property
    def known(self) -> int:
        """
        The number of nodes known in all families, verified or not.
        """
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

    # For the operations

    def usable_sides(self) -> list[Side]:
        """
        Return the sides that have nodes to query.
        """
        return [side for side in self.sides if side.usable]

    def side_of(self, host: str) -> Side | None:
        """
        Return the side with a bound socket of the family of C{host}.
        """
        return next((side for side in self.sides if side.bound and side.family.has(host)), None)

    def own_answer(self, public_key: bytes, salt: bytes) -> tuple[NodeAnswer, ...]:
        """
        Return what our own node stores, as the last answer, without a token: others may
        have put the item on this very node.
        """
        item = self.responder.items.get(mutable_target(public_key, salt), self._reactor.seconds())
        if not isinstance(item, MutableItem):
            return ()
        value = decode_message(item.encoded)
        if type(value) is not bytes:
            return ()
        contact = Contact(self.node_id, self.sides[0].family.loopback, self.port)
        return (NodeAnswer(contact, None, value, item.seq, VERSION),)

    # For the sides

    def side_ready(self) -> None:
        """
        End the waiting.
        """
        self.unreachable = False
        self._cancel_warning()
        self._waiters.fire(self.known)
        self._usable.fire(None)

    def side_usable(self) -> None:
        """
        Begin the operations.
        """
        self._usable.fire(None)

    def side_searching(self) -> None:
        """
        Schedule a warning unless another side is ready.
        """
        if any(side.ready for side in self.sides) or self.unreachable or self._warning is not None:
            return
        if self.sides[0].hosts or self.known_nodes():
            self._warning = self._reactor.callLater(UNREACHABLE_AFTER, self._warn)

    def side_returned(self) -> None:
        """
        Notify the observers.
        """
        for observer in tuple(self._observers.values()):
            observer.on_returned()

    def side_mapping_changed(self) -> None:
        """
        Notify the observers.
        """
        for observer in tuple(self._observers.values()):
            observer.on_mapping()

    def side_external_host_changed(self, side: Side, host: str) -> None:
        """
        Notify the observers, if it is the first side.
        """
        if side is self.sides[0]:
            for observer in tuple(self._observers.values()):
                observer.on_external_host(host)

    # For the operations

    def take_turn(self, kind: str) -> Deferred[None]:
        """
        Wait until an operation of this kind may start.
        """
        return self._turns.wait(kind)

    def end_turn(self) -> None:
        """
        Let another operation start.
        """
        self._turns.end()

    def _held_back(self) -> int:
        return sum(side.neighbourhood.krpc.held_back for side in self.sides if side.bound)
