"""
What a node knows of others and shows to them: its table, its answers, its id.

Rules: each address family has a neighbourhood of its own, and what others have
stored is one for both (BEP32); while one of them knows few nodes, those that
the other one asks are asked for its nodes, too (C{want}); whoever answers us
enters the routing table, if there is a place; who asks and is not read-only is
pinged first (BEP5), a bounded number at a time;
our id is made valid for the external address that others agree on, each
network having one vote (BEP42);
when the machine has slept, or all of a sudden nobody answers any more, the
first nodes are looked for anew, while the table is kept; who knows few nodes
looks for further ones, ever less often: those of a small network may just have
been busy;
a bootstrap host that names others is no node of the table: those of the public
DHT store nothing, name the same nodes whatever they are asked, and drop what
comes too often (docs/protocol/latency.md section 1, F);
we call ourselves read-only while no stranger's query comes through (BEP43).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from dtt.dht.client.client import Client
from dtt.dht.client.reads import contacts_in
from dtt.dht.external_address import AddressVotes
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import generate, is_valid
from dtt.dht.routing.table import FRESH, RoutingTable
from dtt.dht.server.responder import Responder
from dtt.dht.server.storage import MAX_ITEMS, MAX_PEERS, ItemStore, PeerStore
from dtt.dht.server.upload import AnswerLimits
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, IPV6, Family, decode_address, encode_address
from dtt.krpc.flood import FloodGate
from dtt.krpc.messages import Query, Response
from dtt.krpc.protocol import HARD_TIMEOUT, KRPCProtocol
from dtt.net.networks import site

#: Seconds between looks at what is due.  Guess: so late is it noticed that the
#: machine has slept.
UPKEEP_INTERVAL: Final = 10.0

#: Seconds by which such a look may be late before the machine counts as having
#: slept: more than any load delays it, less than a NAT keeps its mappings.
#: Guess.
SLEPT: Final = 30.0

#: Seconds after which a node that knows few others looks for more, doubled
#: each time up to the second number.  Guesses: the first is that of the upkeep,
#: the other the one after which buckets are refreshed.
FIRST_SEARCH: Final = 10.0
MAX_SEARCH: Final = FRESH

#: Seconds from the first answer to the lookup of our own id, in a network so
#: small that it names fewer nodes than fit into an answer, and in a larger one,
#: where the first lookups find their way without it, and want the packets.
#: Guesses: a round trip or two; the time in which members meet.
SETTLE: Final = 0.1
SETTLE_LARGE: Final = 5.0

#: Bootstrap hosts that are told from other nodes.  Guess: names may have many
#: addresses.
MAX_HOSTS: Final = 256

#: Time-outs without any answer after which it is not the others that are gone.
#: Only queries count that were sent after the last answer: those of one lookup
#: time out together, and in the public DHT a third of them do
#: (docs/protocol/latency.md section 1, C).  Guess: as many as a lookup begins with.
SILENCE: Final = 16

#: Seconds without a query from a stranger until we call ourselves read-only
#: (docs/protocol/dht.md section 2, BEP43).
READ_ONLY_AFTER: Final = 300.0

#: Hosts that we sent to and that are therefore no strangers.  Guess: several
#: hours of a busy node.
MAX_SENT_TO: Final = 16384

#: Nodes that asked us and are pinged at the same time.  Guess: with the time-out
#: of 2 s, 16 pings a second at most to addresses that may be forged.
MAX_PINGS: Final = 32


def _ignore(_: object) -> None:
    """
    Of a lookup that is made for the table's sake, nobody waits for the end.
    """


class Neighbourhood:
    """
    @ivar family: of all addresses here.
    @ivar node_id: our 20-byte id.
    @ivar table: the routing table.
    @ivar responder: answers the queries of others.
    @ivar krpc: the protocol; a new one for each L{open}.
    @ivar client: asks others, by that protocol.
    """

    krpc: KRPCProtocol
    client: Client

    def __init__(
        self,
        reactor: Any,
        node_id: bytes,
        family: Family = IPV4,
        beside: Neighbourhood | None = None,
        *,
        closed: bool,
        always_serves: bool,
        upload_rate: float,
        external_host: str | None,
        rng: Random,
        on_response: Callable[[Response], None],
        on_lost: Callable[[], None],
        on_external_host: Callable[[str], None] | None,
    ) -> None:
        """
        @param beside: that of the other family, if there is one: what others
            stored there is stored here, and the limits are common.
        @param closed: as in L{RoutingTable}.
        @param always_serves: never read-only.
        @param upload_rate: bytes a second that answers may take.
        @param external_host: the IP address that others saw us at in an earlier
            run; of no effect if it is of another family.
        @param on_response: told each response, once the table knows of it.
        @param on_lost: told that no node in the table is alive any more, or
            that it may be so; again and again.
        @param on_external_host: told the IP address that others see us at.
        """
        self.family = family
        self.node_id = node_id
        self._reactor = reactor
        self._closed = closed
        self._always_serves = always_serves
        self._rng = rng
        self._on_response = on_response
        self._on_lost = on_lost
        self._on_external_host = on_external_host
        now = reactor.seconds()
        self.table = RoutingTable(node_id, now, closed=closed)
        self._beside = beside
        if beside is not None:
            beside._beside = self
        self.responder = self._make_responder(beside, upload_rate)
        known = external_host is not None and family.has(external_host)
        self._votes = AddressVotes(encode_address(external_host, 0)[:-2] if known and external_host else None)
        # Used as an ordered set.
        self._sent_to: OrderedDict[str, None] = OrderedDict()
        self._last_stranger = now
        self._pings = 0
        # When the last response came; time-outs of queries sent since then.
        self._heard_at = now
        self._silence = 0
        self._next_upkeep = now + UPKEEP_INTERVAL
        self._searched = now
        self._search_pause = FIRST_SEARCH
        self._hosts: set[tuple[str, int]] = set()
        self._introduced: set[Contact] = set()
        self._finding = False
        self._settling: IDelayedCall | None = None
        self._moving: IDelayedCall | None = None
        self._lookups: set[Deferred[list[Contact]]] = set()
        self._upkeep = LoopingCall(self._keep_up)
        self._upkeep.clock = reactor

    def _make_responder(self, beside: Neighbourhood | None, upload_rate: float) -> Responder:
        closed, node_id = self._closed, self.node_id
        if beside is not None:
            limits, items, peers = beside.responder.limits, beside.responder.items, beside.responder.peers
        else:
            limits = AnswerLimits(upload_rate=upload_rate, closed=closed)
            # On one machine all belong to one network, which may fill the store.
            items = ItemStore(node_id, share=MAX_ITEMS) if closed else ItemStore(node_id)
            peers = PeerStore(node_id, share=MAX_PEERS) if closed else PeerStore(node_id)
        here, there = self._nearest, self._nearest_beside
        return Responder(
            self._reactor,
            node_id,
            here if self.family is IPV4 else there,
            nearest6=here if self.family is IPV6 else there if beside is not None else None,
            rng=self._rng,
            limits=limits,
            items=items,
            peers=peers,
        )

    def _nearest(self, target: bytes) -> bytes:
        return self.table.nearest_compact(target)

    def _nearest_beside(self, target: bytes) -> bytes:
        return b"" if self._beside is None else self._beside.table.nearest_compact(target)

    def open(self) -> KRPCProtocol:
        """
        A fresh protocol, to be connected to a port.
        """
        self.krpc = KRPCProtocol(
            self._reactor,
            self.node_id,
            answer=self.answer,
            seen=self.seen,
            gate=None if self._closed else FloodGate(None if self.family is IPV4 else site),
            rng=self._rng,
        )
        self.client = Client(
            self.krpc,
            self.table,
            self.family,
            closed=self._closed,
            wants_both=lambda: self._beside is not None and self._beside.is_lonely,
            asking=lambda contact: self._sending(contact.host),
            timed_out=self._timed_out,
            seconds=self._reactor.seconds,
            later=partial(self._reactor.callLater, 0.0),
        )
        return self.krpc

    @property
    def external_host(self) -> str | None:
        """
        The IP address that others see us at, once they agree on it.
        """
        return None if self._votes.elected is None else decode_address(self._votes.elected + bytes(2))[0]

    def start(self) -> None:
        """
        Begin the upkeep.
        """
        self._last_stranger = self._searched = now = self._reactor.seconds()
        self._next_upkeep = now + UPKEEP_INTERVAL
        self._search_pause = FIRST_SEARCH
        self._upkeep.start(UPKEEP_INTERVAL, now=False)

    def close(self) -> None:
        """
        Cancel all queries; nothing is sent or heard any more.
        """
        if self._upkeep.running:
            self._upkeep.stop()
        for soon in (self._settling, self._moving):
            if soon is not None:
                soon.cancel()
        self._settling = self._moving = None
        for lookup in list(self._lookups):
            lookup.cancel()
        self.krpc.close()

    # The first nodes

    def ask_host(self, host: str, port: int, is_bootstrap: bool) -> None:
        """
        Ask whoever is at an IP address for nodes near us.

        @param is_bootstrap: is it a bootstrap host, or one that was good once?
        """
        if is_bootstrap and len(self._hosts) < MAX_HOSTS:
            self._hosts.add((host, port))
        self._sending(host)
        arguments: dict[bytes, Any] = {b"target": self.node_id}
        if self._beside is not None:
            # The first nodes of one family may know the first of the other.
            arguments[b"want"] = [b"n4", b"n6"]
        query = self.krpc.query(host, port, b"find_node", arguments)
        query.addCallbacks(self._host_answered, _ignore)

    @property
    def is_lonely(self) -> bool:
        """
        Are further first nodes welcome?
        """
        return len(self.table) < K

    @property
    def known(self) -> int:
        """
        How many nodes there are to begin with.
        """
        return max(len(self.table), len(self.client.hearsay))

    def introduce(self, contacts: Iterable[Contact]) -> None:
        """
        Nodes that one of the other family told us of: a bounded number is
        asked at a time.
        """
        known = self.table.contacts()
        for contact in contacts:
            if contact not in known and contact not in self._introduced and len(self._introduced) < K:
                self._introduced.add(contact)
                self._ping(contact, partial(self._introduced.discard, contact))

    def _host_answered(self, response: Response) -> None:
        if self._finding:
            self.client.heard_of(contacts_in(response, self.family))

    def find_neighbours(self, response: Response | None = None) -> None:
        """
        Look our own id up, soon: who has waited for the first answer comes
        first, and fills the table, too.

        @param response: the first answer: until the table has grown, all
            lookups begin with its nodes, too.
        """
        client = self.client
        client.hearsay = []
        if response is not None:
            client.heard_of(contacts_in(response, self.family))

        self._finding = True
        if self._settling is None:
            wait = SETTLE_LARGE if self._is_large() else SETTLE
            self._settling = self._reactor.callLater(wait, self._look_ourselves_up)

    def _is_large(self) -> bool:
        return len(self.table) + len(self.client.hearsay) > K

    def settle(self) -> None:
        """
        Look our own id up now, if that is still to come and the network is
        small: who reads from the 32 nearest nodes needs more of them than the
        nearest ones name.
        """
        if self._settling is not None and not self._is_large():
            self._settling.cancel()
            self._look_ourselves_up()

    def _look_ourselves_up(self) -> None:
        self._settling = None

        def ended(_: object) -> None:
            self._finding = False
            self.client.hearsay = []

        self._look_up(self.node_id).addBoth(ended)

    def _look_up(self, target: bytes) -> Deferred[None]:
        lookup = self.client.find_node(target)
        self._lookups.add(lookup)

        def ended(_: object) -> None:
            self._lookups.discard(lookup)

        return lookup.addBoth(ended)

    # What the network tells us

    def seen(self, response: Response, host: str, port: int) -> None:
        """
        A response to a query of ours.
        """
        now = self._heard_at = self._reactor.seconds()
        self._silence = 0
        address = encode_address(host, port)[:-2]
        self.responder.limits.prove(address, now)
        if not self._is_router(response, host, port):
            doubtful = self.table.responded(Contact(response.node_id, host, port), now)
            if doubtful is not None:
                self._ping(doubtful)
        self._on_response(response)
        if self._beside is not None and self._beside.is_lonely:
            self._beside.introduce(contacts_in(response, self._beside.family)[:K])
        ip = None if response.ip is None else response.ip[:-2]
        if ip is None or len(ip) != self.family.ip_size or self._closed:
            return
        if self._votes.vote(address, ip) and self._moving is None:
            # To build the table anew takes longer than a datagram may.
            self._moving = self._reactor.callLater(0.0, self._move)

    def _is_router(self, response: Response, host: str, port: int) -> bool:
        if self._closed or (host, port) not in self._hosts:
            return False
        return len(contacts_in(response, self.family)) >= K

    def answer(self, query: Query, host: str, port: int) -> bytes | None:
        """
        The reply to a query, or L{None} if there shall be none.
        """
        reply = self.responder.answer(query, host, port)
        now = self._reactor.seconds()
        if host not in self._sent_to:
            self._last_stranger = now
            self.krpc.read_only = False
        welcome = query.node_id and not query.read_only and self._pings < MAX_PINGS
        if welcome and self.table.heard(query.node_id, host, port, now):
            self._ping(Contact(query.node_id, host, port))
        return reply

    def _sending(self, host: str) -> None:
        if host not in self._sent_to:
            self._sent_to[host] = None
            if len(self._sent_to) > MAX_SENT_TO:
                self._sent_to.popitem(last=False)

    def _timed_out(self, contact: Contact) -> None:
        self.table.failed(contact)
        if self._reactor.seconds() - HARD_TIMEOUT >= self._heard_at:
            self._silence += 1
            if self._silence % SILENCE == 0:
                self._on_lost()
        if not len(self.table):
            self._on_lost()

    def _ping(self, contact: Contact, over: Callable[[], None] = lambda: None) -> None:
        if not self.client.may_ask(contact):
            over()
            return

        def ended(_: object) -> None:
            self._pings -= 1
            over()

        self._pings += 1
        self.client.ask(contact, b"ping", {}).addBoth(ended)

    def _move(self) -> None:
        self._moving = None
        ip = self.external_host
        assert ip is not None
        self.client.tell(self._on_external_host, ip)
        if is_valid(self.node_id, ip):
            return
        self.node_id = self.krpc.node_id = self.responder.node_id = generate(ip, self._rng)
        self.table = self.table.with_id(self.node_id, self._reactor.seconds())
        self.client.moved(self.table)
        self.find_neighbours()

    def _keep_up(self) -> None:
        now = self._reactor.seconds()
        self.responder.expire(now)
        slept = now > self._next_upkeep + SLEPT
        self._next_upkeep = now + UPKEEP_INTERVAL
        if slept or not len(self.table):
            self._on_lost()
        elif not self.is_lonely:
            self._search_pause = FIRST_SEARCH
        elif now - self._searched >= self._search_pause:
            self._searched = now
            self._search_pause = min(2 * self._search_pause, MAX_SEARCH)
            self._look_up(self.node_id)
        for target in self.table.refresh_targets(now, self._rng):
            self._look_up(target)
        if not self._always_serves and now - self._last_stranger >= READ_ONLY_AFTER:
            self.krpc.read_only = True
