"""
What goes into a topic's machine besides messages, and what comes out.  Pure.

The shell performs the outputs in their order: an event
before a message means that the application hears of it first.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field

from dtt.gossip.proto.messages import Message
from dtt.wire.values import GossipMessage, frozen


@frozen(slots=True)
class JoinPeers:
    """
    Command: ask each of C{peers} to take us in.  Ourselves, neighbours and ids
    that are no valid points are left out.  Nothing is repeated: a peer that
    has not opened the topic yet drops a Join without an answer
    (docs/protocol/gossip.md Q12), so give the command again until joined.
    """

    peers: tuple[bytes, ...]


@frozen(slots=True)
class Broadcast:
    """
    Command: send C{content} to the swarm, or to the neighbours only.
    """

    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    neighbors_only: bool = False


@frozen(slots=True)
class UpdateData:
    """
    Command: our PeerData from now on; goes out with later messages.
    """

    data: bytes | None


@frozen(slots=True)
class Quit:
    """
    Command: say goodbye.  The machine does nothing any more afterwards.
    """


@frozen(slots=True)
class DialStarted:
    """
    A message that the machine sent needs a new connection to C{peer}: the
    time for an answer does not run before L{PeerConnected}.
    """

    peer: bytes


@frozen(slots=True)
class PeerConnected:
    """
    A connection to C{peer} is authenticated, whoever opened it.
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
    Send C{message} to C{peer}; dial it if it is not connected.
    """

    peer: bytes
    message: Message


@frozen(slots=True)
class DisconnectPeer:
    """
    The topic needs no connection to C{peer} any more; what was sent before
    still goes out.
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
    C{peer} can be reached as C{data} says.
    """

    peer: bytes
    data: bytes


Output: TypeAlias = SendMessage | DisconnectPeer | NeighborUp | NeighborDown | GossipMessage | PeerDataLearned
