"""
Tests for L{dtt.net.http}.  TLS and hostile servers are in L{tests.addresses.test_relays}, too.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from dtt.errors import RemoteError
from dtt.net.http import NoCookies, WholeBody, drop_body, limited_agent, read_body
from dtt.testing.net.tcp import MemoryTCPNetwork

SERVER, SECONDS, MAX_BYTES = "192.0.2.9", 10.0, 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Server(Protocol):
    """
    A server whose answers are set by the test.

    @ivar received: what has arrived.
    @ivar lost: whether the connection has ended.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note it."""
        self.lost = True

    def say(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)


class AgentTests(SynchronousTestCase):
    """
    Tests for L{limited_agent}.
    """

    def setUp(self) -> None:
        self.net = MemoryTCPNetwork(Clock())
        self.servers: list[Server] = []
        for host in (SERVER, "2001:db8::9"):
            self.net.reactor(host).listenTCP(80, Factory.forProtocol(self.serve))

    def serve(self) -> Server:
        """
        Accept a connection.
        """
        self.servers.append(Server())
        return self.servers[-1]

    def ask(self, url: str = f"http://{SERVER}/", own: str = "10.0.0.1") -> Deferred[Any]:
        """
        Send a request, and wait until it has arrived.
        """
        agent = limited_agent(self.net.reactor(own), SECONDS, MAX_BYTES)
        asking: Deferred[Any] = agent.request(b"GET", url.encode(), Headers({}), None)
        self.net.advance(0.1)
        return asking

    def test_answer(self) -> None:
        """
        A request is answered on a connection of its own, which is closed then.
        """
        for host, own in ((SERVER, "10.0.0.1"), ("[2001:db8::9]", "2001:db8::1")):
            asking = self.ask(f"http://{host}/a?b", own)
            server = self.servers[-1]
            self.assertTrue(server.received.startswith(b"GET /a?b HTTP/1.1\r\n"))
            server.say(OK)
            self.net.advance(0.1)
            body = read_body(self.successResultOf(asking), 10)
            self.net.advance(0.1)
            self.assertEqual(self.successResultOf(body), b"hi")
            self.assertTrue(server.lost)
        self.assertEqual(len(self.servers), 2)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])

    def test_bytes(self) -> None:
        """
        All bytes of a connection count; one too many ends it.
        """
        for extra in (0, 1):
            asking = self.ask()
            head = b"HTTP/1.1 200 OK\r\n\r\n"
            self.servers[-1].say(head)
            self.net.advance(0.1)
            body = read_body(self.successResultOf(asking), MAX_BYTES)
            self.servers[-1].say(bytes(MAX_BYTES - len(head) + extra))
            self.net.advance(0.1)
            self.assertEqual(self.servers[-1].lost, bool(extra))
            self.net.advance(SECONDS)
            self.failureResultOf(body, RemoteError)
            self.assertTrue(self.servers[-1].lost)

    def test_lifetime(self) -> None:
        """
        A connection ends after its time, however busy it is.
        """
        asking = self.ask()
        for _ in range(int(SECONDS) - 1):
            self.servers[0].say(b"H")
            self.net.advance(1.0)
            self.assertFalse(self.servers[0].lost)
        self.net.advance(1.0)
        self.assertTrue(self.servers[0].lost)
        self.failureResultOf(asking)

    def test_connecting(self) -> None:
        """
        A host that does not answer is given up after the same time.
        """
        self.net.silent.add("192.0.2.10")
        asking = self.ask("http://192.0.2.10/")
        self.net.advance(SECONDS - 0.2)
        self.assertNoResult(asking)
        self.net.advance(0.2)
        self.failureResultOf(asking)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])

    def test_scheme(self) -> None:
        """
        Other schemes are refused.
        """
        self.failureResultOf(self.ask("ftp://192.0.2.9/"), SchemeNotSupported)
        self.assertEqual(self.servers, [])

    def test_cancelled(self) -> None:
        """
        Cancelling ends the connection.
        """
        asking = self.ask()
        asking.cancel()
        self.failureResultOf(asking)
        self.net.advance(0.1)
        self.assertTrue(self.servers[0].lost)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])


class Response:
    """
    A response whose body the test delivers.
    """

    def __init__(self) -> None:
        self.protocol: Any = None
        self.transport = StringTransport()

    def deliverBody(self, protocol: Any) -> None:
        """Keep who wants it."""
        self.protocol = protocol
        protocol.makeConnection(self.transport)


class BodyTests(SynchronousTestCase):
    """
    Tests for L{read_body} and L{drop_body}.
    """

    def setUp(self) -> None:
        self.response: Any = Response()

    def end(self, reason: Exception) -> None:
        """
        End the body.
        """
        self.response.protocol.connectionLost(Failure(reason))

    def test_whole(self) -> None:
        """
        A body is collected from its pieces; it may be empty, and as long as the limit.
        """
        for pieces in ((), (b"a", b"bc", b"d")):
            body = read_body(self.response, 4)
            for piece in pieces:
                self.response.protocol.dataReceived(piece)
            self.assertNoResult(body)
            self.end(ResponseDone())
            self.assertEqual(self.successResultOf(body), b"".join(pieces))

    def test_too_large(self) -> None:
        """
        One byte more is an error, which closes the connection; what follows is ignored.
        """
        body = read_body(self.response, 4)
        self.response.protocol.dataReceived(b"abcd")
        self.assertFalse(self.response.transport.disconnecting)
        self.response.protocol.dataReceived(b"e")
        self.assertEqual(str(self.failureResultOf(body, RemoteError).value), "answer too large")
        self.assertTrue(self.response.transport.disconnecting)
        self.response.protocol.dataReceived(b"f")
        self.end(ResponseDone())

    def test_cut_short(self) -> None:
        """
        A body whose end the server has not said is an error.
        """
        for reason in (ConnectionDone(), PotentialDataLoss(), ResponseFailed([])):
            body = read_body(self.response, 4)
            self.response.protocol.dataReceived(b"a")
            self.end(reason)
            self.assertEqual(str(self.failureResultOf(body, RemoteError).value), "answer cut short")

    def test_cancelled(self) -> None:
        """
        Cancelling closes the connection.
        """
        body = read_body(self.response, 4)
        body.cancel()
        self.failureResultOf(body, CancelledError)
        self.assertTrue(self.response.transport.disconnecting)
        self.response.protocol.dataReceived(b"abcdef")
        self.end(ConnectionDone())

    def test_dropped(self) -> None:
        """
        A body that nobody wants is not read, and is no error, however it ends.
        """
        for data, reason in ((b"", ResponseDone()), (b"a", ConnectionDone()), (b"", ConnectionDone())):
            self.setUp()
            drop_body(self.response)
            self.response.protocol.dataReceived(data)
            self.end(reason)
            self.assertTrue(self.response.transport.disconnecting)
            self.assertEqual(self.flushLoggedErrors(), [])


class RequestTests(SynchronousTestCase):
    """
    Tests for L{WholeBody} and L{NoCookies}.
    """

    def test_body(self) -> None:
        """
        The body is written at once.
        """
        body = WholeBody(b"hello")
        self.assertTrue(verifyObject(IBodyProducer, body))
        consumer: Any = StringTransport()
        self.successResultOf(body.startProducing(consumer))
        body.pauseProducing()
        body.resumeProducing()
        body.stopProducing()
        self.assertEqual((consumer.value(), body.length), (b"hello", 5))

    def test_cookies(self) -> None:
        """
        Cookies are not even looked at.
        """
        jar = NoCookies()
        jar.extract_cookies(None, None)
        self.assertEqual(list(jar), [])
