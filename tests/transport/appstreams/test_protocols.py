"""
Existing protocols of Twisted over application streams.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.endpoints import connectProtocol
from twisted.spread import pb

from dtt.transport.appstreams.endpoints import StreamClientEndpoint
from dtt.transport.appstreams.stream import StreamAddress
from dtt.wire.addresses import QUIC
from tests.transport.appstreams.common import PairTestCase, Recorder, Recorders


class Counting(pb.Root):
    """
    An object that members call.
    """

    def remote_size(self, data: bytes) -> int:
        """How much has come."""
        return len(data)

    def remote_echo(self, data: bytes) -> bytes:
        """The same again."""
        return data

    def remote_fail(self) -> None:
        """Fail as an application does."""
        raise pb.Error("no")


class PerspectiveBrokerTests(PairTestCase):
    """
    PB (L{twisted.spread.pb}).
    """

    def test_calls(self) -> None:
        """Calls with small and large arguments are answered; an error is one; both ends close."""
        self.pair.serve(pb.PBServerFactory(Counting()))
        factory = pb.PBClientFactory()
        self.pair.connect(factory)
        getting = factory.getRootObject()
        self.pair.advance()
        root = self.successResultOf(getting)
        calls = [root.callRemote("size", bytes(size)) for size in (0, 10, 100_000, 600_000)]
        echo = root.callRemote("echo", bytes(range(256)) * 1000)
        failing = root.callRemote("fail")
        self.pair.advance(10)
        self.assertEqual([self.successResultOf(call) for call in calls], [0, 10, 100_000, 600_000])
        self.assertEqual(self.successResultOf(echo), bytes(range(256)) * 1000)
        self.failureResultOf(failing, pb.Error)
        factory.disconnect()
        self.pair.advance()
        self.assertEqual(self.open_streams(), [0, 0])


class PerspectiveBrokerOverQuicTests(PerspectiveBrokerTests):
    """
    The same over QUIC.
    """

    kind = QUIC


class ServiceTests(PairTestCase):
    """
    Twisted's helpers for endpoints.
    """

    def endpoint(self) -> StreamClientEndpoint:
        """The endpoint of the server."""
        mux = self.pair.mux(0)

        async def open_stream(peer: StreamAddress) -> Any:
            return await mux.open_stream(peer.peer_id, peer.name)

        address = StreamAddress(self.pair.sides[1].peer_id, b"app/1")
        return StreamClientEndpoint(self.pair.clock, address, open_stream, 30.0)

    def test_connect_protocol(self) -> None:
        """C{connectProtocol} works as with any endpoint."""
        server = Recorders()
        self.pair.serve(server)
        connecting = connectProtocol(self.endpoint(), Recorder())
        self.pair.advance()
        self.successResultOf(connecting).transport.write(b"hello")
        self.pair.advance()
        self.assertEqual(server.made[0].received, b"hello")

    def test_client_service(self) -> None:
        """A C{ClientService} opens the stream again after its end, and until it is served."""
        clients, server = Recorders(), Recorders()
        service = ClientService(self.endpoint(), clients, retryPolicy=lambda n: 1.0, clock=self.pair.clock)
        service.startService()
        self.pair.advance(2.5)
        self.assertEqual(clients.made, [])
        self.pair.serve(server)
        self.pair.advance(2)
        self.assertEqual(len(clients.made), 1)
        server.made[0].stream.loseConnection()
        self.pair.advance(2)
        self.assertEqual(len(server.made), 2)
        service.stopService()
        self.pair.advance()
        self.assertEqual(self.open_streams(), [0, 0])
