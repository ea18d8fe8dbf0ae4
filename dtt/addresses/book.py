"""
The address book: how peers may be reached, in memory.

Rules (specs/addresses.md section 4, specs/iroh-gossip.md section 9): at most 8
addresses for an id, forgotten 5 minutes after they were last named; what a
peer says of itself in a record goes before what others say of it.  After a
failed dial the id is in back-off, until it is reached or a new address of it
is learnt; and the (ip, port) is left alone for a while, whoever names it.
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
from dtt.hints import MAX_ADDRESSES, Address, PeerAddress
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IAddressBook, PeerId

#: Seconds after which an address that nobody names any more is forgotten
#: (specs/iroh-gossip.md section 9).
EXPIRY = 300.0

#: Seconds of the first back-off of an id, and of the longest; each failure
#: doubles it (specs/addresses.md section 4).
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0

#: A back-off takes between this share of its length and all of it (guess: two
#: members that dial each other must not go on in step).
JITTER = 0.75

#: Seconds for which an (ip, port) is left alone after a failed or
#: unauthenticated dial (specs/addresses.md section 4).
PLACE_HOLD = 10.0

#: Ids that are remembered (guess: far more than the views of all topics; a
#: full book is about a megabyte).
MAX_PEERS = 1024

#: Held (ip, port) pairs that are remembered (guess: 8 for each of 512 dials
#: that failed within L{PLACE_HOLD}).
MAX_HELD_PLACES = 4096

#: The source that names a peer's own, signed words.
RECORD = "record"


@frozen(slots=True)
class KnownAddress:
    """
    An address and where it comes from.

    @ivar address: where the peer may be.
    @ivar source: who said so: L{RECORD}, C{"peer data"}, ...; a record is not
        replaced by lesser sources.
    @ivar named_at: when it was last named, in the reactor's seconds.
    """

    address: Address
    source: str
    named_at: float


@define(slots=True)
class _Entry:
    """
    What is known of one id.

    @ivar known: at most 8, the most likely first.
    @ivar failures: dials that failed in a row.
    @ivar retry_at: the end of the back-off.
    """

    known: list[KnownAddress] = field(default=Factory(list))
    failures: int = 0
    retry_at: float = 0.0
    touched_at: float = 0.0

    def eviction_order(self) -> tuple[bool, float]:
        """
        Hearsay goes before signed words, and within each the oldest.
        """
        return any(known.source == RECORD for known in self.known), self.touched_at


def _rank(known: KnownAddress) -> tuple[bool, float]:
    return known.source != RECORD, -known.named_at


def _place(address: Address) -> tuple[str, int] | None:
    """
    What is left alone after a failed dial; a relay serves many peers, and is not.
    """
    return (address.host, address.port) if isinstance(address, PeerAddress) else None


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
        @param own_addresses: what we list ourselves (specs/addresses.md section 3);
            asked again each time, as it changes.
        @param own_id: our peer id, which is never remembered.
        """
        self._reactor = reactor
        self._rng = rng
        self._own_addresses = own_addresses
        self._own_id = own_id
        self._entries: dict[PeerId, _Entry] = {}
        # In the order of their ends, as all are held equally long.
        self._held: dict[tuple[str, int], float] = {}

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
        if not usable:
            return
        now = self._reactor.seconds()
        entry = self._entries.get(peer_id)
        if entry is None:
            self._make_room()
            entry = self._entries[peer_id] = _Entry()
        self._forget_expired(entry, now)
        before = {known.address: known for known in entry.known}
        merged = dict(before)
        for address in usable:
            known = merged.get(address)
            kept_source = RECORD if known is not None and known.source == RECORD else source
            # Named again, it takes the place that the new list gives it.
            merged.pop(address, None)
            merged[address] = KnownAddress(address, kept_source, now)
        entry.known = sorted(merged.values(), key=_rank)[:MAX_ADDRESSES]
        entry.touched_at = now
        if any(known.address not in before for known in entry.known):
            entry.failures, entry.retry_at = 0, 0.0

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        See L{IAddressBook.resolve}.
        """
        return succeed(self._dialable_now(peer_id))

    def _dialable_now(self, peer_id: PeerId) -> tuple[Address, ...]:
        now = self._reactor.seconds()
        entry = self._entries.get(peer_id)
        if entry is None or entry.retry_at > now:
            return ()
        self._forget_expired(entry, now)
        if not entry.known:
            del self._entries[peer_id]
            return ()
        self._release_places(now)
        free = (known.address for known in entry.known if _place(known.address) not in self._held)
        return dialable(free, self._own_addresses())

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        See L{IAddressBook.failed}.  Without addresses it was not a dial.
        """
        if not addresses:
            return
        now = self._reactor.seconds()
        self._hold_places(addresses, now)
        entry = self._entries.get(peer_id)
        if entry is None:
            return
        # 2**16 s is beyond the longest back-off: no need to count further.
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.retry_at = now + backoff * self._rng.uniform(JITTER, 1.0)

    def succeeded(self, peer_id: PeerId) -> None:
        """
        See L{IAddressBook.succeeded}.
        """
        entry = self._entries.get(peer_id)
        if entry is not None:
            entry.failures, entry.retry_at = 0, 0.0

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

    def _forget_expired(self, entry: _Entry, now: float) -> None:
        entry.known = [known for known in entry.known if now - known.named_at < EXPIRY]

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

    def _hold_places(self, addresses: Iterable[Address], now: float) -> None:
        self._release_places(now)
        for place in filter(None, map(_place, addresses)):
            self._held.pop(place, None)
            self._held[place] = now + PLACE_HOLD
        while len(self._held) > MAX_HELD_PLACES:
            del self._held[next(iter(self._held))]

    def _release_places(self, now: float) -> None:
        while self._held:
            place, until = next(iter(self._held.items()))
            if until > now:
                return
            del self._held[place]
