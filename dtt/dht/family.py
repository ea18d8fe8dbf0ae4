"""
One side of a node: IPv4 or IPv6 (BEP32), each of which works alone.

What happens: the port is bound; bootstrap hosts and nodes known from the last
run are asked side by side; with the first answer the side is I{ready}, and
looks its own id up meanwhile.  From then on whoever answers enters the routing
table, who asks is answered by L{Responder<dtt.dht.server.responder.Responder>}: see
L{dtt.dht.maintenance}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.internet.protocol import DatagramProtocol

from dtt.dht.bootstrap import Bootstrap
from dtt.dht.client.client import Client
from dtt.dht.client.reads import contacts_in
from dtt.dht.maintenance import Neighbourhood
from dtt.errors import ListenError
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, IPV6, Family
from dtt.krpc.messages import Response

#: Bytes of events that the reactor reads from the port before it looks at its
#: timers: the default of 256 KiB makes them 34 ms late under a flood
#: (docs/protocol/dht.md section 6).
MAX_THROUGHPUT: Final = 16 * 1024

#: Bytes of the largest datagram that is received.  Twisted's default.
MAX_PACKET_SIZE: Final = 8192


class Side:
    """
    @ivar family: of all its addresses.
    @ivar neighbourhood: its routing table, responder, id and client.
    @ivar ready: a node has answered, and not all have died since.
    """

    neighbourhood: Neighbourhood

    def __init__(
        self,
        reactor: Any,
        family: Family,
        interface: str,
        node_id: bytes,
        beside: Side | None,
        *,
        bootstrap: Sequence[tuple[str, int]],
        known_nodes: Sequence[Contact],
        closed: bool,
        always_serves: bool,
        upload_rate: float,
        external_host: str | None,
        on_ready: Callable[[], None],
        on_searching: Callable[[], None],
        on_external_host: Callable[[str], None] | None,
        rng: Random,
    ) -> None:
        """
        @param interface: a literal of the family, or C{""} for all addresses.
        @param beside: the other side, if there is one.
        @param known_nodes: of any family; those of the other are left out.
        @param on_ready: called each time that it becomes ready.
        @param on_searching: called when it is not ready, and begins to ask.

        For the others see L{dtt.dht.node.DHTNode} and L{Neighbourhood}.
        """
        self.family = family
        self.ready = False
        self._reactor = reactor
        self._interface = interface
        self._known = [contact for contact in known_nodes if family.has(contact.host)]
        self._on_ready = on_ready
        self._on_searching = on_searching
        self._bootstrap = Bootstrap(reactor, bootstrap, self._ask_host, rng, family)
        self.neighbourhood = Neighbourhood(
            reactor,
            node_id,
            family,
            None if beside is None else beside.neighbourhood,
            closed=closed,
            always_serves=always_serves,
            upload_rate=upload_rate,
            external_host=external_host,
            rng=rng,
            on_response=self._heard,
            on_lost=self._find_first_nodes,
            on_external_host=on_external_host,
        )
        self._listening: IListeningPort | None = None
        self._running = False

    @property
    def client(self) -> Client:
        """
        Asks others.
        """
        return self.neighbourhood.client

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """
        The bootstrap hosts.
        """
        return self._bootstrap.hosts

    @property
    def bound(self) -> bool:
        """
        Has it a port?
        """
        return self._listening is not None

    def bind(self, port: int) -> int:
        """
        Bind the port, 0 for any.

        @return: the real one.
        @raise ListenError: it can't be bound.
        """
        protocol = self.neighbourhood.open()
        try:
            listening = self._listen(port, protocol)
        except CannotListenError as error:
            where = f"[{self._interface}]" if ":" in self._interface else self._interface or "*"
            raise ListenError.of(f"UDP {where} port {port}", error.socketError, "DHT port") from error
        self._listening = listening
        listening.maxThroughput = MAX_THROUGHPUT
        real: int = listening.getHost().port
        return real

    def _listen(self, port: int, protocol: DatagramProtocol) -> Any:
        interface = self._interface or ("" if self.family is IPV4 else "::")
        if self.family is IPV4 or not IReactorSocket.providedBy(self._reactor):
            return self._reactor.listenUDP(port, protocol, interface=interface, maxPacketSize=MAX_PACKET_SIZE)
        # Without this option the socket would be IPv4's, too, whose port is
        # bound already, and give IPv4 addresses in IPv6's clothes.
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
        Find the first nodes.
        """
        self._running = True
        self.neighbourhood.start()
        self._find_first_nodes()

    def stop(self) -> Deferred[None]:
        """
        End all that is under way; fires when the port is closed.
        """
        self._running = self.ready = False
        self._bootstrap.stop()
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        self.neighbourhood.close()
        closed: Deferred[None] = maybeDeferred(cast("Callable[[], Deferred[None]]", listening.stopListening))
        return closed

    def add_host(self, host: str, port: int) -> None:
        """
        A further bootstrap host, asked at once if the node runs.
        """
        self._bootstrap.hosts.append((host, port))
        if self._running:
            self._bootstrap.ask(host, port)

    def known_nodes(self) -> list[Contact]:
        """
        Contacts for the next run, the best first.
        """
        return self.neighbourhood.table.contacts() or self._known

    def _ask_host(self, host: str, port: int, is_bootstrap: bool) -> None:
        self.neighbourhood.ask_host(host, port, is_bootstrap)

    def _find_first_nodes(self) -> None:
        if not self._running:
            return
        self.ready = self.ready and len(self.neighbourhood.table) > 0
        if not self.ready:
            self._on_searching()
        self._bootstrap.start(self.known_nodes())

    def _heard(self, response: Response) -> None:
        if not self._bootstrap.running:
            return
        if not len(self.neighbourhood.table) and not contacts_in(response, self.family):
            return
        self._bootstrap.stop()
        self.client.saved = self._known
        self.neighbourhood.find_neighbours(response)
        if not self.ready:
            self.ready = True
            self._on_ready()


def make_sides(
    reactor: Any, interface: str | None, interface6: str | None, node_id: bytes, **more: Any
) -> list[Side]:
    """
    The sides of a node, that of IPv4 first.

    @param interface: L{None}: no IPv4.
    @param interface6: L{None}: no IPv6.
    @param more: see L{Side}; our external host is told of the first one only.
    @raise ValueError: there would be none.
    """
    if interface is None and interface6 is None:
        raise ValueError("a node needs an interface")
    on_external_host = more.pop("on_external_host")
    # That of IPv4, whose answers have to be the fastest, is made last: it then
    # knows from the start whether there is another one.
    six = four = None
    if interface6 is not None:
        told = on_external_host if interface is None else None
        six = Side(reactor, IPV6, interface6, node_id, None, on_external_host=told, **more)
    if interface is not None:
        four = Side(reactor, IPV4, interface, node_id, six, on_external_host=on_external_host, **more)
    return [side for side in (four, six) if side is not None]
