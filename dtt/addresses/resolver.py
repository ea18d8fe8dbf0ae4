"""
The address book that also asks.

Rules (docs/protocol/addresses.md section 2): what somebody has named lately is the
answer, at once.  If there is nothing of the kind that may be dialled now, or only
hearsay that has failed before, the stores are asked; what others say and where
the peer was last reached serve meanwhile, and what is found after an answer goes
into the book.
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
    An L{AddressBook} with stores behind it.
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
        @param own_id: our peer id, which is never looked for.
        """
        self._book = book
        self._own_id = own_id
        self._lookups = Lookups(reactor, stores, book.learn_packet, book.is_named, counters)

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        """
        See L{IAddressBook.learn}.
        """
        self._book.learn(peer_id, addresses, source)

    def resolve(self, peer_id: PeerId) -> Deferred[tuple[Address, ...]]:
        """
        See L{IAddressBook.resolve}.
        """
        if peer_id == self._own_id or not is_valid_peer_id(peer_id):
            return succeed(())
        known = self._book.dialable(peer_id)
        if known and self._book.is_named(peer_id) and not self._book.is_doubted(peer_id):
            return succeed(known)
        search = self._lookups.find(peer_id)
        if known or search is None:
            return succeed(known)
        return search.addCallback(lambda _: self._book.dialable(peer_id))

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        See L{IAddressBook.failed}.
        """
        self._book.failed(peer_id, addresses)

    def succeeded(self, peer_id: PeerId) -> None:
        """
        See L{IAddressBook.succeeded}.
        """
        self._book.succeeded(peer_id)

    def stop(self) -> None:
        """
        Look for nobody any more; who waits gets what is known.
        """
        self._lookups.stop()
