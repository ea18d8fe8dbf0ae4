"""
The seam of this folder: where signed packets are kept and found.

Each provider passes the same tests (C{tests/addresses/test_stores.py}).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dtt.addresses.pkarr import Packet
from dtt.identity import PeerKey
from dtt.interfaces import PeerId

#: Takes each packet that is found.
PacketSink: TypeAlias = Callable[[Packet], None]


class IPacketStore(Interface):
    """
    A place where peers publish their signed packets.
    """

    name = Attribute("What it is called in events: C{dht}, or a relay's URL.")

    def when_ready() -> Deferred[None]:
        """
        Fires once there is somebody to ask; can be cancelled.
        """

    def find(peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Look for packets of C{peer_id}.

        @param on_packet: called with each different one as it arrives, none at
            all if there is none.
        @return: fires when the search is over, whatever happened; can be
            cancelled.
        """

    def publish(key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        Sign C{packet} with C{key}, and keep it there.

        @return: fires when it is there; fails with L{PublishFailed}; can be
            cancelled.
        """
