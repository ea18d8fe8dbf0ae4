"""
Tests for L{dtt.transport.appstreams.endpoints}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import DialFailed, ListenError, StreamRefused, UsageError
from dtt.transport.appstreams.endpoints import StreamClientEndpoint, StreamServerEndpoint
from dtt.transport.appstreams.services import Services
from dtt.transport.appstreams.stream import AppStream, StreamAddress
from tests.transport.appstreams.common import Recorders

PEER = StreamAddress(b"p" * 32, b"app/1")


class Stream:
    """
    Stands for an open stream.
    """

    def __init__(self) -> None:
        self.protocol: Any = None
        self.aborted = 0
        self.on_lost: Any = None

    def connect(self, protocol: Any) -> None:
        """Keep the protocol."""
        self.protocol = protocol

    def abortConnection(self) -> None:
        """Count it."""
        self.aborted += 1


class ClientTests(SynchronousTestCase):
    """
    Tests for L{StreamClientEndpoint}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[StreamAddress] = []
        self.cancelled = 0
        self.opening: Deferred[Any] = Deferred(self._cancel)
        self.endpoint = StreamClientEndpoint(self.clock, PEER, self.open_stream, 30.0)
        self.stream = Stream()

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    async def open_stream(self, peer: StreamAddress) -> AppStream:
        """
        Open a stream when the test says so.
        """
        self.asked.append(peer)
        stream: AppStream = await self.opening
        return stream

    def test_connect(self) -> None:
        """
        The protocol is built when the stream is open, and gets it; the factory runs until the stream ends.
        """
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.endpoint))
        self.assertEqual(repr(self.endpoint), "<StreamClientEndpoint b'app/1' at 7070707070>")
        factory = Recorders()
        connecting = self.endpoint.connect(factory)
        self.assertEqual((self.asked, factory.started, factory.made), ([PEER], 1, []))
        self.opening.callback(self.stream)
        protocol: Any = self.successResultOf(connecting)
        self.assertEqual((factory.made, factory.peers), ([protocol], [PEER]))
        self.assertIs(self.stream.protocol, protocol)
        self.assertEqual((factory.started, self.stream.aborted), (1, 0))
        self.stream.on_lost()
        self.assertEqual(factory.started, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """
        The reason why there is no stream is passed on, and the factory ends.
        """
        factory = Recorders()
        connecting = self.endpoint.connect(factory)
        self.opening.errback(StreamRefused("no"))
        self.failureResultOf(connecting, StreamRefused)
        self.assertEqual((factory.started, self.clock.getDelayedCalls()), (0, []))

    def test_timeout(self) -> None:
        """
        Opening that takes too long is cancelled, and fails like any other dial.
        """
        factory = Recorders()
        connecting = self.endpoint.connect(factory)
        self.clock.advance(29.9)
        self.assertNoResult(connecting)
        self.clock.advance(0.2)
        error = self.failureResultOf(connecting, DialFailed)
        self.assertEqual(error.getErrorMessage(), "no answer within 30 s")
        self.assertEqual((self.cancelled, factory.started), (1, 0))

    def test_cancelled(self) -> None:
        """
        Cancelling ends the opening and the factory.
        """
        factory = Recorders()
        connecting = self.endpoint.connect(factory)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual((self.cancelled, factory.started, self.clock.getDelayedCalls()), (1, 0, []))

    def test_no_protocol(self) -> None:
        """
        A factory that builds no protocol, or raises, has its stream aborted and ends.
        """
        for make, error in ((lambda: None, NoProtocol), (lambda: 1 // 0, ZeroDivisionError)):
            self.setUp()
            factory = Recorders(make)
            connecting = self.endpoint.connect(factory)
            self.opening.callback(self.stream)
            self.failureResultOf(connecting, error)
            self.assertEqual((self.stream.aborted, self.stream.protocol, factory.started), (1, None, 0))


class ServerTests(SynchronousTestCase):
    """
    Tests for L{StreamServerEndpoint}.
    """

    def setUp(self) -> None:
        self.services = Services(Clock(), b"o" * 32, Counter())

    def test_listen(self) -> None:
        """
        It starts a port, which ends by itself.
        """
        endpoint = StreamServerEndpoint(self.services, b"app/1")
        self.assertTrue(verifyObject(IStreamServerEndpoint, endpoint))
        self.assertEqual(repr(endpoint), "<StreamServerEndpoint b'app/1'>")
        factory = Recorders()
        port = self.successResultOf(endpoint.listen(factory))
        self.assertTrue(verifyObject(IListeningPort, port))
        self.assertTrue(self.services.is_served(b"app/1"))
        failing = endpoint.listen(Recorders())
        self.failureResultOf(failing, ListenError)
        port.stopListening()
        self.assertFalse(self.services.is_served(b"app/1"))
        self.assertEqual(factory.started, 0)

    def test_bad_name(self) -> None:
        """
        A name of a wrong size is refused when the endpoint is created.
        """
        self.assertRaises(UsageError, StreamServerEndpoint, self.services, b"")
        self.assertRaises(UsageError, StreamServerEndpoint, self.services, b"x" * 256)
