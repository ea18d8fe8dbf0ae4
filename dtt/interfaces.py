"""
The interfaces between the parts of dtt, where applications and tests can
substitute their own implementations.

Each interface has an implementation in dtt and a fake in L{dtt.testing}; both
pass the same tests.  The attrs classes are the values that pass through these
interfaces.

Sizes and units used throughout: a I{peer id} is the 32-byte Ed25519 public key
of a member; a I{node id} is the 20-byte id of a DHT node; a I{topic id} is 32
bytes; times are in seconds.
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
    The id and address of a DHT node (BEP5, "compact node info").

    @ivar node_id: 20 bytes.
    @ivar host: an IP literal.
    @ivar port: the UDP port, 1..65535.
    """

    node_id: bytes
    host: str
    port: int


@frozen(slots=True)
class NodeAnswer:
    """
    The response of one node to a BEP44 C{get}.

    @ivar contact: the node.
    @ivar token: its write token, or C{None} if the response has none.
    @ivar value: the verified mutable value that it stores (the bytes of the
        string, not bencoded), or C{None}.
    @ivar seq: the sequence number of C{value}, or C{None}.
    @ivar version: the C{v} of the response (usually 4 bytes), C{b""} if absent.
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

    @ivar public_key: the key of the item, 32 bytes.
    @ivar salt: the salt of the item, at most 64 bytes.
    @ivar answers: the answers of the nearest I{responsive} nodes, at most 32,
        nearest first; then those of further nodes, whose values count but
        which are not candidates for a put.
    @ivar silent: equally near nodes that had not answered when the read ended;
        L{IDHT.refresh} queries them once more.
    """

    public_key: bytes
    salt: bytes
    answers: tuple[NodeAnswer, ...]
    silent: tuple[Contact, ...] = ()

    def values(self) -> dict[bytes, list[Contact]]:
        """
        Return each distinct verified value with the nodes that store it, in
        the order of the nearest such node.
        """
        held: dict[bytes, list[Contact]] = {}
        for answer in self.answers:
            if answer.value is not None:
                held.setdefault(answer.value, []).append(answer.contact)
        return held

    def latest(self) -> NodeAnswer | None:
        """
        Return the answer with the highest sequence number, which is the valid
        one if the key has a single writer (BEP44).  If several nodes have it,
        it is the answer of the nearest; if no node has a value, C{None}.
        """
        held = [answer for answer in self.answers if answer.seq is not None]
        return max(held, key=lambda answer: answer.seq or 0, default=None)


@frozen(slots=True)
class InfohashSample:
    """
    One node's sample of the info hashes for which it stores peers (BEP51).

    @ivar contact: the node.
    @ivar info_hashes: the sample, 20 bytes each.
    @ivar total: the total number of info hashes that the node claims to store.
    @ivar interval: seconds after which the node has a new sample, 0..21600; it
        is not queried again before.
    """

    contact: Contact
    info_hashes: tuple[bytes, ...]
    total: int
    interval: float


@frozen(slots=True)
class PutResult:
    """
    The result of a put.

    @ivar stored: nodes that now store the value: a read has returned it, or, if
        no read was requested, the node acknowledged the put.
    @ivar acknowledged: nodes that acknowledged the put, but from which no read
        has returned the value; or that already had a value at least as new, so
        that the acknowledgement proves nothing (docs/protocol/dht.md section 4,
        rule 7).
    @ivar refused: nodes that answered with an error, and its code.
    @ivar unanswered: nodes that did not answer in time.
    """

    stored: tuple[Contact, ...] = ()
    acknowledged: tuple[Contact, ...] = ()
    refused: tuple[tuple[Contact, int], ...] = ()
    unanswered: tuple[Contact, ...] = ()


class IPlacement(Interface):
    """
    Decides which of the nodes that were read should store our value.  Pure.
    """

    def plan(read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        Choose nodes for the copies to place now.

        @return: one inner sequence for each copy: the nodes to try in order,
            with put-if-absent, until one of them stores the value.  A node may
            be in several sequences; it is used for at most one copy.
        """

    def overwrite(read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Return the nodes whose value may be overwritten by a put without C{cas}
        if L{plan} found fewer than two places.  Usually empty.
        """


class IDHT(Interface):
    """
    A Mainline DHT node as its users see it.  All Deferreds that it returns can
    be cancelled.
    """

    def when_ready() -> Deferred[int]:
        """
        Return a new Deferred, which fires with the number of known nodes once
        at least one node has answered.
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
        Do an iterative lookup, and read the item from the nearest responsive
        nodes.

        @param public_key: the key of the item, 32 bytes.
        @param salt: the salt of the item, at most 64 bytes.
        @param on_answer: called with each verified answer as it arrives.
        @param on_inner: called once for each address family, usually long before
            the end, when the 12 nearest known nodes have been queried and 5 of
            them have answered, with their answers so far.  Not called if the
            lookup ends before.
        @param known: an earlier read of the same item.  Its nodes are queried
            again; the lookup continues if they return nearer ones.
        @param alpha: the number of concurrent queries; more are faster and cost
            more traffic.
        @param width: the number of nearest nodes that must answer, more than 8;
            32 if they store many different values.  The answers always include
            those of the 20 nodes that the mainline crate reads.
        """

    def refresh(
        read: MutableRead,
        on_answer: Callable[[NodeAnswer], None] | None = None,
        nearest: int | None = None,
    ) -> Deferred[MutableRead]:
        """
        Query the nodes of C{read} again directly, in one round trip without a
        lookup.  If a node does not answer in time, or can't be queried now
        because of packet limits, its previous answer is kept.

        @param read: the earlier read.
        @param on_answer: called with each verified answer as it arrives.
        @param nearest: query only this number of nearest nodes, and none of the
            silent ones; C{None}: query all.
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
        Sign C{value}, and put it on the nodes that C{placement} chooses, with
        the tokens of C{read}.

        @param signing_seed: the Ed25519 seed of the item's key, 32 bytes.
        @param salt: the salt of the item, at most 64 bytes.
        @param value: a byte string of at most 996 bytes.
        @param placement: chooses the nodes.
        @param read: a read of the same item.
        @param seq: the sequence number, 0..2^63-1.
        @param read_back: count a node as one that stores the value only after a
            read has returned it, one round trip later.  If false, an
            acknowledgement is sufficient: for callers that read the slot
            immediately afterwards anyway.
        @raise ValueError: by the call itself, if the value or the salt is too
            long.
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
        Sign C{value}, and put it on the nearest nodes of each address family
        that gave a token.  This is a mutable item as BEP44 defines it: it has
        one writer, and the highest sequence number wins.

        @param signing_seed: the Ed25519 seed of the item's key, 32 bytes.
        @param value: a byte string of at most 996 bytes.
        @param seq: the sequence number, 0..2^63-1; higher than the previous one
            if the value differs.  L{MutableRead.latest} returns the previous.
        @param salt: the salt of the item, at most 64 bytes.
        @param cas: the sequence number to replace.  A node with another one
            refuses with error 301; a node without a value ignores C{cas}.
        @param read: a read of this item from the last 5 minutes, which saves
            another one.
        @param copies: the number of nodes.
        @raise ValueError: by the call itself, if an argument is too long or out
            of range.
        """

    def get_immutable(target: bytes) -> Deferred[bytes | None]:
        """
        Look up the immutable item whose SHA-1 is C{target}.

        @param target: 20 bytes.
        @return: fires with the bytes of the I{bencoded} value, or C{None}.
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
        Look up the peers that are announced for an info hash.

        @param info_hash: 20 bytes.
        @param on_peer: called with the host and port of each peer as it is found.
        @return: fires with the (host, port) pairs.
        """

    def announce_peer(info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        Announce this host as a peer on the 8 nearest nodes.

        @param info_hash: 20 bytes.
        @param port: the port to announce; 0: the UDP source port (implied port).
        """

    def sample_infohashes(
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Request samples of the info hashes that the nodes near C{target} store
        (BEP51).  Nodes whose interval has not elapsed, and nodes that don't
        support the query, are skipped.

        @param target: 20 bytes.
        @param on_sample: called with each sample as it arrives.
        @return: fires with the samples, that of the nearest node first.
        """


class IAddressBook(Interface):
    """
    The known addresses of peers, and the failures of dialling them.
    """

    def learn(peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        Store C{addresses} of C{peer_id}.

        @param source: their origin: C{"record"}, C{"peer data"}, ...
        """

    def resolve(peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        Return the addresses of C{peer_id} that may be dialled now.

        @return: fires with at most 8 addresses and a relay, the most likely
            first; empty if none is known or all are in back-off.
        """

    def failed(peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Record that dialling C{peer_id} at C{addresses} failed, or reached
        another peer.
        """

    def succeeded(peer_id: PeerId) -> None:
        """
        Record that C{peer_id} was reached, which ends its back-off.
        """


class ITopicLinks(Interface):
    """
    The gossip of one topic, as a transport sees it: what the transport calls.
    """

    def messages_received(peer_id: PeerId, messages: Sequence[bytes]) -> None:
        """
        Handle encoded gossip C{Message}s from an admitted peer.

        @param messages: one or more messages, in order.
        @raise dtt.errors.RemoteError: a message is malformed; those before it
            have been handled.  The transport then closes the connection with
            that reason.
        """

    def peer_connected(peer_id: PeerId) -> None:
        """
        Handle a new authenticated connection: a dial of C{peer_id} succeeded, or
        it dialled us.
        """

    def peer_disconnected(peer_id: PeerId) -> None:
        """
        Handle the I{unexpected} end of the last connection to C{peer_id}: one
        that neither we requested nor the peer's CLOSE announced
        (docs/protocol/streams.md section 4).  Also called if the peer did not
        admit us in time.
        """


class IPeerTransport(Interface):
    """
    Authenticated connections to members, addressed by peer id and shared by all
    topics.
    """

    finds_peers = Attribute("Whether L{dial} can find a peer by its id alone, without an address.")

    def addresses() -> tuple[Address, ...]:
        """
        Return the addresses at which other members should dial us.
        """

    def open_topic(topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Join a topic.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (docs/protocol/records.md section 1),
            32 bytes.
        @param links: called with messages and the state of connections.
        @raise ValueError: the topic is already open.
        """

    def close_topic(topic_id: bytes) -> None:
        """
        Leave a topic.  Notifies the peers, and closes connections that no other
        topic shares once their buffers are flushed.  The topic's C{links} is
        no longer called.
        """

    def dial(peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """
        Establish an authenticated connection to C{peer_id}, unless there is one.
        Concurrent dials of the same peer share one attempt.

        @return: fires once there is a connection, immediately if there is one
            already; fails with L{dtt.errors.DialFailed}.
        """

    def is_connected(peer_id: PeerId) -> bool:
        """
        Return whether there is an authenticated connection to C{peer_id}.
        """

    def send(peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send one encoded gossip C{Message}.

        @return: whether C{peer_id} is connected; if not, the message is dropped.
        """

    def disconnect(peer_id: PeerId, topic_id: bytes) -> None:
        """
        End this topic's use of the connection to C{peer_id}.
        """

    def when_writable(peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Wait until less than 256 KiB are unsent to each of C{peer_ids} that is
        connected.
        """


class IListener(IPeerTransport):
    """
    An L{IPeerTransport} that listens on ports of its own.
    """

    kind = Attribute("Its number in address hints: 0 streams, 1 iroh.")
    port = Attribute("The port of its first listening socket; C{None} before L{listen}.")
    counters = Attribute(
        "Event counters, by reason.  C{'accepted'} counts authenticated inbound connections."
    )

    def listen(host: str, port: int) -> None:
        """
        Bind the port, and accept connections from now on.

        @param host: an IP literal; C{"0.0.0.0"} for all addresses.
        @param port: the port; 0: the system chooses one.
        @raise dtt.errors.ListenError: the address can't be bound.
        """

    def set_external_host(host: str | None) -> None:
        """
        Set our external address, for example the one that DHT nodes agree on.

        @param host: an IP literal; C{None}: unknown.
        """

    def stop() -> Deferred[None]:
        """
        Leave all topics, stop listening and close all connections.

        @return: fires when everything is closed, within 1.5 s; cancelling it
            aborts the remaining connections.
        """


class IGossipObserver(Interface):
    """
    Observes a topic on behalf of an application.  An exception that an observer
    raises is logged, and does not affect other observers.  After we leave the
    topic, observers are no longer called, not even L{neighbor_down} for the
    remaining neighbours.
    """

    def neighbor_up(peer_id: PeerId) -> None:
        """Called when C{peer_id} has entered our active view."""

    def neighbor_down(peer_id: PeerId) -> None:
        """Called when C{peer_id} has left our active view."""

    def message_received(message: GossipMessage) -> None:
        """Called when a message of the topic has arrived."""


class IGossip(Interface):
    """
    The gossip of one topic, as the tracker's services use it.
    """

    def join(peers: Sequence[PeerId]) -> None:
        """
        Dial each of C{peers}, and send it a HyParView C{Join}.

        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def broadcast(content: bytes) -> Deferred[None]:
        """
        Send C{content} to the whole swarm.

        @return: fires when every eager neighbour has less than 256 KiB unsent
            and no other neighbour is far behind; after C{[timeouts] broadcast}
            in any case.
        @raise dtt.errors.ContentTooLarge: C{content} is more than 4055 bytes.
        @raise dtt.errors.DuplicateContent: it is equal to a message of the last
            90 s.
        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def broadcast_neighbors(content: bytes) -> Deferred[None]:
        """Send C{content} to direct neighbours only; otherwise as L{broadcast}."""

    def neighbors() -> tuple[PeerId, ...]:
        """Return the peer ids of the active view."""

    def message_hashes() -> tuple[bytes, ...]:
        """
        Return the hashes (SHA-512, truncated to 32 bytes) of the last 5 distinct
        messages I{received}, oldest first.
        """

    def when_joined() -> Deferred[None]:
        """
        Return a new Deferred, which fires once there is a neighbour and fails
        with L{dtt.errors.TopicLeft}.  It can be cancelled.
        """

    def subscribe(observer: IGossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} from now on, starting with C{neighbor_up} for each
        current neighbour.

        @return: a function that ends the subscription.
        """

    def leave() -> Deferred[None]:
        """
        Leave the topic, and disconnect from all neighbours.

        @return: fires once the disconnect messages are on their way.
        """
