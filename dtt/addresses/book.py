"""
The address book: the known addresses of peers, in memory.

Rules (docs/protocol/addresses.md section 4, docs/protocol/gossip.md section 9):
at most 12 addresses per id, which expire 5 minutes after they were last learned;
addresses that a peer itself names, in a record or in a signed packet, take precedence over those that others
name; only its newest packet counts, regardless of its age, because iroh signs a packet once and republishes
it while its addresses stay the same.  The addresses at which a peer was last reached are kept for a day, as a
fallback.

After a failed dial, the id is in back-off until it is reached or a new address
is learned, or, if it was reached before, until it publishes a new record, and the
(ip, port) is held for a while, regardless of who names it.
All collections are bounded, and expire on access: there are no timers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from dtt.addresses.dialable import dialable
from dtt.addresses.held import HeldAddresses
from dtt.addresses.pkarr import Packet
from dtt.addresses.saved import MAX_REACHED, ReachedPeer
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IAddressBook, PeerId
from dtt.wire.addresses import MAX_ADDRESSES, Address, PeerAddress, RelayAddress

#: Seconds after which an address expires unless it is learned again
#: (docs/protocol/gossip.md section 9).
EXPIRY = 300.0

#: The first and the longest back-off of an id, in seconds; each failure doubles it
#: (docs/protocol/addresses.md section 4).
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0

#: A back-off lasts between this fraction of its length and all of it (guess: two
#: members that dial each other must not stay synchronised).
JITTER = 0.75

#: The maximum number of ids (guess: far more than the views of all topics; a full
#: book takes about a megabyte).
MAX_PEERS = 1024

#: Seconds for which the addresses at which a peer was last reached are kept (guess:
#: a member that was switched off overnight).
REACHED_EXPIRY = 86400.0

#: Sources of addresses that the peer itself has signed.
RECORD = "record"
PKARR = "pkarr"

_HEARSAY = 2


def _distrust(source: str) -> int:
    return {RECORD: 0, PKARR: 1}.get(source, _HEARSAY)


@frozen(slots=True)
class KnownAddress:
    """
    An address and its origin.

    @ivar address: the address.
    @ivar source: its origin: L{RECORD}, L{PKARR}, C{"peer data"}, ...; if there
        are several, the most trusted one.
    @ivar learned_at: when it was last learned, in the reactor's seconds.
    """

    address: Address
    source: str
    learned_at: float

    def rank(self) -> tuple[int, float]:
        """
        Return a sort key: signed addresses first, then hearsay, each with the
        newest first.
        """
        return _distrust(self.source), -self.learned_at


@define(slots=True)
class _Entry:
    """
    The state of one id.

    @ivar known: its addresses, at most 12 and a relay, the most likely first.
    @ivar failures: the number of consecutive failed dials.
    @ivar retry_at: the end of the back-off.
    @ivar failing: whether a dial has failed since the peer was last reached.
    @ivar touched_at: when an address was last learned.
    @ivar version: the version of the newest packet, whose addresses are in
        C{known}.
    @ivar reached: the addresses at which the peer was last reached.
    @ivar reached_at: when it was last reached.
    """

    known: list[KnownAddress] = field(default=Factory(list))
    failures: int = 0
    retry_at: float = 0.0
    failing: bool = False
    touched_at: float = 0.0
    version: tuple[int, bytes] | None = None
    reached: tuple[Address, ...] = ()
    reached_at: float = 0.0

    def named(self) -> Sequence[Address]:
        """
        Return the addresses to dial, the most likely first.
        """
        return [known.address for known in self.known] or self.reached

    def eviction_order(self) -> tuple[bool, float]:
        """
        Return a sort key: peers known only from hearsay are evicted before those
        that were reached or have signed an address, each with the oldest first.
        """
        return bool(self.reached) or self.has_signed(), self.touched_at

    def has_signed(self) -> bool:
        """
        Return whether the peer itself has signed any of its addresses.
        """
        return any(_distrust(known.source) < _HEARSAY for known in self.known)


def _best(known: Iterable[KnownAddress]) -> list[KnownAddress]:
    """
    Return the best L{MAX_ADDRESSES<dtt.wire.addresses.MAX_ADDRESSES>} addresses
    and the best relay.
    """
    ranked = sorted(known, key=KnownAddress.rank)
    relays = [each for each in ranked if isinstance(each.address, RelayAddress)][:1]
    direct = [each for each in ranked if isinstance(each.address, PeerAddress)][:MAX_ADDRESSES]
    return sorted((*direct, *relays), key=KnownAddress.rank)


@implementer(IAddressBook)
class AddressBook:
    """
    The address book; its rules are in the module's docstring.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        own_addresses: Callable[[], Sequence[Address]],
        own_id: PeerId,
    ) -> None:
        """
        @param rng: draws the jitter of back-offs.
        @param own_addresses: returns our own addresses
            (docs/protocol/addresses.md section 3); called each time, because they
            change.
        @param own_id: our peer id, 32 bytes, which is never stored.
        """
        self._reactor = reactor
        self._rng = rng
        self._own_addresses = own_addresses
        self._own_id = own_id
        self._entries: dict[PeerId, _Entry] = {}
        self._held = HeldAddresses()
        #: Called with a peer of which addresses are known, and these, when another one is learned.
        self.on_moved: Callable[[PeerId, Sequence[Address]], object] = lambda peer_id, addresses: None
        #: Returns whether the network of an address may be dialled now (L{dtt.net.dial_budget}).
        self.has_room: Callable[[Address], bool] = lambda address: True
        #: Returns whether a host is known to be in our local network.
        self.is_here: Callable[[str], bool] = lambda host: False

    def __len__(self) -> int:
        """
        Return the number of ids.
        """
        return len(self._entries)

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        Store addresses of a peer.  Invalid peer ids, and addresses that may not be
        dialled, are ignored.
        """
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return
        usable = dialable(addresses, self._own_addresses(), self.is_here)
        if usable:
            entry = self._entry(peer_id)
            known = {each.address for each in entry.known}
            self._add(entry, usable, source)
            self._tell_moved(peer_id, known, usable)

    def network_changed(self) -> None:
        """
        Forget that dials have failed: the network of this machine has changed.
        """
        self._held = HeldAddresses()
        for entry in self._entries.values():
            entry.failures, entry.retry_at = 0, 0.0

    def learn_packet(self, packet: Packet) -> bool:
        """
        Replace the addresses from a peer's previous signed packet by those of
        C{packet}.

        @return: whether C{packet} is current, that is, no newer one is known.
        @raise DecodeError: the DNS packet is malformed.
        """
        usable = dialable(packet.addresses(), self._own_addresses(), self.is_here)
        peer_id = packet.public_key
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return False
        entry = self._entries.get(peer_id)
        if entry is None and not usable:
            return True
        entry = entry or self._entry(peer_id)
        if entry.version is not None and entry.version > packet.version():
            return False
        known = {each.address for each in entry.known}
        self._add(entry, usable, PKARR, replaces=entry.version != packet.version())
        entry.version = packet.version()
        self._tell_moved(peer_id, known, usable)
        return True

    def _tell_moved(self, peer_id: PeerId, known: set[Address], usable: Sequence[Address]) -> None:
        if known and not known.issuperset(usable):
            self.on_moved(peer_id, usable)

    def _add(self, entry: _Entry, addresses: Sequence[Address], source: str, replaces: bool = False) -> None:
        """
        @param replaces: drop the addresses learned from C{source} before.
        """
        now = self._reactor.seconds()
        self._forget_expired(entry, now)
        before = {known.address for known in entry.known}
        merged = {known.address: known for known in entry.known if not (replaces and known.source == source)}
        for address in addresses:
            # A known address moves to its position in the new list.
            known = merged.pop(address, None)
            sources = [source] if known is None else [known.source, source]
            merged[address] = KnownAddress(address, min(sources, key=_distrust), now)
        entry.known = _best(merged.values())
        entry.touched_at = now
        if any(known.address not in before for known in entry.known):
            entry.failures, entry.retry_at = 0, 0.0

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        Return the addresses of a peer that may be dialled now; fires immediately.
        """
        return succeed(self.dialable(peer_id))

    def refresh(self, peer_id: PeerId) -> None:
        """
        Do nothing: there is nowhere to look.
        """

    def peek(self, peer_id: PeerId) -> None:
        """
        Do nothing: there is nowhere to look.
        """

    def source(self, peer_id: PeerId) -> str:
        """
        Return the origin of the most likely address of a peer; C{""} if none is known.
        """
        entry = self._entries.get(peer_id)
        return entry.known[0].source if entry is not None and entry.known else ""

    def dialable(self, peer_id: PeerId) -> tuple[Address, ...]:
        """
        Return the addresses of a peer that may be dialled now, the most likely
        first: at most 8 and a relay.
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
        free = (address for address in entry.named() if not self._held.has(address, now))
        return dialable(filter(self.has_room, free), self._own_addresses(), self.is_here)

    def waits_for_room(self, peer_id: PeerId) -> bool:
        """
        Return whether addresses of C{peer_id} are known, but none may be dialled now because of too many
        failed dials to their networks.
        """
        entry = self._entries.get(peer_id)
        return entry is not None and bool(named := entry.named()) and not any(map(self.has_room, named))

    def has_current_address(self, peer_id: PeerId) -> bool:
        """
        Return whether a learned address of C{peer_id}, and not only one at which it
        was last reached, may be dialled now.
        """
        return bool(self.dialable(peer_id)) and bool(self._entries[peer_id].known)

    def has_only_failed_hearsay(self, peer_id: PeerId) -> bool:
        """
        Return whether the addresses of C{peer_id} are all hearsay, and dialling it
        has failed.
        """
        entry = self._entries.get(peer_id)
        return entry is not None and entry.failing and not entry.has_signed()

    def has_signed(self, peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} itself has signed an address that is known.
        """
        entry = self._entries.get(peer_id)
        return entry is not None and entry.has_signed()

    def published(self, peer_id: PeerId) -> None:
        """
        Let C{peer_id} be dialled once more now if it was reached before: its network may have been gone.  The
        next back-off is as long as it would be otherwise.
        """
        entry = self._entries.get(peer_id)
        if entry is not None and entry.reached:
            entry.retry_at = 0.0

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Hold C{addresses}, and start or extend the back-off of C{peer_id}.  Without
        addresses there was no dial, and nothing happens.
        """
        if not addresses:
            return
        now = self._reactor.seconds()
        self._held.hold(addresses, now)
        entry = self._entries.get(peer_id)
        if entry is None:
            return
        # 2**16 s exceeds the longest back-off: a larger exponent is not needed.
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.failing = True
        entry.retry_at = now + backoff * self._rng.uniform(JITTER, 1.0)

    def succeeded(self, peer_id: PeerId) -> None:
        """
        End the back-off of C{peer_id}, and remember the addresses at which it was
        reached.
        """
        entry = self._entries.get(peer_id)
        if entry is not None:
            entry.failures, entry.retry_at, entry.failing = 0, 0.0, False
            entry.reached_at = self._reactor.seconds()
            if entry.known:
                entry.reached = tuple(known.address for known in entry.known)

    def reached(self) -> list[ReachedPeer]:
        """
        Return the peers that were reached within a day, the latest first; at most
        L{MAX_REACHED<dtt.addresses.saved.MAX_REACHED>}.
        """
        now = self._reactor.seconds()
        for entry in self._entries.values():
            self._forget_expired(entry, now)
        peers = (ReachedPeer(id_, e.reached, e.reached_at) for id_, e in self._entries.items() if e.reached)
        return sorted(peers, key=lambda peer: -peer.at)[:MAX_REACHED]

    def restore(self, peers: Iterable[ReachedPeer]) -> None:
        """
        Restore what L{reached} returned in an earlier run.

        @param peers: the peers, the latest first.
        """
        now = self._reactor.seconds()
        for peer in tuple(peers)[:MAX_REACHED]:
            if peer.peer_id == self._own_id or not is_valid_peer_id(peer.peer_id):
                continue
            # The clock of the earlier run may have been ahead.
            at = min(peer.at, now)
            if peer.addresses and now - at < REACHED_EXPIRY:
                entry = self._entry(peer.peer_id)
                entry.reached, entry.reached_at = peer.addresses, at
                entry.touched_at = max(entry.touched_at, at)

    def known(self, peer_id: PeerId) -> tuple[KnownAddress, ...]:
        """
        Return all learned addresses of C{peer_id}, the most likely first, including
        those that may not be dialled now.
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
        entry.known = [known for known in entry.known if now - known.learned_at < EXPIRY]
        if now - entry.reached_at >= REACHED_EXPIRY:
            entry.reached = ()

    def _make_room(self) -> None:
        """
        If the book is full, evict an eighth of it, so that the cost per id stays low
        under a flood of ids.
        """
        if len(self._entries) < MAX_PEERS:
            return
        by_worth = sorted(self._entries, key=lambda peer_id: self._entries[peer_id].eviction_order())
        for peer_id in by_worth[: MAX_PEERS // 8]:
            del self._entries[peer_id]
