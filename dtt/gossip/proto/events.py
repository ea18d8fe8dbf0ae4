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
    @ivar neighbors_only: send it to neighbours only.
    """

    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    neighbors_only: bool = False


@frozen(slots=True)
class UpdateData:
    """
    Command: set our PeerData, which is sent with later messages.

    @ivar data: the PeerData, or C{None}.
    """

    data: bytes | None


@frozen(slots=True)
class Quit:
    """
    Command: say goodbye to all neighbours and stop.
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


Input: TypeAlias = JoinPeers | Broadcast | UpdateData | Quit | DialStarted | PeerConnected | PeerDisconnected


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


Output: TypeAlias = SendMessage | DisconnectPeer | NeighborUp | NeighborDown | GossipMessage | PeerDataLearned
