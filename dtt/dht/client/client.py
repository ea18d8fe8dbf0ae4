"""
The queries of a node: lookups, and the reads and writes based on them.

Rules: a client queries nodes of one address family. Every query goes through
L{Client.ask}, which informs the routing table of timeouts.  Plain operations use the 8
nearest nodes (BEP5, BEP44), slots the 32 nearest (docs/protocol/dht.md section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.dht.client.credit import Credit
from dtt.dht.client.lookup import DEFAULTS, MAX_NODES, SLOT_WIDTH, Delayed, Lookup, LookupOptions, Question
from dtt.dht.client.puts import Holder, put_latest, store_on
from dtt.dht.client.reads import answer_in, contacts_in, read_arguments, token_in
from dtt.dht.client.samples import Sampler
from dtt.dht.reach import Reach
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import is_valid
from dtt.dht.routing.table import RoutingTable
from dtt.errors import DecodeError, QueryTimeout
from dtt.interfaces import Contact, InfohashSample, MutableRead, NodeAnswer, PutResult
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.compact import Family, decode_peers
from dtt.krpc.items import MutableItem, immutable_target, mutable_target
from dtt.krpc.messages import Response
from dtt.krpc.protocol import KRPCProtocol

T = TypeVar("T")

#: The most peers collected for one info hash. Guess.
MAX_PEERS: Final = 2000

#: Methods whose responses contain nodes, and the argument that requests nodes of both
#: families (BEP32).
_WITH_NODES: Final = frozenset((b"find_node", b"get_peers", b"get"))
_WANT_BOTH: Final = [b"n4", b"n6"]

#: The most unverified nodes kept while the table is nearly empty. Guess: eight
#: responses from libtorrent.
MAX_UNVERIFIED: Final = 64


#: A slot with more values than this is read to its full width: up to this many
#: publishers with two copies each fit into the inner ranks. Where few publish, a member
#: puts up to 6 copies, on 20 nodes in total (docs/protocol/dht.md section 4, rule 4).
FEW_VALUES: Final = 5


#: The number of info hashes whose nearest nodes are remembered, so that the next lookup needs fewer queries
#: (guess: members look up a few info hashes repeatedly).
MAX_INFO_HASHES: Final = 64


class ClientOwner(Protocol):
    """
    The owner of a client, as the client uses it.
    """

    def wants_both(self) -> bool:
        """
        Return whether to request nodes of both families.
        """

    def sending(self, host: str) -> None:
        """
        A query is about to be sent to C{host}.
        """

    def timed_out(self, contact: Contact) -> None:
        """
        A node did not respond in time.
        """


class Client:
    """
    Sends queries to the nodes of one address family.

    @ivar table: the routing table.
    @ivar credit: what nodes have named in earlier lookups.
    @ivar earlier_contacts: contacts from the last run, or from before our id changed, used
        as starting points while the table has fewer than 8 nodes: one of them may be
        near a target (docs/protocol/latency.md section 3, item 8).
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        krpc: KRPCProtocol,
        table: RoutingTable,
        family: Family,
        owner: ClientOwner,
        reach: Reach,
    ) -> None:
        """
        @param reactor: the clock.
        @param krpc: the protocol that sends the queries.
        @param table: the initial L{table}.
        @param family: the address family of the nodes.
        @param owner: informed of queries and timeouts.
        @param reach: decides to which addresses we send.
        """
        self.table = table
        self.earlier_contacts: Sequence[Contact] = ()
        self.credit = Credit(table.closed)
        # What each of the first responses named.
        self._named: list[list[Contact]] = []
        self._reactor = reactor
        self._krpc = krpc
        self._family = family
        self._owner = owner
        self._reach = reach
        # In the order of their start, so that a simulation can be repeated.
        self._lookups: WeakKeyDictionary[Lookup[Any], None] = WeakKeyDictionary()
        self._sampler = Sampler(self.ask, reactor.seconds)
        # The nodes nearest to the info hashes looked up last.
        self._holders_of: dict[bytes, tuple[Contact, ...]] = {}

    # What lookups need

    @property
    def own_id(self) -> bytes:
        """
        Our id.
        """
        return self.table.own_id

    @property
    def closed(self) -> bool:
        """
        Whether many nodes may share an IP address.
        """
        return self.table.closed

    @property
    def trusts_timeout(self) -> bool:
        """
        Whether enough round trips are known to trust the soft timeout.
        """
        return self._krpc.trusts_timeout

    def ask(
        self,
        contact: Contact,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        """
        Send one query; see L{KRPCProtocol.query<dtt.krpc.protocol.KRPCProtocol.query>}.
        """
        host, port = contact.host, contact.port
        self._owner.sending(host)
        if method in _WITH_NODES and self._owner.wants_both():
            arguments = {**arguments, b"want": _WANT_BOTH}
        # A query waiting for its packet budget may fail without having been sent.
        immediate = self._krpc.may_query(host, port)
        query = self._krpc.query(host, port, method, arguments, on_slow)
        if immediate:
            query.addErrback(self._failed, contact)
        return query

    async def get_from(self, host: str, port: int, public_key: bytes, salt: bytes) -> NodeAnswer:
        """
        Query one node, of which only the address is known, for a mutable item; see
        L{IDHT.ask_node<dtt.interfaces.IDHT.ask_node>}.
        """
        self._owner.sending(host)
        arguments = read_arguments(mutable_target(public_key, salt))
        response = await self._krpc.query(host, port, b"get", arguments)
        return answer_in(Contact(response.node_id, host, port), response, public_key, salt)

    def may_ask(self, contact: Contact) -> bool:
        """
        Return whether a query to C{contact} would be sent immediately.
        """
        return self._krpc.may_query(contact.host, contact.port)

    def nodes_of(self, response: Response, informant: Contact) -> list[Contact]:
        """
        Return the nodes of our family in a response that its sender may name.
        """
        return contacts_in(response, self._family, self._reach.named_by(informant.host))

    @property
    def unverified(self) -> list[Contact]:
        """
        Contacts named by others, used as starting points while the table has fewer than 8
        nodes: at most L{MAX_UNVERIFIED}, equally many of each response that named some.
        """
        found = dict.fromkeys(each for group in zip_longest(*self._named) for each in group if each)
        return list(islice(found, MAX_UNVERIFIED))

    def forget_unverified(self) -> None:
        """
        Forget the contacts named by others.
        """
        self._named.clear()

    def starts(self, target: bytes) -> list[Contact]:
        """
        Return the starting points of a lookup.
        """
        starts = self.table.nearest(target, SLOT_WIDTH)
        if len(starts) < K:
            earlier = (contact for contact in self.earlier_contacts if self._reach.allows(contact.host))
            starts += [*self.unverified, *earlier]
        return starts

    def is_secure(self, contact: Contact) -> bool:
        """
        Return whether an id is valid for its address (BEP42).
        """
        return is_valid(contact.node_id, contact.host)

    def later(self, call: Callable[[], None]) -> Delayed:
        """
        Schedule a call in the next reactor turn.
        """
        return self._reactor.callLater(0.0, call)

    def _failed(self, failure: Failure, contact: Contact) -> Failure:
        if isinstance(failure.value, QueryTimeout):
            # Nodes that may not exist are not queried repeatedly.
            if contact in self.earlier_contacts:
                self.earlier_contacts = [each for each in self.earlier_contacts if each != contact]
            for named in self._named:
                if contact in named:
                    named.remove(contact)
            self._owner.timed_out(contact)
        return failure

    def learn_unverified(self, contacts: Iterable[Contact]) -> None:
        """
        Add starting points for the first lookups, including running ones.

        @param contacts: the nodes in one response; only the first ones are used.
        """
        contacts = list(islice(contacts, MAX_NODES))
        if len(self._named) >= MAX_UNVERIFIED:
            return
        self._named.append(contacts)
        for lookup in list(self._lookups):
            lookup.learn(contacts)

    def id_changed(self, table: RoutingTable) -> None:
        """
        Switch to a new own id and the table built around it.
        """
        self.table = table
        for lookup in list(self._lookups):
            lookup.id_changed(table.own_id)

    def lookup(
        self,
        question: Question,
        interpret: Callable[[Contact, Response], T],
        *,
        on_inner: Callable[[list[T]], None] | None = None,
        options: LookupOptions = DEFAULTS,
    ) -> Lookup[T]:
        """
        Create a lookup without starting it; see
        L{Lookup<dtt.dht.client.lookup.Lookup>}.
        """
        lookup = Lookup(self, question, interpret, on_inner=on_inner, options=options)
        self._lookups[lookup] = None
        return lookup

    def find_node(self, target: bytes, options: LookupOptions = DEFAULTS) -> Lookup[Contact]:
        """
        Create a lookup of the nodes nearest to C{target}, without starting it.
        """
        question = Question(target, b"find_node", {b"target": target})
        return self.lookup(question, lambda contact, _: contact, options=options)

    async def get_mutable(
        self,
        public_key: bytes,
        salt: bytes,
        on_answer: Callable[[NodeAnswer], None] | None,
        on_inner: Callable[[MutableRead], None] | None,
        options: LookupOptions,
    ) -> MutableRead:
        """
        Read a mutable item; see L{IDHT.get_mutable<dtt.interfaces.IDHT.get_mutable>}.
        """

        def notify_inner(answers: list[NodeAnswer]) -> None:
            self.notify(on_inner, MutableRead(public_key, salt, tuple(answers)))

        return await self._read(public_key, salt, on_answer, notify_inner, options)

    async def _read(
        self,
        public_key: bytes,
        salt: bytes,
        on_answer: Callable[[NodeAnswer], None] | None,
        on_inner: Callable[[list[NodeAnswer]], None] | None,
        options: LookupOptions,
    ) -> MutableRead:
        target = mutable_target(public_key, salt)
        values: set[bytes] = set()

        def interpret(contact: Contact, response: Response) -> NodeAnswer:
            answer = answer_in(contact, response, public_key, salt)
            if answer.value is not None:
                values.add(answer.value)
                if len(values) > FEW_VALUES:
                    lookup.widen(SLOT_WIDTH)
            self.notify(on_answer, answer)
            return answer

        question = Question(target, b"get", read_arguments(target))
        lookup = self.lookup(question, interpret, on_inner=on_inner, options=options)
        answers = await self._results(lookup)
        return MutableRead(public_key, salt, tuple(answers), tuple(lookup.silent()))

    async def put_latest(
        self, item: MutableItem, value: bytes, read: MutableRead | None, cas: int | None, copies: int
    ) -> PutResult:
        """
        Put a mutable item on the nearest nodes, after reading it if C{read} is C{None};
        see L{IDHT.put_latest<dtt.interfaces.IDHT.put_latest>}.
        """
        if read is None:
            options = LookupOptions(width=max(K, copies))
            read = await self._read(item.public_key, item.salt, None, None, options)
        return await put_latest(self.ask, item, value, read, cas, copies)

    async def get_immutable(self, target: bytes) -> bytes | None:
        """
        Get an immutable item from the first node that has it; see
        L{IDHT.get_immutable<dtt.interfaces.IDHT.get_immutable>}.
        """
        found: list[bytes] = []

        def interpret(contact: Contact, response: Response) -> None:
            if b"v" in response.values:
                encoded = encode(response.values[b"v"])
                if immutable_target(encoded) == target:
                    found.append(encoded)
                    lookup.stop()

        lookup = self.lookup(Question(target, b"get", {b"target": target}), interpret)
        await self._results(lookup)
        return found[0] if found else None

    async def put_immutable(self, value: bytes) -> PutResult:
        """
        Put an immutable item on the nearest nodes; see
        L{IDHT.put_immutable<dtt.interfaces.IDHT.put_immutable>}.
        """
        target = immutable_target(value)
        holders = await self._holders(Question(target, b"get", {b"target": target}))
        # BEP44 does not require the target, but mainline reads it (section 2).
        return await store_on(self.ask, holders, b"put", {b"target": target, b"v": Encoded(value)})

    async def get_peers(
        self, info_hash: bytes, on_peer: Callable[[str, int], None] | None
    ) -> frozenset[tuple[str, int]]:
        """
        Collect the peers of an info hash; see
        L{IDHT.get_peers<dtt.interfaces.IDHT.get_peers>}.
        """
        peers: set[tuple[str, int]] = set()

        def interpret(contact: Contact, response: Response) -> None:
            try:
                values = response.values.get(b"values", [])
                found = decode_peers(values, self._reach.named_by(contact.host))
            except DecodeError:
                return
            for peer in found:
                if peer not in peers and len(peers) < MAX_PEERS:
                    peers.add(peer)
                    self.notify(on_peer, *peer)

        await self._look_for_peers(info_hash, interpret)
        return frozenset(peers)

    async def announce_peer(self, info_hash: bytes, port: int) -> PutResult:
        """
        Announce a peer to the nearest nodes; see
        L{IDHT.announce_peer<dtt.interfaces.IDHT.announce_peer>}.
        """
        holders = await self._look_for_peers(info_hash)
        arguments: dict[bytes, Any] = {b"info_hash": info_hash, b"port": port}
        if port == 0:
            # BEP5: the node then uses the source port of the query. The number must
            # still be valid for nodes that check it.
            arguments.update({b"implied_port": 1, b"port": 1})
        return await store_on(self.ask, holders, b"announce_peer", arguments)

    async def sample_infohashes(
        self, target: bytes, on_sample: Callable[[InfohashSample], None] | None
    ) -> tuple[InfohashSample, ...]:
        """
        Sample the info hashes of the nearest nodes; see
        L{IDHT.sample_infohashes<dtt.interfaces.IDHT.sample_infohashes>}.
        """
        contacts = await self._results(self.find_node(target))
        return await self._sampler.sample(contacts, lambda sample: self.notify(on_sample, sample))

    async def _look_for_peers(
        self, info_hash: bytes, heard: Callable[[Contact, Response], None] = lambda *_: None
    ) -> list[Holder]:
        """
        Find the nodes that store peers of an info hash, starting with those found last time.
        """
        question = Question(info_hash, b"get_peers", {b"info_hash": info_hash})
        options = LookupOptions(known=self._holders_of.pop(info_hash, ()))
        holders = await self._holders(question, heard, options)
        self._holders_of[info_hash] = tuple(holder.contact for holder in holders)
        if len(self._holders_of) > MAX_INFO_HASHES:
            del self._holders_of[next(iter(self._holders_of))]
        return holders

    async def _holders(
        self,
        question: Question,
        heard: Callable[[Contact, Response], None] = lambda *_: None,
        options: LookupOptions = DEFAULTS,
    ) -> list[Holder]:
        """
        Look up nodes to put something on.

        @param heard: called with each response.
        """

        def interpret(contact: Contact, response: Response) -> Holder:
            heard(contact, response)
            return Holder(contact, token_in(response))

        return await self._results(self.lookup(question, interpret, options=options))

    async def _results(self, lookup: Lookup[T]) -> list[T]:
        """
        Run a lookup on behalf of an operation.

        @raise LookupFailed: no node answered.
        """
        results = await lookup.start()
        lookup.check()
        return results

    def notify(self, observer: Callable[..., None] | None, *args: Any) -> None:
        """
        Call C{observer}, if any, and log its exceptions.
        """
        try:
            if observer is not None:
                observer(*args)
        except Exception:
            self._log.failure("An observer of a lookup raised an exception; the lookup continues.")
