"""
The interfaces of a transport, which connects members, and of its users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from zope.interface import Attribute, Interface

from dtt.interfaces.addresses import PeerId
from dtt.wire.addresses import Address

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class ITopicLinks(Interface):
    """
    The methods of a topic's gossip that a transport calls.
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

    def link_broken(peer_id: PeerId, heard: float, reason: str) -> None:
        """
        Handle the unexpected end of a connection to C{peer_id} that this topic used or
        wanted to use, before L{peer_disconnected}, and also if another connection
        replaces it.

        @param heard: when something last arrived on it, in seconds of the reactor's
            clock.  What was sent afterwards may not have arrived.
        @param reason: the reason, in a few words.
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

    def dial(peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None) -> Deferred[None]:
        """
        Establish an authenticated connection to C{peer_id}, unless there is one.
        Concurrent dials of the same peer share one attempt.

        @param topic_id: a topic that the peer is a member of (32 bytes), whose key
            may be needed to reach it; C{None}: unknown.
        @return: fires once there is a connection, immediately if there is one
            already; fails with L{dtt.errors.DialFailed}, in particular with
            L{dtt.errors.NoRoom} if we have too many connections.
        """

    def is_connected(peer_id: PeerId) -> bool:
        """
        Return whether there is an authenticated connection to C{peer_id}.
        """

    def connections_used() -> tuple[int, int]:
        """
        Return the number of connections in use, and the maximum. With several transports, return those of the
        transport with the least room.
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
    An L{IPeerTransport} that listens on its own ports.
    """

    kinds = Attribute("Its numbers in address hints, a tuple: 0 streams, 1 iroh, 2 quic.")
    port = Attribute("The port of its first listening socket; C{None} before L{listen}.")
    counters = Attribute(
        "Event counters, by reason.  C{'accepted'} counts authenticated inbound connections."
    )
    lists_loopback = Attribute(
        "Whether C{addresses} lists loopback addresses if there are no others; true at first."
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

    def network_changed() -> None:
        """
        Check all connections: the network of this machine has changed.  Those whose
        peers do not answer within seconds are broken.
        """

    def peer_moved(peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Check the connections to a peer, which has other addresses according to a message.  If it is being
        dialled, also try these addresses.
        """

    def stop() -> Deferred[None]:
        """
        Leave all topics, stop listening and close all connections.

        @return: fires when everything is closed, within 1.5 s; cancelling it
            aborts the remaining connections.
        """


@frozen(slots=True)
class LinkPath:
    """
    The path of a connection to a peer.

    @ivar transport: C{"streams"}, C{"quic"} or C{"iroh"}.
    @ivar address: the address at which we see the peer, as C{host:port}; C{None}: none is
        known, as over a relay.
    @ivar round_trip: seconds; C{None}: not known.
    """

    transport: str
    address: str | None = None
    round_trip: float | None = None


class ILinkPaths(Interface):
    """
    An addition to L{IPeerTransport} for transports that know how they reach a peer.
    """

    def path(peer_id: PeerId) -> LinkPath | None:
        """
        Return how a peer is reached.

        @param peer_id: 32 bytes.
        @return: C{None} if it is not connected.
        """
