"""
HTTP with servers that can't be trusted: an agent whose connections are bounded.

Rules: a connection serves one request; it is aborted when it is older than its
time or has brought more bytes than it may, whether of headers, of a body, or
of nothing that HTTP knows.  Certificates are checked as browsers do.
"""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.interfaces import (
    IConsumer,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from dtt.errors import RemoteError
from dtt.net.networks import Scope, scope


class _Limited(ProtocolWrapper):
    """
    Stands between a connection and the HTTP protocol.
    """

    factory: _LimitedFactory

    def makeConnection(self, transport: Any) -> None:
        self._abort = transport.abortConnection
        self._left = self.factory.max_bytes
        self._end = self.factory.reactor.callLater(self.factory.seconds, self._abort)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self._left < 0:
            return
        self._left -= len(data)
        if self._left < 0:
            self._abort()
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._end.active():
            self._end.cancel()
        super().connectionLost(reason)


class _LimitedFactory(WrappingFactory[_Limited]):
    protocol = _Limited
    noisy = False

    def __init__(self, reactor: Any, factory: Any, seconds: float, max_bytes: int) -> None:
        super().__init__(factory)
        # Or each request would be two lines in the log.
        factory.noisy = False
        self.reactor = reactor
        self.seconds = seconds
        self.max_bytes = max_bytes


@implementer(IStreamClientEndpoint)
class _LimitedEndpoint:
    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        creator: IOpenSSLClientConnectionCreator | None,
        seconds: float,
        max_bytes: int,
    ) -> None:
        """
        @param creator: L{None}: without TLS.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._creator = creator
        self._seconds = seconds
        self._max_bytes = max_bytes

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """
        See L{IStreamClientEndpoint.connect}.
        """
        factory: IProtocolFactory = _LimitedFactory(
            self._reactor, protocolFactory, self._seconds, self._max_bytes
        )
        if self._creator is not None:
            # Not wrapClientTLS: it takes its time from the global reactor.
            factory = TLSMemoryBIOFactory(self._creator, True, factory, self._reactor)
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(self._innermost)

    def _innermost(self, protocol: Any) -> Any:
        if self._creator is not None:
            protocol = protocol.wrappedProtocol
        return protocol.wrappedProtocol


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, seconds: float, max_bytes: int) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._policy: BrowserLikePolicyForHTTPS | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        See L{IAgentEndpointFactory.endpointForURI}.
        """
        host = uri.host.decode("ascii")
        timeout = int(self._seconds)
        endpoint: IStreamClientEndpoint
        if scope(host) is Scope.NEVER:  # a name, then
            endpoint = HostnameEndpoint(self._reactor, host, uri.port, timeout=timeout)
        elif ":" in host:
            endpoint = TCP6ClientEndpoint(self._reactor, host, uri.port, timeout=timeout)
        else:
            endpoint = TCP4ClientEndpoint(self._reactor, host, uri.port, timeout=timeout)
        creator = None
        if uri.scheme == b"https":
            self._policy = self._policy or BrowserLikePolicyForHTTPS()
            creator = self._policy.creatorForNetloc(uri.host, uri.port)
        elif uri.scheme != b"http":
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        return _LimitedEndpoint(self._reactor, endpoint, creator, self._seconds, self._max_bytes)


def limited_agent(reactor: Any, seconds: float, max_bytes: int) -> IAgent:
    """
    An agent for C{http} and C{https}.

    @param reactor: provides IReactorTime, IReactorTCP and, for names,
        IReactorPluggableNameResolver.
    @param seconds: to connect, and again for the whole life of the connection.
    @param max_bytes: that are read from the connection.
    """
    agent: IAgent = Agent.usingEndpointFactory(
        reactor, _Endpoints(reactor, seconds, max_bytes), HTTPConnectionPool(reactor, persistent=False)
    )
    return agent


class NoCookies(CookieJar):
    """
    Takes none, gives none.
    """

    def extract_cookies(self, response: Any, request: Any) -> None:
        """
        Nothing: they are not even parsed.
        """


@implementer(IBodyProducer)
class WholeBody:
    """
    A short body, sent at once: Twisted's own producer takes turns by way of the
    global reactor.
    """

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write it.
        """
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Nothing: it is over already.
        """

    resumeProducing = stopProducing = pauseProducing


class _Body(Protocol):
    """
    Gathers at most C{limit} bytes, and hangs up at the next one.
    """

    def __init__(self, limit: int) -> None:
        self.result: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        self._limit = limit
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._limit and not self.result.called:
            self.result.errback(RemoteError("answer too large"))
            self._hang_up()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self.result.called:
            return
        if reason is not None and reason.check(ResponseDone):
            self.result.callback(self._data)
        else:
            self.result.errback(RemoteError("answer cut short"))

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """
    The body of a response, at most C{limit} bytes.

    @return: fails with L{RemoteError}; cancelling it closes the connection.
    """
    body = _Body(limit)
    response.deliverBody(body)
    return body.result


def drop_body(response: IResponse) -> None:
    """
    Close the connection of a response whose body is of no use.
    """
    _ = read_body(response, -1).addErrback(lambda failure: failure.trap(RemoteError) and None)
