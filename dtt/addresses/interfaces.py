"""
The interface of this package: stores of signed packets.

All implementations pass the same tests (C{tests/addresses/contract.py}).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dtt.addresses.pkarr import Packet
from dtt.identity import PeerKey
from dtt.interfaces import PeerId

#: Called with each packet that is found.
PacketSink: TypeAlias = Callable[[Packet], None]


class IPacketStore(Interface):
    """
    A store in which peers publish their signed packets.
    """

    name = Attribute("Its name in events: C{dht}, or the URL of a relay.")

    def when_ready() -> Deferred[None]:
        """
        Wait until the store can be queried.

        @return: fires then; can be cancelled.
        """

    def find(peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Look up packets of C{peer_id}.

        @param peer_id: 32 bytes.
        @param on_packet: called with each distinct packet as it arrives; not
            called if there is none.
        @return: fires when the lookup is over, whether it succeeded or failed; can
            be cancelled.
        """

    def peek(peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Look for a newer packet of C{peer_id} at little cost, for a caller that repeats this every few
        seconds.  A store without a cheap way does nothing.

        @return: as for L{find}.
        """

    def publish(key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        Sign C{packet} with C{key}, and store it.

        @return: fires when it is stored; fails with
            L{PublishFailed<dtt.errors.PublishFailed>}; can be cancelled.
        """
