"""
Application streams of a tracker: creates endpoints, and connects to members.

Rules (docs/protocol/streams.md section 7): streams use the authenticated connections of
the transports streams and quic.  A member that is not connected is dialled at the
addresses that the address book knows or finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from dtt.arguments import check_id, check_seconds
from dtt.errors import DialFailed, NoRoom, UsageError
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IAddressBook, PeerId
from dtt.transport.appstreams.endpoints import StreamClientEndpoint, StreamServerEndpoint
from dtt.transport.appstreams.services import check_name
from dtt.transport.appstreams.stream import AppStream, StreamAddress
from dtt.transport.streams.transport import StreamsTransport

#: Seconds to reach a member and to open a stream, by default.  Guess: a lookup and a dial end within
#: 15 s, and a topic is opened within 5 s.
CONNECT_TIMEOUT = 30.0


class AppStreams:
    """
    Creates the endpoints of a tracker.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        transport: StreamsTransport | None,
        book: IAddressBook,
        topics: Callable[[], Sequence[bytes]],
    ) -> None:
        """
        @param reactor: schedules timeouts.
        @param transport: the transport; C{None} if neither streams nor quic is used.
        @param book: finds the addresses of members.
        @param topics: returns the ids of our topics.
        """
        self._reactor = reactor
        self._transport = transport
        self._book = book
        self._topics = topics

    def client_endpoint(self, peer_id: PeerId, name: bytes, timeout: float) -> StreamClientEndpoint:
        """
        Return an endpoint; see L{Tracker.client_endpoint
        <dtt.tracker.tracker.Tracker.client_endpoint>}.
        """
        own_id = self._used().peer_id
        check_id("peer_id", peer_id)
        if not is_valid_peer_id(peer_id):
            raise UsageError(f"peer_id must be the id of a member: {peer_id.hex()} is not a public key")
        if peer_id == own_id:
            raise UsageError("peer_id is our own id; give that of another member")
        check_seconds("timeout", timeout)
        address = StreamAddress(peer_id, check_name(name))
        return StreamClientEndpoint(self._reactor, address, self._open, timeout)

    def server_endpoint(self, name: bytes) -> StreamServerEndpoint:
        """
        Return an endpoint; see L{Tracker.server_endpoint
        <dtt.tracker.tracker.Tracker.server_endpoint>}.
        """
        return StreamServerEndpoint(self._used().multiplexer.services, name)

    def _used(self) -> StreamsTransport:
        if self._transport is None:
            raise UsageError("application streams need the transport streams or quic; neither is configured")
        return self._transport

    async def _open(self, peer: StreamAddress) -> AppStream:
        transport = self._used()
        if not transport.is_connected(peer.peer_id):
            await self._dial(transport, peer.peer_id)
        return await transport.multiplexer.open_stream(peer.peer_id, peer.name)

    async def _dial(self, transport: StreamsTransport, peer_id: PeerId) -> None:
        topics = self._topics()
        if not topics:
            raise DialFailed("no topic is joined; only members of a common topic can open streams")
        addresses = [a for a in await self._book.resolve(peer_id) if a.transport in transport.kinds]
        if transport.is_connected(peer_id):
            return
        if not addresses:
            raise DialFailed("no address of the member is known")
        try:
            await transport.dial(peer_id, addresses, topics[0] if len(topics) == 1 else None)
        except NoRoom:
            raise
        except (DialFailed, CancelledError):
            self._book.failed(peer_id, addresses)
            raise
        self._book.succeeded(peer_id)
