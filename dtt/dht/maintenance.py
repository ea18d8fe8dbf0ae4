"""
A node's relation to the network, per address family: routing table, responder, id.

Rules:
  - Each address family has its own neighbourhood.  Both share the store (BEP32).  While one family knows few
    nodes, the nodes queried in the other family are asked for its nodes too (C{want}).
  - A node that responds to us enters the routing table if there is a place. A node that
    queries us and is not read-only is pinged first (BEP5), a bounded number at a time.
  - Our id is made valid for the external address on which nodes in the table agree
    (BEP42).
  - A search succeeds if at least a quarter of its queries were answered. Others are
    repeated at growing intervals: hostile nodes can name any number of nodes that do not
    exist, and then fall silent.
  - When the machine has been suspended, or responses suddenly stop, we bootstrap again
    and keep the table. While we know few nodes we look for more at growing intervals:
    the nodes of a small network may just have been busy.
  - A bootstrap host that names other nodes does not enter the table. Those of the
    public DHT store nothing, name the same nodes whatever the query, and drop queries
    that come too often (docs/protocol/latency.md section 1, F).
  - We announce ourselves as read-only while no unsolicited query arrives (BEP43).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from dtt.dht.bootstrap import KNOWN_PER_ROUND
from dtt.dht.client.client import Client
from dtt.dht.client.lookup import DEFAULTS, LookupOptions
from dtt.dht.client.reads import contacts_in
from dtt.dht.external_address import AddressVotes
from dtt.dht.mapped_address import MappingVotes
from dtt.dht.mapping_watch import MappingWatch
from dtt.dht.options import NodeOptions
from dtt.dht.outage import OutageWatch
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import generate, is_valid
from dtt.dht.routing.table import FRESH, RoutingTable
from dtt.dht.server.resources import Resources
from dtt.dht.server.responder import Responder
from dtt.errors import QueryTimeout
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, IPV6, Family, decode_address, encode_address
from dtt.krpc.flood import FloodLimiter
from dtt.krpc.messages import Query, Response
from dtt.krpc.protocol import HARD_TIMEOUT, KRPCProtocol
from dtt.net.networks import site

#: Seconds between upkeep runs. Guess: it also bounds the delay until a suspend is
#: noticed.
UPKEEP_INTERVAL: Final = 10.0

#: Seconds by which an upkeep run must be late for the machine to count as suspended in
#: between: more than any load delays it, less than the lifetime of a NAT mapping.
#: Guess.
SUSPENDED: Final = 30.0

#: Seconds after which a node that knows few others looks for more; doubled each time up
#: to the second number. Guesses: the first is the upkeep interval, the second the time
#: after which buckets are refreshed.
FIRST_SEARCH: Final = 10.0
MAX_SEARCH: Final = FRESH

#: A bucket that has not changed for a long time is refreshed by a lookup that ends early: it needs some
#: nodes of the bucket, not the nearest ones to its random target (guess).
REFRESHED: Final = LookupOptions(width=3)

#: Seconds from the first response to the lookup of our own id: in a network so small
#: that it names fewer nodes than fit into a response, and in a larger one, where the
#: first lookups succeed without it and need the packets. Guesses: a round trip or two;
#: the time in which members meet.
OWN_LOOKUP_DELAY: Final = 0.1
OWN_LOOKUP_DELAY_LARGE: Final = 5.0

#: The share of queries of a search that are answered if most of the nodes named exist. In
#: the public DHT two thirds are (docs/protocol/latency.md section 1, C). Guess.
SUCCESS: Final = 0.25

#: The most bootstrap addresses that are distinguished from other nodes. Guess: names
#: may have many addresses.
MAX_HOSTS: Final = 256

#: Consecutive timeouts without any response after which our own network is suspected.
#: Only queries sent after the last response count: those of one lookup time out
#: together, and in the public DHT a third of all queries do (docs/protocol/latency.md
#: section 1, C). Guess: as many as a lookup begins with.
SILENCE: Final = 16

#: Seconds without an unsolicited query until we announce ourselves as read-only
#: (docs/protocol/dht.md section 2, BEP43).
READ_ONLY_AFTER: Final = 300.0

#: The most hosts remembered as having been sent something; a query from another host is
#: unsolicited. Guess: several hours of a busy node.
MAX_SENT_TO: Final = 16384

#: The most concurrent pings to nodes that queried us.  Guess: with the timeout of 2 s,
#: at most 16 pings per second to addresses that may be forged.
MAX_PINGS: Final = 32


class NeighbourhoodOwner(Protocol):
    """
    The owner of a neighbourhood, as the neighbourhood uses it.
    """

    def response_received(self, response: Response, host: str) -> None:
        """
        The node at an IP address has responded, and the table was updated.
        """

    def mapping_changed(self) -> None:
        """
        The mapped address of our socket has changed.
        """

    def nodes_lost(self) -> None:
        """
        All nodes in the table are dead or may be unreachable. Called repeatedly.
        """

    def probe_network(self) -> None:
        """
        Nothing answers: query a node that has answered before.
        """

    def network_returned(self) -> None:
        """
        Known nodes answer again, after an outage.
        """

    def neighbours_found(self) -> None:
        """
        The lookup of our own id has found nodes, most of which exist.
        """

    def external_host_changed(self, host: str) -> None:
        """
        Our external IP address became known or has changed.
        """


class Neighbourhood:
    """
    The state of a node in one address family, and its upkeep.

    @ivar family: the family of all addresses.
    @ivar node_id: our 20-byte id.
    @ivar table: the routing table.
    @ivar responder: answers queries from others.
    @ivar mapping: the votes on the mapped address of our socket.
    @ivar outage: notices that our network is gone, and that it has returned.
    @ivar mapping_watch: keeps that mapping, and notices that it has changed.
    @ivar krpc: the protocol; a new one after each L{open}.
    @ivar client: sends queries to others over C{krpc}.
    @ivar strangers: the number of queries from hosts to which we had sent nothing.
    """

    krpc: KRPCProtocol
    client: Client

    def __init__(
        self,
        reactor: Any,
        options: NodeOptions,
        family: Family,
        owner: NeighbourhoodOwner,
        other: Neighbourhood | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param options: those of the node.
        @param family: the address family.
        @param owner: informed of responses, losses and our external address.
        @param other: the neighbourhood of the other family, if there is one; its stores
            and limits are shared.
        """
        self.family = family
        self.node_id = options.node_id
        self._reactor = reactor
        self.mapping = MappingVotes()
        self._reach = options.reach
        self._closed = options.closed
        self._always_serves = options.always_serves
        self._rng = options.rng
        self._owner = owner
        now = reactor.seconds()
        self.table = RoutingTable(options.node_id, now, closed=options.closed)
        self._other = other
        if other is not None:
            other._other = self
        self.responder = self._make_responder(options)
        known = options.external_host
        if known is not None and not family.has(known):
            known = None
        self._votes = AddressVotes(None if known is None else encode_address(known, 0)[:-2])
        # An ordered set.
        self._sent_to: OrderedDict[str, None] = OrderedDict()
        self.strangers = 0
        self._last_stranger = now
        self._pings = 0
        # Nodes being pinged only because they have queried us.
        self._uninvited: set[tuple[str, int]] = set()
        self.outage = OutageWatch(reactor, owner.probe_network, owner.network_returned)
        self._next_upkeep = now + UPKEEP_INTERVAL
        self._searched = now
        self._search_pause = FIRST_SEARCH
        self._hosts: set[tuple[str, int]] = set()
        self._introduced: set[Contact] = set()
        self._finding = False
        self._own_lookup: IDelayedCall | None = None
        self._id_change: IDelayedCall | None = None
        self._lookups: dict[Deferred[list[Contact]], None] = {}
        self._upkeep = LoopingCall(self._keep_up)
        self._upkeep.clock = reactor
        self.mapping_watch = MappingWatch(reactor, self._good_nodes, self._ping)

    def _make_responder(self, options: NodeOptions) -> Responder:
        if self._other is not None:
            resources = self._other.responder.resources
        else:
            resources = Resources.create(
                options.node_id, closed=options.closed, upload_rate=options.upload_rate
            )
        here, there = self._nearest, self._nearest_in_other
        return Responder(
            self._reactor,
            options.node_id,
            here if self.family is IPV4 else there,
            nearest6=here if self.family is IPV6 else there if self._other is not None else None,
            rng=options.rng,
            resources=resources,
        )

    def _nearest(self, target: bytes) -> bytes:
        return self.table.nearest_compact(target)

    def _nearest_in_other(self, target: bytes) -> bytes:
        return b"" if self._other is None else self._other.table.nearest_compact(target)

    def open(self) -> KRPCProtocol:
        """
        Create a new protocol, to be connected to a port.
        """
        self.krpc = KRPCProtocol(
            self._reactor,
            self.node_id,
            answer=self.answer,
            seen=self.seen,
            limiter=None if self._closed else FloodLimiter(None if self.family is IPV4 else site),
            rng=self._rng,
        )
        self.client = Client(self._reactor, self.krpc, self.table, self.family, self, self._reach)
        return self.krpc

    @property
    def external_host(self) -> str | None:
        """
        Our external IP address, once other nodes agree on it.
        """
        return None if self._votes.elected is None else decode_address(self._votes.elected + bytes(2))[0]

    def start(self) -> None:
        """
        Start the upkeep.
        """
        self._last_stranger = self._searched = now = self._reactor.seconds()
        self._next_upkeep = now + UPKEEP_INTERVAL
        self._search_pause = FIRST_SEARCH
        self._upkeep.start(UPKEEP_INTERVAL, now=False)
        self.outage.begin()
        self.mapping_watch.start()

    def close(self) -> None:
        """
        Stop the upkeep and cancel all queries.
        """
        if self._upkeep.running:
            self._upkeep.stop()
        self.mapping_watch.stop()
        self.outage.stop()
        for soon in (self._own_lookup, self._id_change):
            if soon is not None:
                soon.cancel()
        self._own_lookup = self._id_change = None
        for lookup in list(self._lookups):
            lookup.cancel()
        self.krpc.close()

    def leave_other(self) -> None:
        """
        Continue without the neighbourhood of the other family.
        """
        self._other = None

    def network_changed(self) -> None:
        """
        Forget at which address others have seen us: the network of this machine has
        changed.
        """
        self.mapping.forget()
        self.outage.begin()
        self._search_pause = FIRST_SEARCH

    # Bootstrapping

    def ask_host(self, host: str, port: int, is_bootstrap: bool) -> None:
        """
        Query the node at an IP address for nodes near us, unless we don't send there.

        @param is_bootstrap: whether it is a bootstrap host, rather than a node known
            from earlier: our network extends to its address.
        """
        if is_bootstrap:
            self._reach.include(host)
        if not self._reach.allows(host):
            return
        if is_bootstrap and len(self._hosts) < MAX_HOSTS:
            self._hosts.add((host, port))
        self.sending(host)
        arguments: dict[bytes, Any] = {b"target": self.node_id}
        if self._other is not None:
            # The first nodes of one family may know nodes of the other.
            arguments[b"want"] = [b"n4", b"n6"]
        query = self.krpc.query(host, port, b"find_node", arguments)
        query.addCallbacks(self._host_answered, self._host_failed, callbackArgs=(host,))

    @property
    def needs_nodes(self) -> bool:
        """
        Whether the table has too few nodes for a full response.
        """
        return len(self.table) < K

    @property
    def known(self) -> int:
        """
        The number of nodes known, verified or not.
        """
        return max(len(self.table), len(self.client.unverified))

    def introduce(self, contacts: Iterable[Contact]) -> None:
        """
        Ping nodes learned from a node of the other family, a bounded number at a time.
        """
        known = self.table.contacts()
        for contact in contacts:
            if contact not in known and contact not in self._introduced and len(self._introduced) < K:
                self._introduced.add(contact)
                self._ping(contact, partial(self._introduced.discard, contact))

    def _host_answered(self, response: Response, host: str) -> None:
        if self._finding:
            self.client.learn_unverified(self.named_in(response, host))

    def _host_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, QueryTimeout):
            self._silence()

    def named_in(self, response: Response, host: str) -> list[Contact]:
        """
        Return the nodes of our family in a response that its sender may name.

        @param host: the sender's IP address.
        """
        return contacts_in(response, self.family, self._reach.named_by(host))

    def find_neighbours(self, named: Sequence[Contact] | None = None) -> None:
        """
        Schedule the lookup of our own id.  Operations that wait for the first response run first; they also
        fill the table.

        @param named: the nodes in the first response. All lookups start from them too
            until our own lookup is done.
        """
        client = self.client
        if named is None and client.unverified:
            # The table around a new id may be empty: lookups still need starting points.
            client.earlier_contacts = client.unverified
        client.forget_unverified()
        if named is not None:
            client.learn_unverified(named)

        self._finding = True
        if self._own_lookup is None:
            wait = OWN_LOOKUP_DELAY_LARGE if self._is_large() else OWN_LOOKUP_DELAY
            self._own_lookup = self._reactor.callLater(wait, self._look_up_own_id)

    def _is_large(self) -> bool:
        return len(self.table) + len(self.client.unverified) > K

    def find_neighbours_now(self) -> None:
        """
        Look up our own id immediately if that is still scheduled and the network is
        small: a read from the 32 nearest nodes needs more of them than the nearest ones
        name.
        """
        if self._own_lookup is not None and not self._is_large():
            self._own_lookup.cancel()
            self._look_up_own_id()

    def _look_up_own_id(self) -> None:
        self._own_lookup = None

        def ended(_: object) -> None:
            if len(self.table) < K and self._hosts:
                # A small network whose nodes are all bootstrap hosts: ordinary nodes.
                self._hosts.clear()
                self._look_up(self.node_id).addBoth(ended)
                return
            self._finding = False
            self.client.forget_unverified()

        self._look_up(self.node_id).addBoth(ended)

    def _look_up(self, target: bytes, options: LookupOptions = DEFAULTS) -> Deferred[None]:
        lookup = self.client.find_node(target, options)
        running = lookup.start()
        self._lookups[running] = None

        def ended(_: object) -> None:
            self._lookups.pop(running, None)
            if lookup.answers >= SUCCESS * lookup.queries > 0:
                self._owner.neighbours_found()

        return running.addBoth(ended)

    # Incoming messages

    def seen(self, response: Response, host: str, port: int) -> None:
        """
        Process a response to one of our queries.
        """
        now = self._reactor.seconds()
        contact = Contact(response.node_id, host, port)
        # Only the end of an outage depends on whether it is known.
        self.outage.heard(self.outage.silent and contact in self.table)
        address = encode_address(host, port)[:-2]
        self.responder.limits.prove(address, now)
        if not self._reach.allows(host):
            # A user has queried it, although it is outside our network: it is not a node of our network.
            return
        if not self._is_router(response, host, port):
            doubtful = self.table.responded(contact, now)
            if doubtful is not None:
                self._ping(doubtful)
        self._owner.response_received(response, host)
        if self._other is not None and self._other.needs_nodes:
            self._other.introduce(self._other.named_in(response, host)[:K])
        uninvited = (host, port) in self._uninvited
        if uninvited:
            self._votes.exclude(address)
        ip = None if response.ip is None else response.ip[:-2]
        if response.ip is None or ip is None or len(ip) != self.family.ip_size:
            return
        if not uninvited:
            self._mapping_seen(address, ip, int.from_bytes(response.ip[-2:], "big"))
        if self._closed or contact not in self.table:
            return
        if self._votes.vote(address, ip, now):
            self._external_address_changed()

    def _mapping_seen(self, voter: bytes, ip: bytes, port: int) -> None:
        if self.mapping.vote(voter, ip, port):
            self._owner.mapping_changed()
        if self.mapping.is_known(ip, port):
            self.mapping_watch.confirmed()
        else:
            self.mapping_watch.doubted()

    def _good_nodes(self) -> list[Contact]:
        return self.table.contacts()[:KNOWN_PER_ROUND]

    def _external_address_changed(self) -> None:
        if self._id_change is None:
            # Rebuilding the table takes longer than handling one datagram may.
            self._id_change = self._reactor.callLater(0.0, self._change_id)

    def _is_router(self, response: Response, host: str, port: int) -> bool:
        if self._closed or (host, port) not in self._hosts:
            return False
        return len(contacts_in(response, self.family)) >= K

    def answer(self, query: Query, host: str, port: int) -> bytes | None:
        """
        Return the reply to a query, or C{None} to send none.
        """
        reply = self.responder.answer(query, host, port)
        now = self._reactor.seconds()
        if host not in self._sent_to:
            self.strangers += 1
            self._last_stranger = now
            self.krpc.read_only = False
        welcome = query.node_id and not query.read_only and self._pings < MAX_PINGS
        if welcome and self.table.heard(query.node_id, host, port, now):
            self._ping_stranger(Contact(query.node_id, host, port))
        return reply

    def _ping_stranger(self, contact: Contact) -> None:
        host, port = contact.host, contact.port
        if port and self._reach.allows(host) and self.krpc.is_rested(host, port):
            if host not in self._sent_to:
                self._uninvited.add((host, port))
            self._ping(contact, partial(self._uninvited.discard, (host, port)))

    # For the client

    def wants_both(self) -> bool:
        """
        Return whether the other family needs nodes.
        """
        return self._other is not None and self._other.needs_nodes

    def sending(self, host: str) -> None:
        """
        Remember that something is sent to C{host}: its queries are not unsolicited.
        """
        if host not in self._sent_to:
            self._sent_to[host] = None
            if len(self._sent_to) > MAX_SENT_TO:
                self._sent_to.popitem(last=False)

    def timed_out(self, contact: Contact) -> None:
        """
        Process the timeout of a query.
        """
        self.table.failed(contact, replace=not self.outage.silent)
        if self._silence() and self.outage.timeouts % SILENCE == 0:
            self._owner.nodes_lost()
        if not len(self.table):
            self._owner.nodes_lost()

    def _silence(self) -> bool:
        return self.outage.timed_out(self._reactor.seconds() - HARD_TIMEOUT)

    def _ping(self, contact: Contact, finished: Callable[[], None] = lambda: None) -> None:
        if not self.client.may_ask(contact):
            finished()
            return

        def ended(_: object) -> None:
            self._pings -= 1
            finished()

        self._pings += 1
        self.client.ask(contact, b"ping", {}).addBoth(ended)

    def _change_id(self) -> None:
        self._id_change = None
        ip = self.external_host
        assert ip is not None
        self.client.notify(self._owner.external_host_changed, ip)
        if is_valid(self.node_id, ip):
            return
        self.node_id = self.krpc.node_id = self.responder.node_id = generate(ip, self._rng)
        self.table = self.table.with_id(self.node_id, self._reactor.seconds())
        self.client.id_changed(self.table)
        self.find_neighbours()

    def _keep_up(self) -> None:
        now = self._reactor.seconds()
        self.responder.expire(now)
        if self._votes.count(now):
            self._external_address_changed()
        suspended = now > self._next_upkeep + SUSPENDED
        self._next_upkeep = now + UPKEEP_INTERVAL
        if suspended or not len(self.table):
            self._owner.nodes_lost()
        elif not self.needs_nodes:
            self._search_pause = FIRST_SEARCH
        elif now - self._searched >= self._search_pause:
            self._searched = now
            self._search_pause = min(2 * self._search_pause, MAX_SEARCH)
            self._look_up(self.node_id)
        for target in self.table.refresh_targets(now, self._rng):
            self._look_up(target, REFRESHED)
        if not self._always_serves and now - self._last_stranger >= READ_ONLY_AFTER:
            self.krpc.read_only = True
