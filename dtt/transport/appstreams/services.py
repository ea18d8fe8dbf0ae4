"""
The application streams that this member serves, for all connections of a transport.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory, IReactorTime
from zope.interface import implementer

from dtt.arguments import check_bytes
from dtt.errors import ListenError, UsageError
from dtt.interfaces import PeerId
from dtt.transport.appstreams.flow import Backlog
from dtt.transport.appstreams.frames import MAX_NAME
from dtt.transport.appstreams.stream import StreamAddress

#: Open streams of all connections (guess: with a window each, these are 256 MiB that applications
#: that pause all of them can have us keep).
MAX_STREAMS_IN_ALL = 1024


def check_name(name: bytes) -> bytes:
    """
    Return C{name} if it can be the name of streams.

    @raise WrongType: it is not C{bytes}.
    @raise UsageError: it is not 1..255 bytes.
    """
    check_bytes("name", name)
    if not 1 <= len(name) <= MAX_NAME:
        raise UsageError(f"the name of a stream is 1..{MAX_NAME} bytes, not {len(name)}")
    return name


class Services:
    """
    The names that are served, and what all connections share.

    @ivar clock: schedules timeouts.
    @ivar own_id: our peer id, 32 bytes.
    @ivar counters: those of the transport.
    @ivar backlog: what all streams have not sent yet.
    @ivar count: the number of open streams.
    """

    def __init__(self, clock: IReactorTime, own_id: PeerId, counters: Counter[str]) -> None:
        """
        @param clock: schedules timeouts.
        @param own_id: our peer id, 32 bytes.
        @param counters: those of the transport.
        """
        self.clock = clock
        self.own_id = own_id
        self.counters = counters
        self.backlog = Backlog()
        self.count = 0
        self._ports: dict[bytes, StreamPort] = {}

    def is_served(self, name: bytes) -> bool:
        """
        Return whether C{name} is served.
        """
        return name in self._ports

    def build(self, peer: StreamAddress) -> IProtocol | None:
        """
        Return a protocol for a stream that a peer opens; C{None}: the application does
        not want it.
        """
        return self._ports[peer.name].factory.buildProtocol(peer)

    def add(self, port: StreamPort) -> None:
        """
        Serve streams.

        @raise ListenError: this name is already served.
        """
        name = port.getHost().name
        if name in self._ports:
            raise ListenError(f"streams with the name {name!r} are served already; stop that first")
        self._ports[name] = port

    def remove(self, port: StreamPort) -> None:
        """
        Stop serving streams; open ones continue.
        """
        name = port.getHost().name
        if self._ports.get(name) is port:
            del self._ports[name]


@implementer(IListeningPort)
class StreamPort:
    """
    Serves the streams that members open under one name.
    """

    def __init__(self, services: Services, name: bytes, factory: IProtocolFactory) -> None:
        """
        @param services: those of the transport.
        @param name: the name.
        @param factory: builds the protocols; gets a L{StreamAddress} with the member's id,
            and may return C{None} to refuse it.
        """
        self.factory = factory
        self._services = services
        self._host = StreamAddress(services.own_id, name)
        self._listening = False

    def __repr__(self) -> str:
        return f"<StreamPort {self._host.name!r}>"

    def startListening(self) -> None:
        """
        Serve streams.

        @raise ListenError: this name is already served.
        """
        if not self._listening:
            self._services.add(self)
            self._listening = True
            self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        """
        Stop serving streams; open ones continue.
        """
        if self._listening:
            self._listening = False
            self._services.remove(self)
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        """
        Return our id and the name.
        """
        return self._host
