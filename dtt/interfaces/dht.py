"""
The interface of a DHT node, and the values that pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


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
class ServedItem:
    """
    One of our own mutable items, which our node serves, see L{IDHT.serve}.

    @ivar signing_seed: the Ed25519 seed of its key, 32 bytes.
    @ivar salt: its salt, at most 64 bytes.
    @ivar value: a byte string of at most 996 bytes.
    @ivar seq: its sequence number, 0..2^63-1.
    """

    signing_seed: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    value: bytes = field(repr=False)
    seq: int = 2**63 - 1


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
        Return the nodes whose value may be overwritten by a put without C{cas},
        the first to try first, once the copies of L{plan} have been placed.  As many
        are overwritten as copies are missing to two, and otherwise one.  Usually empty.
        """


class IDHT(Interface):
    """
    The public interface of a Mainline DHT node.  All Deferreds that it returns can be cancelled. If there are
    many operations, they wait in a queue.  Except for L{refresh} and L{put_mutable}, they fail with
    L{LookupFailed<dtt.errors.LookupFailed>} if no node has answered.
    """

    def when_ready() -> Deferred[int]:
        """
        Return a new Deferred, which fires with the number of known nodes once
        at least one node has answered.
        """

    def when_usable() -> Deferred[None]:
        """
        Return a new Deferred, which fires once operations can begin: at least one
        node has answered, or enough nodes are known from an earlier run to begin
        with these.  Operations called before wait for it.
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

    def ask_node(host: str, port: int, public_key: bytes, salt: bytes = b"") -> Deferred[NodeAnswer]:
        """
        Request a mutable item from one node, with one query and without a lookup. This works even if no other
        node is known.

        @param host: its address, an IP literal of any scope: the caller decides whether it may be contacted.
        @param port: its UDP port, 1..65535.
        @param public_key: the key of the item, 32 bytes.
        @param salt: the salt of the item, at most 64 bytes.
        @return: fires with the answer; fails with L{QueryTimeout<dtt.errors.QueryTimeout>},
            L{QueryRefused<dtt.errors.QueryRefused>}, or
            L{LookupFailed<dtt.errors.LookupFailed>} if we have no socket of that address
            family.
        """

    def serve(targets: Iterable[bytes], source: Callable[[bytes], ServedItem | None]) -> Callable[[], None]:
        """
        Serve our own mutable items, instead of values that others may have stored under the same targets.

        @param targets: the targets of our items, 20 bytes each.
        @param source: called with one of them for each incoming C{get}; returns the item, or C{None} if there
            is none now.  It must be fast.
        @return: a function that stops this.
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
