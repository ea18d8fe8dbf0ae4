"""
An address book that also queries the stores.

Rules (docs/protocol/addresses.md section 2): addresses in the book that have not
expired are returned immediately; none while too many dials of their networks have
failed.  If none of them may be dialled now, or all are
hearsay and dialling has failed, the stores are queried too.  Meanwhile hearsay,
and the addresses at which the peer was last reached, are returned; packets found
later go into the book.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from dtt.addresses.book import AddressBook
from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.lookups import Lookups
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IAddressBook, PeerId
from dtt.wire.addresses import Address


@implementer(IAddressBook)
class Resolver:
    """
    An L{AddressBook<dtt.addresses.book.AddressBook>} backed by stores.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        book: AddressBook,
        own_id: PeerId,
        stores: Sequence[IPacketStore],
        counters: Counter[str],
    ) -> None:
        """
        @param book: the address book.
        @param own_id: our peer id, 32 bytes, which is never looked up.
        @param stores: the stores to query.
        @param counters: see L{Lookups<dtt.addresses.lookups.Lookups>}.
        """
        self._book = book
        self._own_id = own_id
        self._lookups = Lookups(reactor, stores, book.learn_packet, book.has_current_address, counters)

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        Store addresses of a peer in the book.
        """
        self._book.learn(peer_id, addresses, source)

    def source(self, peer_id: PeerId) -> str:
        """
        Return the origin of the most likely address of a peer.
        """
        return self._book.source(peer_id)

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        Return the addresses of a peer that may be dialled now: immediately if the
        book has any, else after querying the stores.
        """
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return succeed(())
        known = self._book.dialable(peer_id)
        if (
            known
            and self._book.has_current_address(peer_id)
            and not self._book.has_only_failed_hearsay(peer_id)
        ):
            return succeed(known)
        if self._book.waits_for_room(peer_id):
            return succeed(())
        search = self._lookups.find(peer_id, signed=self._book.has_signed(peer_id))
        if known or search is None:
            return succeed(known)
        return search.addCallback(lambda _: self._book.dialable(peer_id))

    def refresh(self, peer_id: PeerId) -> None:
        """
        Query the stores for newer addresses of a peer, also if some are known.
        """
        if peer_id != self._own_id and is_valid_peer_id(peer_id):
            self._lookups.find(peer_id, signed=self._book.has_signed(peer_id))

    def peek(self, peer_id: PeerId) -> None:
        """
        Ask a few DHT nodes for a newer signed packet of a peer.
        """
        if peer_id != self._own_id and is_valid_peer_id(peer_id):
            self._lookups.peek(peer_id)

    def published(self, peer_id: PeerId) -> None:
        """
        Record in the book that a peer has published a new record.
        """
        self._book.published(peer_id)

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Record a failed dial in the book.
        """
        self._book.failed(peer_id, addresses)

    def succeeded(self, peer_id: PeerId) -> None:
        """
        Record in the book that a peer was reached.
        """
        self._book.succeeded(peer_id)

    def stop(self) -> None:
        """
        Cancel all lookups.  Waiting callers of L{resolve} get what is known.
        """
        self._lookups.stop()
