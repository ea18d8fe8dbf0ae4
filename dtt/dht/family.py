"""
One side of a node: IPv4 or IPv6 (BEP32). The sides work independently.

Sequence: the port is bound. Bootstrap hosts and nodes known from the last run are
queried concurrently. With enough nodes from the last run, operations begin at once,
with these as starting points. With the first response the side is I{ready} and looks up
its own id in the background. From then on, nodes that respond enter the routing table,
and queries are answered by L{Responder<dtt.dht.server.responder.Responder>}: see
L{dtt.dht.maintenance}.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorSocket
from twisted.internet.protocol import DatagramProtocol

from dtt.dht.bootstrap import KNOWN_PER_ROUND, Bootstrap
from dtt.dht.client.client import Client
from dtt.dht.maintenance import Neighbourhood
from dtt.dht.options import NodeOptions
from dtt.dht.routing.buckets import K
from dtt.errors import ListenError
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, IPV6, Family
from dtt.krpc.messages import Response
from dtt.net.inherited import take

#: The most bytes the reactor reads from the port before it checks its timers. The
#: default of 256 KiB delays them by 34 ms under a flood (docs/protocol/dht.md section
#: 6).
MAX_THROUGHPUT: Final = 16 * 1024

#: The largest datagram received, bytes. Twisted's default.
MAX_PACKET_SIZE: Final = 8192


#: Operations begin before the first response if at least this many nodes are known from
#: the last run (docs/protocol/latency.md section 3, item 8): one of 8 should be alive.
KNOWN_TO_BEGIN: Final = K

#: Seconds after the start during which they do. Guess: by then all queries to nodes
#: from the last run have timed out, and only a bootstrap host can help.
BEGIN_FOR: Final = 5.0


class SideOwner(Protocol):
    """
    The owner of a side, the node, as the side uses it.
    """

    def side_ready(self) -> None:
        """
        A side has become ready, possibly again.
        """

    def side_usable(self) -> None:
        """
        A side that is not ready can begin operations.
        """

    def side_searching(self) -> None:
        """
        A side has started to look for nodes while not ready.
        """

    def side_returned(self) -> None:
        """
        The network of a side has returned after an outage.
        """

    def side_mapping_changed(self) -> None:
        """
        The mapped address of a side's socket has changed.
        """

    def side_external_host_changed(self, side: Side, host: str) -> None:
        """
        Our external IP address of one family became known or has changed.
        """


class Side:
    """
    One address family of a node.

    @ivar family: the family of all its addresses.
    @ivar neighbourhood: its routing table, responder, id and client.
    @ivar ready: a node has answered, and the nodes known have not all died since.
    @ivar trying: not ready yet, but operations may begin with the nodes known from the
        last run.
    """

    neighbourhood: Neighbourhood

    def __init__(
        self,
        reactor: Any,
        options: NodeOptions,
        family: Family,
        interface: str,
        owner: SideOwner,
        other: Side | None = None,
    ) -> None:
        """
        @param reactor: the clock and UDP.
        @param options: those of the node.
        @param family: the address family.
        @param interface: an IP literal of the family, or C{""} for all addresses.
        @param owner: informed of our state and of our external address.
        @param other: the side of the other family, if there is one.
        """
        self.family = family
        self.ready = False
        self.trying = False
        self._reactor = reactor
        self._interface = interface
        self._owner = owner
        self._reach = options.reach
        self._known = [contact for contact in options.known_nodes if family.has(contact.host)]
        self._bootstrap = Bootstrap(reactor, options.bootstrap, self._ask_host, options.rng, family)
        self.neighbourhood = Neighbourhood(
            reactor, options, family, self, None if other is None else other.neighbourhood
        )
        self._listening: IListeningPort | None = None
        self._running = False
        self._tried: IDelayedCall | None = None
        # The number of probes sent during outages.
        self._probes = 0

    @property
    def usable(self) -> bool:
        """
        Whether operations may begin.
        """
        return self.ready or self.trying

    @property
    def client(self) -> Client:
        """
        The client: queries to other nodes.
        """
        return self.neighbourhood.client

    def before_read(self) -> None:
        """
        Look for more nodes now if few are known; see
        L{Neighbourhood.find_neighbours_now<dtt.dht.maintenance.Neighbourhood.find_neighbours_now>}.
        """
        self.neighbourhood.find_neighbours_now()

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """
        The bootstrap hosts, (name or IP literal, port).
        """
        return self._bootstrap.hosts

    @property
    def bound(self) -> bool:
        """
        Whether the port is bound.
        """
        return self._listening is not None

    @property
    def bound_address(self) -> tuple[str, int] | None:
        """
        The IP literal and the port that are bound.
        """
        if self._listening is None:
            return None
        address: Any = self._listening.getHost()
        return address.host or "0.0.0.0", address.port

    def bind(self, port: int) -> int:
        """
        Bind the port, or use the socket that this process has inherited
        (L{dtt.net.inherited}).

        @param port: the port, or 0 for any; ignored with an inherited socket.
        @return: the actual port.
        @raise ListenError: the port can't be bound.
        """
        protocol = self.neighbourhood.open()
        try:
            listening = self._listen(port, protocol)
        except CannotListenError as error:
            where = f"[{self._interface}]" if ":" in self._interface else self._interface or "*"
            raise ListenError.of(f"UDP {where} port {port}", error.socketError, "DHT port") from error
        self._listening = listening
        listening.maxThroughput = MAX_THROUGHPUT
        address = listening.getHost()
        self._reach.bound(address.host)
        return int(address.port)

    def _listen(self, port: int, protocol: DatagramProtocol) -> Any:
        family = socket.AF_INET if self.family is IPV4 else socket.AF_INET6
        inherited = take(family)
        if inherited is not None and IReactorSocket.providedBy(self._reactor):
            os.set_blocking(inherited, False)  # systemd's blocks: reading would stop the reactor
            return self._reactor.adoptDatagramPort(inherited, family, protocol, maxPacketSize=MAX_PACKET_SIZE)
        interface = self._interface or ("" if self.family is IPV4 else "::")
        if self.family is IPV4 or not IReactorSocket.providedBy(self._reactor):
            return self._reactor.listenUDP(port, protocol, interface=interface, maxPacketSize=MAX_PACKET_SIZE)
        # Without this option the socket would also use IPv4, whose port is already
        # bound, and would deliver IPv4-mapped addresses.
        try:
            address = socket.getaddrinfo(
                interface, port, socket.AF_INET6, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )[0][4]
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.setblocking(False)
                bound.bind(address)
                return self._reactor.adoptDatagramPort(
                    bound.fileno(), socket.AF_INET6, protocol, maxPacketSize=MAX_PACKET_SIZE
                )
        except OSError as error:
            raise CannotListenError(interface, port, error) from error

    def start(self) -> None:
        """
        Start the upkeep and look for the first nodes.
        """
        self._running = True
        self.neighbourhood.start()
        self._find_first_nodes()
        if len(self._known) >= KNOWN_TO_BEGIN:
            self.client.earlier_contacts = self._known
            self.trying = True
            self._tried = self._reactor.callLater(BEGIN_FOR, self._stop_trying)
            self._owner.side_usable()

    def stop(self) -> Deferred[None]:
        """
        Stop everything and close the port.

        @return: fires when the port is closed.
        """
        self._running = self.ready = False
        if self._tried is not None:
            self._tried.cancel()
            self._stop_trying()
        self._bootstrap.stop()
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        self.neighbourhood.close()
        closed: Deferred[None] = maybeDeferred(cast("Callable[[], Deferred[None]]", listening.stopListening))
        return closed

    def add_host(self, host: str, port: int) -> None:
        """
        Add a bootstrap host; query it immediately if the side is running.
        """
        self._bootstrap.hosts.append((host, port))
        if self._running:
            self._bootstrap.ask(host, port)

    def known_nodes(self) -> list[Contact]:
        """
        Return contacts for the next run, the best first.
        """
        return self.neighbourhood.table.contacts() or self._known

    def _ask_host(self, host: str, port: int, is_bootstrap: bool) -> None:
        self.neighbourhood.ask_host(host, port, is_bootstrap)

    def _stop_trying(self) -> None:
        self._tried = None
        self.trying = False

    def network_changed(self) -> None:
        """
        Look for nodes as at the start, without the intervals of a failed search: the network of this machine
        has changed.
        """
        if self._running:
            self.neighbourhood.network_changed()
            self._begin_again()

    def _begin_again(self) -> None:
        self._bootstrap.stop()
        self._bootstrap.succeeded()
        self._find_first_nodes()

    def _find_first_nodes(self) -> None:
        if not self._running:
            return
        # Nodes that seem dead while there is no network are alive afterwards.
        self._known = self.neighbourhood.table.contacts() or self._known
        self.ready = self.ready and len(self.neighbourhood.table) > 0
        if not self.ready:
            self._owner.side_searching()
        self._bootstrap.start(self.known_nodes())

    # For the neighbourhood

    def nodes_lost(self) -> None:
        """
        Look for nodes as at the start.
        """
        self._find_first_nodes()

    def probe_network(self) -> None:
        """
        Query a node that has answered before, each time a different one; if none is known, a bootstrap host,
        but only until the first response: hosts that name only nodes that do not exist are not to be asked
        often.
        """
        self._probes += 1
        known = self.known_nodes()[:KNOWN_PER_ROUND]
        if known:
            contact = known[self._probes % len(known)]
            self._ask_host(contact.host, contact.port, False)
        elif self.hosts and not self.neighbourhood.outage.ever_heard:
            self._bootstrap.ask(*self.hosts[self._probes % len(self.hosts)])

    def network_returned(self) -> None:
        """
        Look for nodes as at the start, without the intervals of a failed search.
        """
        self._begin_again()
        self._owner.side_returned()

    def response_received(self, response: Response, host: str) -> None:
        """
        Become ready with the first useful response.
        """
        if not self._bootstrap.running:
            return
        named = self.neighbourhood.named_in(response, host)
        if not len(self.neighbourhood.table) and not named:
            return
        self._bootstrap.stop()
        self.client.earlier_contacts = self._known
        self.neighbourhood.find_neighbours(named)
        if not self.ready:
            self.ready = True
            self._owner.side_ready()

    def mapping_changed(self) -> None:
        """
        Tell the owner.
        """
        self._owner.side_mapping_changed()

    def neighbours_found(self) -> None:
        """
        Stop delaying rounds of bootstrapping.
        """
        self._bootstrap.succeeded()

    def external_host_changed(self, host: str) -> None:
        """
        Tell the owner.
        """
        self._owner.side_external_host_changed(self, host)


def make_sides(
    reactor: Any, options: NodeOptions, interface: str | None, interface6: str | None, owner: SideOwner
) -> list[Side]:
    """
    Create the sides of a node, IPv4 first.

    @param interface: an IPv4 literal or C{""}; C{None}: no IPv4.
    @param interface6: an IPv6 literal or C{"::"}; C{None}: no IPv6.
    @raise ValueError: both interfaces are C{None}.
    """
    if interface is None and interface6 is None:
        raise ValueError("a node needs an IPv4 or an IPv6 interface")
    # Create the IPv4 side last: its answers have to be the fastest, and this way it
    # knows from the start whether there is another side.
    six = four = None
    if interface6 is not None:
        six = Side(reactor, options, IPV6, interface6, owner)
    if interface is not None:
        four = Side(reactor, options, IPV4, interface, owner, six)
    return [side for side in (four, six) if side is not None]
