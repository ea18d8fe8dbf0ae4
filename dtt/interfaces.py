"""
The seams: where an application, or a test, puts its own part in.

Each interface has a real provider in dtt and a fake in L{dtt.testing}; both
pass the same tests.  The attrs classes here are the values that cross a seam.

Shapes used throughout: a I{peer id} is the 32-byte Ed25519 public key of a
member; a I{node id} is the 20-byte id of a DHT node; a I{topic id} is 32
bytes; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen
from zope.interface import Attribute, Interface

from dtt.wire.addresses import Address
from dtt.wire.values import GossipMessage as GossipMessage

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

PeerId: TypeAlias = bytes


@frozen(slots=True, weakref_slot=False)
class Contact:
    """
    A DHT node that can be sent to (BEP5, "compact node info").

    @ivar node_id: 20 bytes.
    @ivar host: an IP literal.
    @ivar port: 1..65535.
    """

    node_id: bytes
    host: str
    port: int


@frozen(slots=True)
class NodeAnswer:
    """
    What one responsive node answered to a BEP44 C{get}.

    @ivar contact: who answered.
    @ivar token: its write token, or L{None} if it gave none.
    @ivar value: the verified mutable value that it holds (bytes of the
        string, not bencoded), or L{None}.
    @ivar seq: the sequence number of C{value}, or L{None}.
    @ivar version: the C{v} of its answer (usually 4 bytes), C{b""} if absent.
    """

    contact: Contact
    token: bytes | None
    value: bytes | None = None
    seq: int | None = None
    version: bytes = b""


@frozen(slots=True)
class MutableRead:
    """
    One read of a mutable item from the nodes nearest to its target.

    @ivar public_key: 32 bytes.
    @ivar salt: at most 64 bytes.
    @ivar answers: the 32 nearest I{responsive} nodes, or fewer, the nearest
        first; then further ones whose values should be looked at but that are
        no candidates for a put.
    @ivar silent: nodes as near as these that had not answered yet when the read
        ended; L{IDHT.refresh} asks them once more.
    """

    public_key: bytes
    salt: bytes
    answers: tuple[NodeAnswer, ...]
    silent: tuple[Contact, ...] = ()

    def values(self) -> dict[bytes, list[Contact]]:
        """
        Every distinct verified value, with the nodes that hold it; in the
        order of the nearest holder.
        """
        held: dict[bytes, list[Contact]] = {}
        for answer in self.answers:
            if answer.value is not None:
                held.setdefault(answer.value, []).append(answer.contact)
        return held

    def latest(self) -> NodeAnswer | None:
        """
        The answer with the highest sequence number, the nearest of several:
        what counts where a key has one writer (BEP44); L{None} if nobody has
        a value.
        """
        held = [answer for answer in self.answers if answer.seq is not None]
        return max(held, key=lambda answer: answer.seq or 0, default=None)


@frozen(slots=True)
class InfohashSample:
    """
    What one node said of the info hashes that it has peers for (BEP51).

    @ivar contact: who.
    @ivar info_hashes: some of them, 20 bytes each.
    @ivar total: how many it has, as it says.
    @ivar interval: seconds after which it has others, 0..21600; until then
        it is not asked again.
    """

    contact: Contact
    info_hashes: tuple[bytes, ...]
    total: int
    interval: float


@frozen(slots=True)
class PutResult:
    """
    What became of a put.

    @ivar stored: nodes that hold the value now: a read showed it there, or,
        where none was asked for, they said so.
    @ivar acknowledged: nodes that said yes, while no read has shown the value
        there; or to a put where they had as new a value, which proves nothing
        (docs/protocol/dht.md section 4, rule 7).
    @ivar refused: nodes that answered with an error, and its code.
    @ivar unanswered: nodes that did not answer in time.
    """

    stored: tuple[Contact, ...] = ()
    acknowledged: tuple[Contact, ...] = ()
    refused: tuple[tuple[Contact, int], ...] = ()
    unanswered: tuple[Contact, ...] = ()


class IPlacement(Interface):
    """
    Which of the nodes that were read shall hold our value.  Pure.
    """

    def plan(read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        One inner sequence for each copy that is to be placed now: the nodes
        to try for it, in order, by put-if-absent, until one of them stores.
        A node may stand in several sequences; it is used for one at most.
        """

    def overwrite(read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Nodes whose present value may be overwritten by a put without C{cas}
        when L{plan} found fewer than two places.  Usually empty.
        """


class IDHT(Interface):
    """
    A Mainline DHT node, as applications use it.  Every Deferred that it
    returns can be cancelled.
    """

    def when_ready() -> Deferred[int]:
        """
        A Deferred of its own for each caller, fired with the number of known
        nodes once at least one node has answered.
        """

    def get_mutable(
        public_key: bytes,
        salt: bytes = b"",
        on_answer: Callable[[NodeAnswer], None] | None = None,
        on_inner: Callable[[MutableRead], None] | None = None,
        *,
        known: MutableRead | None = None,
        alpha: int = 16,
        width: int = 32,
    ) -> Deferred[MutableRead]:
        """
        Look the item up and read it from the nearest nodes that respond.

        @param on_answer: called with each verified answer as it arrives.
        @param on_inner: called once for each address family, usually long before
            the end, with what the nearest nodes have answered so far: when the 12
            nearest known ones have been asked and 5 of them have answered.  Not
            called if the lookup ends before that.
        @param known: an earlier read of the same item, whose nodes are asked
            again; the lookup goes on if they name nearer ones.
        @param alpha: queries in flight: more are faster, and cost more.
        @param width: how many of the nearest nodes have to answer, more than 8;
            if they hold many different values, 32.  Those of the 20 that the crate
            mainline reads are among the answers in any case.
        """

    def refresh(
        read: MutableRead,
        on_answer: Callable[[NodeAnswer], None] | None = None,
        nearest: int | None = None,
    ) -> Deferred[MutableRead]:
        """
        Ask the nodes of C{read} again, directly: one round trip, no lookup.
        A node that may not be asked now (packet limits) or does not answer in
        time keeps the answer that it gave before.

        @param on_answer: called with each verified answer as it arrives.
        @param nearest: ask so many of the nearest only, and none that was
            silent; L{None}: all of them.
        """

    def put_mutable(
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
        Sign C{value} (a byte string of at most 996 bytes) and put it where
        C{placement} says, with the tokens of C{read}.

        @param signing_seed: the 32-byte Ed25519 seed of the item's key.
        @param read_back: count a node as one that stores the value only when a
            read has shown it there, a round trip later; if not, its word is
            enough: for who reads the slot at once anyway.
        @raise ValueError: at once, if the value or the salt is too long.
        """

    def put_latest(
        signing_seed: bytes,
        value: bytes,
        seq: int,
        salt: bytes = b"",
        *,
        cas: int | None = None,
        read: MutableRead | None = None,
        copies: int = 8,
    ) -> Deferred[PutResult]:
        """
        A mutable item as BEP44 means it: one writer, and the highest sequence
        number wins.  Sign C{value} (a byte string of at most 996 bytes) and
        put it on the nearest nodes that gave a token, of each address family.

        @param signing_seed: the 32-byte Ed25519 seed of the item's key.
        @param seq: 0..2^63-1, higher than before if the value is another one:
            L{MutableRead.latest} tells what there is.
        @param cas: the sequence number that shall be replaced; a node that has
            another one refuses with 301, one that has no value does not mind.
        @param read: a read of this item of the last 5 minutes, to save another one.
        @param copies: on how many nodes.
        @raise ValueError: at once, if something is too long or out of range.
        """

    def get_immutable(target: bytes) -> Deferred[bytes | None]:
        """
        The bytes of the I{bencoded} value whose SHA-1 is C{target}.
        """

    def put_immutable(value: bytes) -> Deferred[PutResult]:
        """
        Store a I{bencoded} value of at most 1000 bytes on the 8 nearest nodes.
        """

    def get_peers(
        info_hash: bytes,
        on_peer: Callable[[str, int], None] | None = None,
    ) -> Deferred[frozenset[tuple[str, int]]]:
        """
        The (host, port) pairs announced for C{info_hash} (20 bytes).
        """

    def announce_peer(info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        Announce ourselves with C{port} (0: the port that we send from) on the
        8 nearest nodes.
        """

    def sample_infohashes(
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Ask the nodes near C{target} (20 bytes) which info hashes they have
        peers for (BEP51); those whose interval is not over are left out, and
        so are those that know no such query.

        @param on_sample: called with each answer as it arrives.
        @return: fires with the answers, the nearest node's first.
        """


class IAddressBook(Interface):
    """
    What is known of how to reach a peer, and what went wrong so far.
    """

    def learn(peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        Remember C{addresses} of C{peer_id}; C{source} says where they come
        from: C{"record"}, C{"peer data"}, ...
        """

    def resolve(peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        The addresses of C{peer_id} that may be dialled now, the most likely
        first, at most 8; empty when none is known or all are in back-off.
        """

    def failed(peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        A dial of C{peer_id} at C{addresses} failed, or met somebody else.
        """

    def succeeded(peer_id: PeerId) -> None:
        """
        C{peer_id} was reached: its back-off ends.
        """


class ITopicLinks(Interface):
    """
    What a transport tells the gossip of one topic.
    """

    def messages_received(peer_id: PeerId, messages: Sequence[bytes]) -> None:
        """
        Encoded gossip C{Message}s from an admitted peer, in their order, at least
        one.

        @raise dtt.errors.RemoteError: one is malformed, and those before it are
            handled; the transport then closes the connection with that reason.
        """

    def peer_connected(peer_id: PeerId) -> None:
        """
        C{peer_id} is authenticated (a dial succeeded, or it dialled us).
        """

    def peer_disconnected(peer_id: PeerId) -> None:
        """
        The last connection to C{peer_id} ended I{unexpectedly}: not an end
        that we asked for, and not one that followed the peer's CLOSE
        (docs/protocol/streams.md section 4); or the peer did not admit us in time.
        """


class IPeerTransport(Interface):
    """
    How members reach each other: authenticated connections by peer id, shared
    by all topics.
    """

    finds_peers = Attribute("Whether L{dial} may find a peer by its id alone, without any address.")

    def addresses() -> tuple[Address, ...]:
        """
        Where we listen, as other members should dial it.
        """

    def open_topic(topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Take part in a topic.

        @param secret_hash: the initial secret hash (docs/protocol/records.md section 1).
        @raise ValueError: the topic is open already.
        """

    def close_topic(topic_id: bytes) -> None:
        """
        Leave a topic: peers are told, connections without a shared topic are
        closed once their bytes are out.  C{links} is not called any more.
        """

    def dial(peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """
        Have an authenticated connection to C{peer_id}; at once if there is
        one.  A dial that is running already is joined, not doubled.

        Fails with L{dtt.errors.DialFailed}.
        """

    def is_connected(peer_id: PeerId) -> bool:
        """
        Whether an authenticated connection to C{peer_id} is up.
        """

    def send(peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send one encoded gossip C{Message}.

        @return: whether C{peer_id} is connected; if not, it is dropped.
        """

    def disconnect(peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of the connection to C{peer_id}.
        """

    def when_writable(peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Fires when each of C{peer_ids} that is connected has less than 256 KiB
        unsent.
        """


class IListener(IPeerTransport):
    """
    An L{IPeerTransport} with places of its own: one way to be reached.
    """

    kind = Attribute("Its number in hints: 0 streams, 1 iroh.")
    port = Attribute("What it is bound to, first of all; L{None} before L{listen}.")
    counters = Attribute(
        "What happened, by reason.  C{'accepted'} counts authenticated connections that others opened."
    )

    def listen(host: str, port: int) -> None:
        """
        Bind now, and accept connections.

        @param host: an IP literal; C{"0.0.0.0"} is every address.
        @param port: 0 for a free one.
        @raise dtt.errors.ListenError: it can't be bound.
        """

    def set_external_host(host: str | None) -> None:
        """
        What others see as our address, for instance what DHT nodes agree on.
        """

    def stop() -> Deferred[None]:
        """
        Say goodbye on all topics, close everything, listen no more.  Fires when
        all is gone, within 1.5 s; cancelling it aborts what is left.
        """


class IGossipObserver(Interface):
    """
    What an application hears of a topic.  An observer that raises is logged
    and does not disturb others.  Once we leave the topic it hears nothing more:
    L{neighbor_down} is not called for those that were there.
    """

    def neighbor_up(peer_id: PeerId) -> None:
        """C{peer_id} entered our active view."""

    def neighbor_down(peer_id: PeerId) -> None:
        """C{peer_id} left our active view."""

    def message_received(message: GossipMessage) -> None:
        """A message of the topic arrived."""


class IGossip(Interface):
    """
    One topic's swarm, as the tracker's services use it.
    """

    def join(peers: Sequence[PeerId]) -> None:
        """Ask each of C{peers} to take us in (HyParView C{Join})."""

    def broadcast(content: bytes) -> Deferred[None]:
        """
        Send C{content} to the whole swarm.  Fires when every eager neighbour
        has less than 256 KiB unsent, and no other neighbour is far behind; after
        C{[timeouts] broadcast} in any case.

        @raise dtt.errors.ContentTooLarge: more than 4055 bytes.
        @raise dtt.errors.DuplicateContent: equal to a message of the last 90 s.
        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def broadcast_neighbors(content: bytes) -> Deferred[None]:
        """As L{broadcast}, to direct neighbours only."""

    def neighbors() -> tuple[PeerId, ...]:
        """The active view."""

    def message_hashes() -> tuple[bytes, ...]:
        """
        SHA-512[:32] of the last 5 distinct messages I{received}, oldest first.
        """

    def when_joined() -> Deferred[None]:
        """
        A Deferred of its own for each caller: fires once there is a
        neighbour, fails with L{dtt.errors.TopicLeft}; can be cancelled.
        """

    def subscribe(observer: IGossipObserver) -> Callable[[], None]:
        """
        Tell C{observer} what happens from now on, starting with the present
        neighbours.  The result ends the subscription.
        """

    def leave() -> Deferred[None]:
        """Say goodbye to all neighbours; fires once that is on its way."""
