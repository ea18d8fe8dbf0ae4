"""
Helpers for the tests of TCP in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.net.tcp import MemoryTCPNetwork


class Recorder(Protocol):
    """
    Records events.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reason: type[BaseException] | None = None
        self.paused: bool | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Record the data.
        """
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Record the reason.
        """
        assert self.reason is None
        self.reason = reason.type

    def pauseProducing(self) -> None:
        """
        Record the call.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        Record the call.
        """
        self.paused = False

    def stopProducing(self) -> None:
        """
        Record the call.
        """


class TCPTestCase(SynchronousTestCase):
    """
    A server and its clients on a network in memory.
    """

    def setUp(self) -> None:
        self.net = MemoryTCPNetwork(Clock(), latency=0.1)
        self.server_reactor = self.net.reactor("10.0.0.1")
        self.client_reactor = self.net.reactor("10.0.0.2")
        self.servers: list[Recorder] = []
        self.port = self.server_reactor.listenTCP(80, Factory.forProtocol(self.build))

    def build(self) -> Recorder:
        """
        Create the server's protocol.
        """
        self.servers.append(Recorder())
        return self.servers[-1]

    def connect(self, port: int = 80) -> Deferred[Any]:
        """
        Connect a client's protocol.
        """
        endpoint = TCP4ClientEndpoint(self.client_reactor, "10.0.0.1", port, timeout=5)
        return endpoint.connect(Factory.forProtocol(Recorder))

    def connected(self) -> tuple[Recorder, Recorder]:
        """
        A connected client and server.
        """
        result = self.connect()
        self.net.advance(0.31)
        return self.successResultOf(result), self.servers[-1]
