"""
Tests for L{dtt.addresses.relays} and L{dtt.net.http} with misbehaving relays. Those for
relays that behave well are in L{tests.addresses.test_stores}.
"""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.server import Site

from dtt.addresses.pkarr import MAX_PAYLOAD, Packet, relay_payload, write_dns
from dtt.addresses.relays import MAX_BYTES, MAX_CACHED, RETRY_AFTER, TIMEOUT, Relay
from dtt.errors import PublishFailed
from dtt.identity import PeerKey, z32_encode
from dtt.net import http as limited
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.pkarr_relay import PkarrRelay
from dtt.wire.addresses import IROH, PeerAddress
from tests.certificates import name_of, pem_of, sign

ALICE, BOB = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)
URL = "http://192.0.2.9:8080/relay"


def packet(seq: int = 5, key: PeerKey = ALICE) -> Packet:
    """
    A packet with one address.
    """
    return Packet(key.peer_id, seq, write_dns(key.peer_id, [PeerAddress(IROH, "192.0.2.1", 1)]))


def answer(status: str = "200 OK", body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """
    An HTTP response.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


class Server(Protocol):
    """
    A server whose answers are set by the test.
    """

    def __init__(self, case: RelayTests) -> None:
        self.case = case
        self.received = b""

    def connectionMade(self) -> None:
        """
        Count the connection.
        """
        self.case.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Answer once.
        """
        first = not self.received
        self.received += data
        if first:
            self.case.respond(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Remove the connection.
        """
        self.case.open -= 1


class RelayTests(SynchronousTestCase):
    """
    L{Relay} with a misbehaving server.
    """

    def setUp(self) -> None:
        self.net = MemoryTCPNetwork(Clock())
        self.counters: Counter[str] = Counter()
        self.connections: list[Server] = []
        self.open = 0
        self.respond: Callable[[Any], None] = lambda transport: None
        self.net.reactor("192.0.2.9").listenTCP(8080, Factory.forProtocol(lambda: Server(self)))
        self.relay = Relay(self.net.reactor("10.0.0.1"), URL, self.counters)

    def says(self, *chunks: bytes) -> None:
        """
        Make the server answer with these bytes from now on, and keep the connection open.
        """
        self.respond = lambda transport: transport.writeSequence(chunks)

    def find(self, seconds: float = TIMEOUT + 1, key: PeerKey = ALICE) -> list[Packet]:
        """
        The packets found within C{seconds}; no connection is left afterwards.
        """
        found: list[Packet] = []
        finding = self.relay.find(key.peer_id, found.append)
        self.net.advance(seconds)
        self.successResultOf(finding)
        self.assertEqual(self.net.transports("10.0.0.1"), [])
        return found

    def assert_fault(self, reason: str, seconds: float = TIMEOUT + 1) -> None:
        """
        Assert that nothing is found, and that a fault is counted.
        """
        self.counters.clear()
        self.assertEqual(self.find(seconds), [])
        self.assertEqual(self.counters, {f"{URL}: {reason}": 1})

    def publish(self, seconds: float = TIMEOUT + 1) -> PublishFailed | None:
        """
        Publish, and return the reason of the failure.
        """
        publishing: Deferred[None] = self.relay.publish(ALICE, packet())
        self.net.advance(seconds)
        self.assertEqual(self.net.transports("10.0.0.1"), [])
        if isinstance(publishing.result, Failure):
            error: PublishFailed = self.failureResultOf(publishing, PublishFailed).value
            return error
        self.successResultOf(publishing)
        return None

    def test_request(self) -> None:
        """
        The request has no cookies and no body; each connection has one request.
        """
        self.says(answer(body=relay_payload(ALICE, packet())))
        self.assertEqual(self.find(), [packet()])
        (server,) = self.connections
        lines = server.received.split(b"\r\n")
        path = f"/relay/{z32_encode(ALICE.peer_id)}"
        self.assertEqual(lines[0], f"GET {path} HTTP/1.1".encode())
        self.assertIn(b"Connection: close", lines)
        self.assertNotIn(b"Cookie", server.received)

    def test_refused(self) -> None:
        """
        A refused connection and an absent host are faults.
        """
        self.relay = Relay(self.net.reactor("10.0.0.1"), "http://192.0.2.10/", self.counters)
        self.assertEqual(self.find(), [])
        self.net.silent.add("192.0.2.10")
        self.assertEqual(self.find(), [])
        self.assertEqual(
            self.counters,
            {"http://192.0.2.10: connection_failed": 1, "http://192.0.2.10: timed_out": 1},
        )

    def test_slow(self) -> None:
        """
        An answer that is not complete within 10 s is given up.
        """
        self.assert_fault("timed_out")
        self.says(b"HTTP/1.1 200 OK\r\nContent-")
        self.assert_fault("timed_out")
        self.says(answer(body=b"x", length=100))
        self.assert_fault("timed_out")
        self.says(b"HTTP/1.1 204 No Co")
        error = self.publish()
        assert error is not None
        self.assertEqual((str(error), error.retry_after), ("timed out", None))

    def test_drip(self) -> None:
        """
        A byte every second does not extend the 10 s.
        """

        def drip(transport: Any) -> None:
            transport.write(b"x")
            self.net.clock.callLater(1, drip, transport)

        def begin(transport: Any) -> None:
            transport.write(answer(length=1000))
            drip(transport)

        self.respond = begin
        self.assert_fault("timed_out")

    def test_endless(self) -> None:
        """
        Endless bodies, headers and lines are cut off immediately.
        """
        for begin in (
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nX: ",
            b"",
        ):
            filler = b"X: y\r\n" * 10000 if begin.endswith(b"OK\r\n") else b"x" * 60000
            self.says(begin, *[filler] * 50)
            self.assertEqual(self.find(1.0), [], begin)
        self.assertEqual(self.counters, {f"{URL}: answer_too_large": 6})

    def test_too_large(self) -> None:
        """
        A body one byte longer than a packet is a fault.
        """
        self.says(answer(body=bytes(MAX_PAYLOAD + 1)))
        self.assert_fault("answer_too_large", 1.0)
        self.says(answer(body=bytes(MAX_PAYLOAD)))
        self.assert_fault("pkarr_bad_signature", 1.0)

    def test_bomb(self) -> None:
        """
        A compressed body that is too large when unpacked is a fault.
        """
        self.says(answer("200 OK", gzip.compress(bytes(5_000_000)), "Content-Encoding: gzip"))
        self.assertEqual(self.find(1.0), [])
        self.assertEqual(sum(self.counters.values()), 1)

    def test_wrong(self) -> None:
        """
        Packets of other peers, garbage, and empty answers are faults.
        """
        for body, reason in (
            (relay_payload(BOB, packet(key=BOB)), "pkarr_bad_signature"),
            (b"<html>", "pkarr_too_short"),
            (b"", "pkarr_too_short"),
            (relay_payload(ALICE, Packet(ALICE.peer_id, 5, b"no dns")), "dns_truncated"),
        ):
            self.says(answer(body=body))
            self.assert_fault(reason, 1.0)

    def test_no_http(self) -> None:
        """
        Answers that are not HTTP, contradict themselves or are incomplete are faults.
        """
        for said in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            answer("200 OK", b"no gzip at all", "Content-Encoding: gzip"),
        ):
            self.counters.clear()
            self.says(said)
            self.assertEqual(self.find(), [], said)
            self.assertEqual(sum(self.counters.values()), 1, said)
        self.flushLoggedErrors()

    def test_cut_short(self) -> None:
        """
        A connection that closes early, or immediately, is a fault.
        """

        def cut(transport: Any) -> None:
            transport.write(answer(length=100))
            transport.loseConnection()

        self.respond = cut
        self.assert_fault("answer_cut_short", 1.0)
        self.respond = lambda transport: transport.abortConnection()
        self.assert_fault("request_failed_response_never_received", 1.0)

    def test_redirect(self) -> None:
        """
        Redirects are not followed, wherever they point.
        """
        for status in ("301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
            self.says(answer(status, b"", "Location: http://127.0.0.1:8080/"))
            self.assert_fault(f"status_{status[:3]}", 1.0)
        self.assertEqual(len(self.connections), 4)
        error = self.publish(1.0)
        assert error is not None
        self.assertEqual((str(error), error.newer_seq, error.retry_after), ("status 308", None, None))

    def test_statuses(self) -> None:
        """
        404 is not a fault; any other error status is, and so is 304 to an unconditional
        request.
        """
        self.says(answer("404 Not Found", b"not here"))
        self.assertEqual((self.find(1.0), self.counters), ([], {}))
        for status in ("304 Not Modified", "500 Oops", "204 No Content", "400 Bad Request"):
            self.says(answer(status))
            self.assert_fault(f"status_{status[:3]}", 1.0)

    def test_unread_bodies(self) -> None:
        """
        The connection is closed without waiting for a body that is not needed.
        """
        for status in ("404 Not Found", "500 Oops"):
            self.says(answer(status, b"x", length=100))
            self.assertEqual(self.find(0.5), [])
        for status in ("200 OK", "409 Conflict", "500 Oops"):
            self.says(answer(status, b"x", length=100))
            self.publish(0.5)

    def test_older(self) -> None:
        """
        A relay that returns an older packet than before: it is ignored.
        """
        date = "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT"
        self.says(answer("200 OK", relay_payload(ALICE, packet(6)), date))
        self.assertEqual(self.find(1.0), [packet(6)])
        self.says(answer("200 OK", relay_payload(ALICE, packet(5)), date))
        self.assert_fault("older_packet", 1.0)
        self.says(answer("304 Not Modified"))
        self.assertEqual(self.find(1.0), [packet(6)])
        self.assertIn(b"If-Modified-Since: Tue, 15 Nov 1994 12:45:26 GMT", self.connections[-1].received)

    def test_cache_is_bounded(self) -> None:
        """
        The number of packets cached is limited, and an overlong date is not stored.
        """
        for number in range(MAX_CACHED + 5):
            key = PeerKey.from_seed(number.to_bytes(32, "big"))
            self.says(answer("200 OK", relay_payload(key, packet(key=key)), "Last-Modified: now"))
            self.find(1.0, key)
        self.assertEqual(len(self.relay._cache), MAX_CACHED)
        self.says(answer("200 OK", relay_payload(ALICE, packet()), "Last-Modified: " + "x" * 100))
        self.assertEqual(self.find(1.0), [packet()])
        self.assertNotIn(ALICE.peer_id, self.relay._cache)

    def test_put(self) -> None:
        """
        A packet is sent as the body of a PUT; any 2xx is a success.
        """
        self.says(answer("204 No Content"))
        self.assertIsNone(self.publish(1.0))
        head, _, body = self.connections[0].received.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"PUT /relay/"))
        self.assertEqual(body, relay_payload(ALICE, packet()))
        self.says(answer("200 OK", b"thanks"))
        self.assertIsNone(self.publish(1.0))

    def test_retry_after(self) -> None:
        """
        A busy relay's Retry-After is used if it is valid.
        """
        for said, expected in (
            ("120", 120.0),
            ("0", 1.0),
            ("99999", 3600.0),
            ("9" * 400, RETRY_AFTER),
            ("-5", RETRY_AFTER),
            ("Wed, 21 Oct 2099 07:28:00 GMT", RETRY_AFTER),
        ):
            for status in ("429 Too Many Requests", "503 Service Unavailable"):
                self.says(answer(status, b"", f"Retry-After: {said}"))
                error = self.publish(1.0)
                assert error is not None
                self.assertEqual((str(error), error.retry_after), (f"status {status[:3]}", expected))
        self.says(answer("429 Too Many Requests"))
        error = self.publish(1.0)
        assert error is not None
        self.assertEqual(error.retry_after, RETRY_AFTER)

    def test_left_alone(self) -> None:
        """
        A relay is not asked for any peer until its Retry-After has passed.
        """
        for status in ("429 Too Many Requests", "503 Service Unavailable"):
            self.connections.clear()
            self.says(answer(status, b"", "Retry-After: 120"))
            self.assert_fault(f"status_{status[:3]}", 1.0)
            self.says(answer("200 OK", relay_payload(ALICE, packet())))
            self.assert_fault("rate_limited", 118.0)
            self.assertEqual(len(self.connections), 1)
            self.net.advance(2.0)
            self.assertEqual(self.find(1.0), [packet()])

    def test_conflict_without_a_packet(self) -> None:
        """
        After a 409 without an explanation, the next number is tried.
        """
        self.says(answer("409 Conflict"))
        error = self.publish(1.0)
        assert error is not None
        self.assertEqual((str(error), error.newer_seq), ("status 409", None))
        answers = [answer("409 Conflict"), answer("404 Not Found")]
        self.respond = lambda transport: transport.write(answers.pop(0))
        error = self.publish(1.0)
        assert error is not None
        self.assertEqual((str(error), error.newer_seq), ("newer packet", 5))

    def test_cookies_and_long_headers(self) -> None:
        """
        Cookies are neither stored nor parsed; headers within the limit do no harm.
        """
        cookies = [f"Set-Cookie: {'a' * 100}{n}=b" for n in range(20)]
        self.says(answer("200 OK", relay_payload(ALICE, packet()), *cookies))
        self.assertEqual(self.find(1.0), [packet()])
        self.assertEqual(self.find(1.0), [packet()])
        self.assertNotIn(b"Cookie", self.connections[-1].received)
        self.says(answer("200 OK", relay_payload(ALICE, packet()), "X: " + "y" * MAX_BYTES))
        self.assertEqual(self.find(1.0), [])


class Saying(Protocol):
    """
    Sends fixed bytes, and nothing else.
    """

    said = b""

    def connectionMade(self) -> None:
        """
        Send the bytes.
        """
        assert self.transport is not None
        self.transport.write(self.said)


class Silent(Protocol):
    """
    Answers, then ignores everything, including the end of the connection.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer the request.
        """
        assert self.transport is not None
        self.transport.write(answer("500 Oops", b"x", length=100))
        cast(Any, self.transport).pauseProducing()


class HTTPSTests(SynchronousTestCase):
    """
    Relays over TLS.
    """

    URL = "https://192.0.2.9:443"

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(time.time())  # certificates depend on the date
        self.net = MemoryTCPNetwork(clock)
        self.counters: Counter[str] = Counter()
        self.certificate = certificate("192.0.2.9")
        self.listen(Site(PkarrRelay(clock), reactor=Clock()))

    def listen(self, factory: Any) -> None:
        """
        Serve on port 443.
        """
        server = TLSMemoryBIOFactory(self.certificate.options(), False, factory, self.net.clock)
        self.port = self.net.reactor("192.0.2.9").listenTCP(443, server)

    def relay(self) -> Relay:
        """
        A relay client.
        """
        return Relay(self.net.reactor("10.0.0.1"), self.URL, self.counters)

    def trust(self) -> None:
        """
        Make the server's certificate trusted, as if by the system's store.
        """
        roots = trustRootFromCertificates([self.certificate])
        self.patch(limited, "BrowserLikePolicyForHTTPS", lambda: BrowserLikePolicyForHTTPS(roots))

    def find(self) -> list[Packet]:
        """
        The packets found; no connection is left afterwards.
        """
        found: list[Packet] = []
        finding = self.relay().find(ALICE.peer_id, found.append)
        self.net.advance(TIMEOUT + 1)
        self.successResultOf(finding)
        self.assertEqual(self.net.transports(), [])
        return found

    def test_trusted(self) -> None:
        """
        A relay with a valid certificate for its name works.
        """
        self.trust()
        publishing = self.relay().publish(ALICE, packet())
        self.net.advance(1.0)
        self.successResultOf(publishing)
        self.assertEqual((self.find(), self.counters), ([packet()], {}))

    def test_untrusted(self) -> None:
        """
        A server with an untrusted certificate gets no request.
        """
        self.assertEqual(self.find(), [])
        self.assertEqual(self.counters, {f"{self.URL}: request_failed_response_never_received": 1})

    def test_never_closed(self) -> None:
        """
        A server that never closes the TLS connection is disconnected.
        """
        self.successResultOf(self.port.stopListening())
        self.trust()
        self.listen(Factory.forProtocol(Silent))
        finding = self.relay().find(ALICE.peer_id, lambda packet: None)
        self.net.advance(1.0)
        self.successResultOf(finding)
        self.assertEqual(self.counters, {f"{self.URL}: status_500": 1})
        self.assertNotEqual(self.net.transports("10.0.0.1"), [])
        self.net.advance(TIMEOUT)
        self.assertEqual(self.net.transports("10.0.0.1"), [])

    def test_other_name(self) -> None:
        """
        A certificate for another name is refused.
        """
        self.successResultOf(self.port.stopListening())
        self.certificate = certificate("192.0.2.10")
        self.trust()
        self.listen(Site(PkarrRelay(self.net.clock), reactor=Clock()))
        self.assertEqual(self.find(), [])
        self.assertEqual(self.counters, {f"{self.URL}: request_failed_response_never_received": 1})

    def test_no_tls(self) -> None:
        """
        A server without TLS, or one that says nothing, is refused.
        """
        self.successResultOf(self.port.stopListening())
        for said, reason in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "request_failed_response_never_received"),
            (b"", "timed_out"),
        ):
            plain = type("Plain", (Saying,), {"said": said})
            port = self.net.reactor("192.0.2.9").listenTCP(443, Factory.forProtocol(plain))
            self.counters.clear()
            self.assertEqual(self.find(), [])
            self.assertEqual(self.counters, {f"{self.URL}: {reason}": 1})
            self.successResultOf(port.stopListening())


def certificate(host: str) -> PrivateCertificate:
    """
    A self-signed certificate for an IP address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = name_of(host)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
    loaded: PrivateCertificate = PrivateCertificate.loadPEM(
        sign(name, name, key, key, [addresses]) + pem_of(key)
    )
    return loaded
