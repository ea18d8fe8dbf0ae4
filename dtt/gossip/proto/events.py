"""
Inputs of a topic's state machine other than messages, and its outputs.  Pure.

The shell performs the outputs in order: an event before a message means that the
application is notified before the message is sent.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field

from dtt.gossip.proto.messages import Message
from dtt.wire.values import GossipMessage, frozen


@frozen(slots=True)
class JoinPeers:
    """
    Command: send a Join to each of C{peers}.  Our own id, neighbours and ids that are
    not valid curve points are skipped.  Joins are not repeated: a peer that has not
    opened the topic yet drops a Join without an answer (docs/protocol/gossip.md Q12),
    so issue the command again until joined.

    @ivar peers: peer ids (32 bytes each).
    """

    peers: tuple[bytes, ...]


@frozen(slots=True)
class Broadcast:
    """
    Command: send a content to the swarm.

    @ivar content: the bytes.
    @ivar neighbors_only: send it to neighbours only, all of them.
    @ivar peer: with C{neighbors_only}, the only neighbour to send it to (32 bytes);
        C{None}: all.
    """

    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    neighbors_only: bool = False
    peer: bytes | None = None


@frozen(slots=True)
class UpdateData:
    """
    Command: set our PeerData, which is sent with later messages.

    @ivar data: the PeerData, or C{None}.
    """

    data: bytes | None


@frozen(slots=True)
class ComparePeer:
    """
    Command: ask C{peer}, which need not be a neighbour, for members of its partition of the swarm.
    L{PeerCompared} is the answer, if there is one.

    @ivar peer: a peer id (32 bytes).
    """

    peer: bytes


@frozen(slots=True)
class LimitNeighbors:
    """
    Command: have at most C{capacity} neighbours from now on.  The newest ones beyond it are disconnected, and
    stay in the passive view.

    @ivar capacity: at least 1; the configured capacity is the maximum in any case.
    """

    capacity: int


@frozen(slots=True)
class Quit:
    """
    Command: disconnect from all neighbours and stop.
    """


@frozen(slots=True)
class DialStarted:
    """
    A message from the machine needs a new connection to C{peer}: the timeout for an
    answer starts only at L{PeerConnected}.
    """

    peer: bytes


@frozen(slots=True)
class PeerConnected:
    """
    A connection to C{peer} is authenticated, opened by either side.
    """

    peer: bytes


@frozen(slots=True)
class PeerDisconnected:
    """
    The last connection to C{peer} ended unexpectedly, or a dial failed.
    """

    peer: bytes


@frozen(slots=True)
class PeerRejected:
    """
    C{peer} must be dropped: it violates the protocol, or the application refuses it.

    @ivar remember: whether it must not be a neighbour for some time; false if
        C{is_valid_peer_id} says so itself.
    """

    peer: bytes
    remember: bool = True


Input: TypeAlias = (
    JoinPeers
    | Broadcast
    | UpdateData
    | ComparePeer
    | LimitNeighbors
    | Quit
    | DialStarted
    | PeerConnected
    | PeerDisconnected
    | PeerRejected
)


@frozen(slots=True)
class SendMessage:
    """
    Send C{message} to C{peer}; dial the peer if it is not connected.
    """

    peer: bytes
    message: Message


@frozen(slots=True)
class DisconnectPeer:
    """
    The topic no longer needs the connection to C{peer}; messages sent before are still
    delivered.
    """

    peer: bytes


@frozen(slots=True)
class NeighborUp:
    """
    C{peer} entered the active view.
    """

    peer: bytes


@frozen(slots=True)
class NeighborDown:
    """
    C{peer} left the active view.
    """

    peer: bytes


@frozen(slots=True)
class PeerDataLearned:
    """
    C{peer} can be reached at the addresses in its PeerData C{data}.
    """

    peer: bytes
    data: bytes


@frozen(slots=True)
class PeerCompared:
    """
    C{peer} has named members of its partition of the swarm, as requested with L{ComparePeer}.

    @ivar peers: valid peer ids (32 bytes each).
    """

    peer: bytes
    peers: tuple[bytes, ...]


Output: TypeAlias = (
    SendMessage | DisconnectPeer | NeighborUp | NeighborDown | GossipMessage | PeerDataLearned | PeerCompared
)
