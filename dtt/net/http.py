"""
HTTP with untrusted servers: an agent whose connections are bounded.

Rules: a connection serves one request. It is aborted when it exceeds its lifetime or
its number of received bytes, counting headers, body and anything that is not HTTP. TLS
certificates are verified as in browsers.
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
    Enforces the limits between a transport and the HTTP protocol.
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
        # Without this, each request logs two lines.
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
        @param creator: the TLS settings, or C{None} for plain TCP.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._creator = creator
        self._seconds = seconds
        self._max_bytes = max_bytes

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """
        Connect through the limits, and TLS if configured.
        """
        factory: IProtocolFactory = _LimitedFactory(
            self._reactor, protocolFactory, self._seconds, self._max_bytes
        )
        if self._creator is not None:
            # Not wrapClientTLS: it uses the clock of the global reactor.
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
        Return a limited endpoint for an C{http} or C{https} URI.

        @raise SchemeNotSupported: the URI has another scheme.
        """
        host = uri.host.decode("ascii")
        timeout = int(self._seconds)
        endpoint: IStreamClientEndpoint
        if scope(host) is Scope.NEVER:  # a host name
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
    Return an agent for C{http} and C{https} whose connections are bounded.

    @param reactor: provides C{IReactorTime}, C{IReactorTCP} and, for host names,
        C{IReactorPluggableNameResolver}.
    @param seconds: the time limit for connecting, and again for the lifetime of the
        connection.
    @param max_bytes: the most bytes read from one connection.
    """
    agent: IAgent = Agent.usingEndpointFactory(
        reactor, _Endpoints(reactor, seconds, max_bytes), HTTPConnectionPool(reactor, persistent=False)
    )
    return agent


class NoCookies(CookieJar):
    """
    A cookie jar that neither stores nor sends cookies.
    """

    def extract_cookies(self, response: Any, request: Any) -> None:
        """
        Ignore the response's cookies without parsing them.
        """


@implementer(IBodyProducer)
class WholeBody:
    """
    A short request body, written in one call. Twisted's own producer schedules its
    writes with the global reactor.
    """

    def __init__(self, data: bytes) -> None:
        """
        @param data: the body.
        """
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write the whole body.
        """
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Do nothing: the body is already written.
        """

    resumeProducing = stopProducing = pauseProducing


class _Body(Protocol):
    """
    Collects at most C{limit} bytes; closes the connection on any more.
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
    Read the body of a response.

    @param limit: the most bytes to accept.
    @return: fires with the body; fails with L{RemoteError<dtt.errors.RemoteError>} if
        the body is too large or incomplete. Cancelling it closes the connection.
    """
    body = _Body(limit)
    response.deliverBody(body)
    return body.result


def drop_body(response: IResponse) -> None:
    """
    Close the connection of a response without reading the body.
    """
    _ = read_body(response, -1).addErrback(lambda failure: failure.trap(RemoteError) and None)
