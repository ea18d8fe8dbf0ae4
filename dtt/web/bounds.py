"""
HTTP connections whose number, time and request size are bounded.

Rules: a connection must deliver a whole request within L{REQUEST_TIME}, however slowly its
bytes come, and so again after each answer.  A body is at most L{MAX_BODY} bytes; of a larger
one nothing is kept.  Beyond L{MAX_CONNECTIONS} a new connection is closed at once.  Twisted
itself bounds the length of lines, and the number and size of headers.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from dtt.deferreds import cancel_if_active

#: Seconds for a request to arrive (guess: many round trips; a browser that keeps a connection
#: opens another one when it needs it).
REQUEST_TIME: Final = 15.0

#: The largest body, bytes: a secret of 64 KiB in base64, and a topic.
MAX_BODY: Final = 128 * 1024

#: Connections of one port at a time (guess: several browsers, which open six each, and scrapers).
MAX_CONNECTIONS: Final = 64

_TOO_LARGE: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 47\r\n\r\n{"error": "the body is larger than 131072 B."}\n'
)


class BoundedRequest(Request):
    """
    A request whose body is bounded.
    """

    _body_size = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """
        Refuse a body that is announced as too large.
        """
        if length is not None and length > MAX_BODY:
            super().gotLength(0)
            self._refuse()
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """
        Store a part of the body, unless it has become too large.
        """
        self._body_size += len(data)
        if self._body_size > MAX_BODY:
            self._refuse()
        elif not self._refused:
            super().handleContentChunk(data)

    def process(self) -> None:
        """
        The whole request is here: answer it.
        """
        if self._refused:
            return
        connection: Any = self.channel.transport
        if isinstance(connection, BoundedConnection):
            connection.answering(True)
            self.notifyFinish().addBoth(lambda _: connection.answering(False))
        super().process()

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            connection: Any = self.channel.transport
            connection.write(_TOO_LARGE)
            connection.loseConnection()


class BoundedConnection(ProtocolWrapper):
    """
    A connection that must deliver its requests in time.
    """

    factory: BoundedFactory

    _deadline: IDelayedCall | None = None

    def makeConnection(self, transport: Any) -> None:
        """
        Start waiting for a request.
        """
        super().makeConnection(transport)
        self.answering(False)

    def answering(self, is_answering: bool) -> None:
        """
        Set whether a request is being answered now.  If not, the next one must arrive in time.
        """
        cancel_if_active(self._deadline)
        self._deadline = None
        if not is_answering and self in self.factory.protocols:
            self._deadline = self.factory.reactor.callLater(REQUEST_TIME, self._late)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It has ended.
        """
        super().connectionLost(reason)
        cancel_if_active(self._deadline)

    def _late(self) -> None:
        # Mypy knows only ITransport here.
        transport: Any = self.transport
        transport.abortConnection()


class BoundedFactory(WrappingFactory[BoundedConnection]):
    """
    Makes the connections of one port.
    """

    protocol = BoundedConnection
    noisy = False

    def __init__(self, reactor: Any, root: Resource) -> None:
        """
        @param reactor: the clock.
        @param root: answers the requests.
        """
        site = Site(root, requestFactory=BoundedRequest, reactor=reactor)
        site.noisy = False
        site.displayTracebacks = False
        # The path of a request may name a topic; it must not be logged.
        site.log = _log_nothing  # type: ignore[method-assign]
        super().__init__(site)
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> BoundedConnection:
        """
        Accept a connection, if there are not too many.
        """
        if len(self.protocols) >= MAX_CONNECTIONS:
            # Twisted then closes it; its annotation does not say that this is possible.
            return None  # type: ignore[return-value]
        return super().buildProtocol(addr)

    def abort_all(self) -> None:
        """
        Abort all connections.
        """
        for connection in tuple(self.protocols):
            transport: Any = connection.transport
            transport.abortConnection()


def _log_nothing(request: object) -> None:
    """
    Log no request.
    """
