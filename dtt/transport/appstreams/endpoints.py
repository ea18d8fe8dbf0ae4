"""
Twisted endpoints over application streams.

A client endpoint reaches one member by its id, over the connection that gossip uses or a
new one; a server endpoint serves what members open under a name.  The peer of a
protocol's transport is a L{StreamAddress<dtt.transport.appstreams.stream.StreamAddress>},
whose C{peer_id} the connection has proved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from dtt.arguments import check_methods
from dtt.errors import DialFailed
from dtt.transport.appstreams.services import Services, StreamPort, check_name
from dtt.transport.appstreams.stream import AppStream, StreamAddress


def check_factory(factory: object) -> None:
    """
    Check a factory of protocols.

    @raise WrongType: it is a class, such as a protocol, or lacks a method of a factory.
    """
    check_methods(
        "protocolFactory",
        factory,
        ("buildProtocol", "doStart", "doStop"),
        "a Twisted factory, such as Factory.forProtocol(YourProtocol)",
    )


@implementer(IStreamClientEndpoint)
class StreamClientEndpoint:
    """
    Opens streams to one member under one name.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        peer: StreamAddress,
        open_stream: Callable[[StreamAddress], Awaitable[AppStream]],
        timeout: float,
    ) -> None:
        """
        @param reactor: schedules the timeout.
        @param peer: the member and the name.
        @param open_stream: connects to the member if necessary, and opens a stream.
        @param timeout: seconds for L{connect}.
        """
        self._reactor = reactor
        self._peer = peer
        self._open_stream = open_stream
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<StreamClientEndpoint {self._peer.name!r} at {self._peer.peer_id.hex()[:10]}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """
        Open a stream.

        @return: fires with the connected protocol.  Fails with
            L{DialFailed<dtt.errors.DialFailed>} if the member can't be reached within the
            timeout, and with L{StreamRefused<dtt.errors.StreamRefused>} if it does not
            accept the stream.  Can be cancelled.
        @raise WrongType: C{protocolFactory} is not a factory.
        """
        check_factory(protocolFactory)

        def timed_out(_: object, seconds: float) -> IProtocol:
            raise DialFailed(f"no answer within {seconds:g} s")

        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        return connecting.addTimeout(self._timeout, self._reactor, timed_out)

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        factory.doStart()
        try:
            stream = await self._open_stream(self._peer)
            try:
                protocol = factory.buildProtocol(self._peer)
            except BaseException:
                stream.abortConnection()
                raise
            if protocol is None:
                stream.abortConnection()
                raise NoProtocol
        except BaseException:
            factory.doStop()
            raise
        stream.on_lost = factory.doStop
        stream.connect(protocol)
        return protocol


@implementer(IStreamServerEndpoint)
class StreamServerEndpoint:
    """
    Serves the streams that members open under one name.
    """

    def __init__(self, services: Services, name: bytes) -> None:
        """
        @param services: those of the transport.
        @param name: 1..255 bytes.
        @raise WrongType: the name is not C{bytes}.
        @raise UsageError: the name has another size.
        """
        self._services = services
        self._name = check_name(name)

    def __repr__(self) -> str:
        return f"<StreamServerEndpoint {self._name!r}>"

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """
        Serve streams with protocols of a factory.

        @return: fires with a port; its C{stopListening} ends the service.  Fails with
            L{ListenError<dtt.errors.ListenError>} if this name is already served.
        @raise WrongType: C{protocolFactory} is not a factory.
        """
        check_factory(protocolFactory)
        port = StreamPort(self._services, self._name, protocolFactory)
        return execute(port.startListening).addCallback(lambda _: port)
