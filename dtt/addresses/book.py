"""
The address book: how peers may be reached, in memory.

Rules (docs/protocol/addresses.md section 4, docs/protocol/gossip.md section 9): at most 8
addresses for an id, forgotten 5 minutes after they were last named; what a
peer says of itself, in a record or in a signed packet, goes before what others
say of it; of its packets only the newest counts, however old it is: iroh signs
one and republishes it for as long as its addresses stay.  Where a peer was last
reached is kept for a day, for the case that nobody names anything better.

After a failed dial the id is in back-off, until it is reached or a new address
of it is learnt; and the (ip, port) is left alone for a while, whoever names it.
Everything is bounded and tidied when it is touched: no timer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from dtt.addresses.dialable import dialable
from dtt.addresses.held import HeldPlaces
from dtt.addresses.pkarr import Packet
from dtt.addresses.saved import MAX_REACHED, ReachedPeer
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IAddressBook, PeerId
from dtt.wire.addresses import MAX_ADDRESSES, Address, PeerAddress, RelayAddress

#: Seconds after which an address that nobody names any more is forgotten
#: (docs/protocol/gossip.md section 9).
EXPIRY = 300.0

#: Seconds of the first back-off of an id, and of the longest; each failure
#: doubles it (docs/protocol/addresses.md section 4).
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0

#: A back-off takes between this share of its length and all of it (guess: two
#: members that dial each other must not go on in step).
JITTER = 0.75

#: Ids that are remembered (guess: far more than the views of all topics; a
#: full book is about a megabyte).
MAX_PEERS = 1024


#: Seconds for which it is known where a peer was last reached (guess: a member
#: that was switched off over night).
REACHED_EXPIRY = 86400.0

#: Sources of a peer's own, signed words.
RECORD = "record"
PKARR = "pkarr"


_HEARSAY = 2


def _distrust(source: str) -> int:
    return {RECORD: 0, PKARR: 1}.get(source, _HEARSAY)


@frozen(slots=True)
class KnownAddress:
    """
    An address and where it comes from.

    @ivar address: where the peer may be.
    @ivar source: who said so: L{RECORD}, L{PKARR}, C{"peer data"}, ...; the most
        trusted one that named it.
    @ivar named_at: when it was last named, in the reactor's seconds.
    """

    address: Address
    source: str
    named_at: float

    def rank(self) -> tuple[int, float]:
        """
        Signed words before hearsay, and within each the newest.
        """
        return _distrust(self.source), -self.named_at


@define(slots=True)
class _Entry:
    """
    What is known of one id.

    @ivar known: at most 8 and a relay, the most likely first.
    @ivar failures: dials that failed in a row.
    @ivar retry_at: the end of the back-off.
    @ivar doubted: it could not be dialled, and was not reached since.
    @ivar version: of the newest packet, whose addresses are among C{known}.
    @ivar reached: where it was last reached, and
    @ivar reached_at: when.
    """

    known: list[KnownAddress] = field(default=Factory(list))
    failures: int = 0
    retry_at: float = 0.0
    doubted: bool = False
    touched_at: float = 0.0
    version: tuple[int, bytes] | None = None
    reached: tuple[Address, ...] = ()
    reached_at: float = 0.0

    def eviction_order(self) -> tuple[bool, float]:
        """
        Hearsay goes before signed words and who was reached, and within each the
        oldest.
        """
        return bool(self.reached) or self.has_signed(), self.touched_at

    def has_signed(self) -> bool:
        """
        Whether the peer itself names any of its addresses.
        """
        return any(_distrust(known.source) < _HEARSAY for known in self.known)


def _best(known: Iterable[KnownAddress]) -> list[KnownAddress]:
    """
    As many as may be dialled: a few addresses, and one relay.
    """
    ranked = sorted(known, key=KnownAddress.rank)
    relays = [each for each in ranked if isinstance(each.address, RelayAddress)][:1]
    direct = [each for each in ranked if isinstance(each.address, PeerAddress)][:MAX_ADDRESSES]
    return sorted((*direct, *relays), key=KnownAddress.rank)


@implementer(IAddressBook)
class AddressBook:
    """
    See the module's words.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        own_addresses: Callable[[], Sequence[Address]],
        own_id: PeerId,
    ) -> None:
        """
        @param own_addresses: what we list ourselves (docs/protocol/addresses.md section 3);
            asked again each time, as it changes.
        @param own_id: our peer id, which is never remembered.
        """
        self._reactor = reactor
        self._rng = rng
        self._own_addresses = own_addresses
        self._own_id = own_id
        self._entries: dict[PeerId, _Entry] = {}
        self._held = HeldPlaces()

    def __len__(self) -> int:
        """
        How many ids are remembered.
        """
        return len(self._entries)

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        See L{IAddressBook.learn}.  Ids that can't be anybody's and addresses
        that may not be dialled are dropped.
        """
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return
        usable = dialable(addresses, self._own_addresses())
        if usable:
            self._name(self._entry(peer_id), usable, source)

    def learn_packet(self, packet: Packet) -> bool:
        """
        Remember what a peer has signed, instead of what it signed before.

        @return: whether it counts: no newer one is known.
        @raise DecodeError: the DNS packet is malformed.
        """
        usable = dialable(packet.addresses(), self._own_addresses())
        peer_id = packet.public_key
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return False
        entry = self._entries.get(peer_id)
        if entry is None and not usable:
            return True
        entry = entry or self._entry(peer_id)
        if entry.version is not None and entry.version > packet.version():
            return False
        self._name(entry, usable, PKARR, replaces=entry.version != packet.version())
        entry.version = packet.version()
        return True

    def _name(self, entry: _Entry, addresses: Sequence[Address], source: str, replaces: bool = False) -> None:
        """
        @param replaces: what C{source} named before is not true any more.
        """
        now = self._reactor.seconds()
        self._forget_expired(entry, now)
        before = {known.address for known in entry.known}
        merged = {known.address: known for known in entry.known if not (replaces and known.source == source)}
        for address in addresses:
            # Named again, it takes the place that the new list gives it.
            known = merged.pop(address, None)
            sources = [source] if known is None else [known.source, source]
            merged[address] = KnownAddress(address, min(sources, key=_distrust), now)
        entry.known = _best(merged.values())
        entry.touched_at = now
        if any(known.address not in before for known in entry.known):
            entry.failures, entry.retry_at = 0, 0.0

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        See L{IAddressBook.resolve}.
        """
        return succeed(self.dialable(peer_id))

    def dialable(self, peer_id: PeerId) -> tuple[Address, ...]:
        """
        What L{resolve} fires with.
        """
        now = self._reactor.seconds()
        entry = self._entries.get(peer_id)
        if entry is None:
            return ()
        self._forget_expired(entry, now)
        if not entry.known and not entry.reached:
            del self._entries[peer_id]
            return ()
        if entry.retry_at > now:
            return ()
        named = [known.address for known in entry.known] or entry.reached
        free = (address for address in named if not self._held.has(address, now))
        return dialable(free, self._own_addresses())

    def is_named(self, peer_id: PeerId) -> bool:
        """
        May an address of C{peer_id} be dialled now that somebody has named lately?
        """
        return bool(self.dialable(peer_id)) and bool(self._entries[peer_id].known)

    def is_doubted(self, peer_id: PeerId) -> bool:
        """
        Is what is known of C{peer_id} but hearsay, which has failed before?
        """
        entry = self._entries.get(peer_id)
        return entry is not None and entry.doubted and not entry.has_signed()

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        See L{IAddressBook.failed}.  Without addresses it was not a dial.
        """
        if not addresses:
            return
        now = self._reactor.seconds()
        self._held.hold(addresses, now)
        entry = self._entries.get(peer_id)
        if entry is None:
            return
        # 2**16 s is beyond the longest back-off: no need to count further.
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.doubted = True
        entry.retry_at = now + backoff * self._rng.uniform(JITTER, 1.0)

    def succeeded(self, peer_id: PeerId) -> None:
        """
        See L{IAddressBook.succeeded}.
        """
        entry = self._entries.get(peer_id)
        if entry is not None:
            entry.failures, entry.retry_at, entry.doubted = 0, 0.0, False
            entry.reached_at = self._reactor.seconds()
            if entry.known:
                entry.reached = tuple(known.address for known in entry.known)

    def reached(self) -> list[ReachedPeer]:
        """
        The peers that were reached within a day, the latest first, at most
        L{MAX_REACHED}.
        """
        now = self._reactor.seconds()
        for entry in self._entries.values():
            self._forget_expired(entry, now)
        peers = (ReachedPeer(id_, e.reached, e.reached_at) for id_, e in self._entries.items() if e.reached)
        return sorted(peers, key=lambda peer: -peer.at)[:MAX_REACHED]

    def restore(self, peers: Iterable[ReachedPeer]) -> None:
        """
        What L{reached} gave in an earlier run, the latest first.
        """
        now = self._reactor.seconds()
        for peer in tuple(peers)[:MAX_REACHED]:
            if peer.peer_id == self._own_id or not is_valid_peer_id(peer.peer_id):
                continue
            # Another clock may have been ahead of ours.
            at = min(peer.at, now)
            if peer.addresses and now - at < REACHED_EXPIRY:
                entry = self._entry(peer.peer_id)
                entry.reached, entry.reached_at = peer.addresses, at
                entry.touched_at = max(entry.touched_at, at)

    def known(self, peer_id: PeerId) -> tuple[KnownAddress, ...]:
        """
        All that is known of C{peer_id}, the most likely first, with source and
        age, whether it may be dialled now or not.
        """
        entry = self._entries.get(peer_id)
        if entry is None:
            return ()
        self._forget_expired(entry, self._reactor.seconds())
        return tuple(entry.known)

    def _entry(self, peer_id: PeerId) -> _Entry:
        entry = self._entries.get(peer_id)
        if entry is None:
            self._make_room()
            entry = self._entries[peer_id] = _Entry()
        return entry

    def _forget_expired(self, entry: _Entry, now: float) -> None:
        entry.known = [known for known in entry.known if now - known.named_at < EXPIRY]
        if now - entry.reached_at >= REACHED_EXPIRY:
            entry.reached = ()

    def _make_room(self) -> None:
        """
        Drop an eighth of a full book at once, so that a flood of ids costs
        little for each of them.
        """
        if len(self._entries) < MAX_PEERS:
            return
        by_worth = sorted(self._entries, key=lambda peer_id: self._entries[peer_id].eviction_order())
        for peer_id in by_worth[: MAX_PEERS // 8]:
            del self._entries[peer_id]
