"""
The interface of the address book.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from zope.interface import Interface

from dtt.wire.addresses import Address

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

#: A peer id, 32 bytes.
PeerId: TypeAlias = bytes


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

        @return: fires with at most 12 addresses and a relay, the most likely
            first; empty if none is known or all are in back-off.
        """

    def refresh(peer_id: PeerId) -> None:
        """
        Look for newer addresses of C{peer_id}, although some may be known.
        """

    def peek(peer_id: PeerId) -> None:
        """
        The same at little cost, for a caller that repeats this every few seconds: usually two datagrams.
        """

    def source(peer_id: PeerId) -> str:
        """
        Return the origin of the most likely address of C{peer_id}, see L{learn}; C{""} if
        none is known.
        """

    def published(peer_id: PeerId) -> None:
        """
        Record that C{peer_id} has published a new record: if it was reached before, this ends its back-off.
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
