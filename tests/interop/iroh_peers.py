"""
Peers for the tests of the iroh transport: members, a peer with direct access to the
bindings, and their clean-up.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dtt.addresses.book import AddressBook
from dtt.errors import DialFailed
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh.bindings import IrohConnection, load_bindings, split_address
from dtt.transport.iroh.calls import Calls
from dtt.transport.iroh.endpoint import ALPN
from dtt.transport.iroh.transport import IrohTransport
from dtt.wire.addresses import IROH, PeerAddress
from tests.interop.support import LOOPBACK, NO_IROH, Listener, until

reactor: Any = global_reactor

TOPIC, SECRET_HASH = b"t" * 32, b"s" * 32


class IrohMember:
    """
    A member of L{TOPIC} without a tracker.

    @ivar transport: its transport.
    @ivar book: its address book.
    @ivar member: its gossip member.
    @ivar listener: records the messages it receives.
    """

    def __init__(self, reactor: Any, number: int, topic: bytes = TOPIC, **settings: Any) -> None:
        """
        @param number: determines the key.
        @param settings: settings of L{IrohTransport}.
        """
        key = PeerKey.from_seed(bytes((number,)) * 32)
        rng = Random(number)
        self.peer_id = key.peer_id
        self.transport = IrohTransport(reactor, key, **settings)
        self.transport.listen(LOOPBACK, 0)
        self.book = AddressBook(reactor, rng, self.transport.addresses, key.peer_id)
        services = GossipServices(reactor, rng, key.peer_id, self.transport, self.book)
        self.member = GossipMember(services, topic, SECRET_HASH)
        self.listener = Listener()
        self.member.subscribe(self.listener)
        self.member.start()

    def join(self, other: IrohMember) -> None:
        """
        Join through C{other}.
        """
        self.book.learn(other.peer_id, other.transport.addresses(), "record")
        self.member.join([other.peer_id])

    async def neighbor(self, reactor: Any, peer_id: bytes) -> None:
        """
        Wait until C{peer_id} is a neighbour.
        """
        await until(reactor, lambda: peer_id in self.member.neighbors())

    async def stop(self) -> None:
        """
        Leave and close everything.
        """
        await self.member.leave()
        await self.transport.stop()


class RawPeer:
    """
    An endpoint under full control of the test.

    @ivar peer_id: its id.
    @ivar connections: the connections that it has opened.
    """

    def __init__(self, reactor: Any, number: int, alpn: bytes = ALPN) -> None:
        self._bindings: Any = load_bindings()
        self._calls = Calls(reactor, self._bindings.IrohError)
        key = PeerKey.from_seed(bytes((number,)) * 32)
        self.peer_id = key.peer_id
        self.connections: list[IrohConnection] = []
        self._alpn = alpn
        builder = self._bindings.EndpointBuilder()
        builder.apply_minimal()
        builder.relay_mode(self._bindings.RelayMode.disabled())
        builder.secret_key(key.seed)
        builder.alpns([alpn])
        builder.bind_addr(f"{LOOPBACK}:0")
        self.endpoint: Any = self._calls.wait(builder.bind(), 10)
        self._calls.exit_call = self.endpoint.close
        self.address = PeerAddress(IROH, *split_address(self.endpoint.bound_sockets()[0]))

    async def call(self, coroutine: Any) -> Any:
        """
        Call the bindings.
        """
        return await self._calls.call(coroutine)

    def listen(self) -> None:
        """
        Accept all connections, and do nothing with them.
        """

        async def shake_hands(incoming: Any) -> None:
            accepting = await self.call(incoming.accept())
            self.connections.append(await self.call(accepting.connect()))

        async def accept() -> None:
            while (incoming := await self.call(self.endpoint.accept_next())) is not None:
                Deferred.fromCoroutine(shake_hands(incoming)).addErrback(lambda _: None)

        Deferred.fromCoroutine(accept()).addErrback(lambda _: None)

    async def connect(self, to: IrohTransport, as_whom: bytes | None = None) -> IrohConnection:
        """
        A connection to C{to}.

        @param as_whom: the peer id to request; C{None}: that of C{to}.
        """
        addr = self._bindings.EndpointAddr(
            self._bindings.EndpointId.from_bytes(as_whom or to.peer_id), None, [f"{LOOPBACK}:{to.port}"]
        )
        connection: IrohConnection = await self.call(self.endpoint.connect(addr, self._alpn))
        self.connections.append(connection)
        return connection

    async def write(self, connection: IrohConnection, data: bytes) -> Any:
        """
        Write to a new stream of C{connection}.

        @return: the stream.
        """
        stream = await self.call(connection.open_uni())
        await self.call(stream.write_all(data))
        return stream

    async def closed(self, connection: Any) -> str:
        """
        Wait until C{connection} is closed.

        @return: the library's message.
        """
        words: str = await self.call(connection.closed())
        return words

    async def stop(self) -> None:
        """
        Close the endpoint.
        """
        self._calls.exit_call = None
        self._calls.cancel_all()
        await self.call(self.endpoint.close())


class IrohTestCase(TestCase):
    """
    Stops what a test has started.
    """

    skip = NO_IROH
    timeout = 180

    def setUp(self) -> None:
        self._ends: list[Callable[[], Coroutine[Deferred[Any], Any, None]]] = []

    async def _end(self) -> None:
        for end in reversed(self._ends):
            await end()

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]
        return Deferred.fromCoroutine(self._end())

    def member(self, number: int, **settings: Any) -> IrohMember:
        """
        A member that is stopped at the end.
        """
        member = IrohMember(reactor, number, **settings)
        self._ends.append(member.stop)
        return member

    def raw(self, number: int, alpn: bytes = b"/iroh-gossip/1") -> RawPeer:
        """
        A raw peer that is stopped at the end.
        """
        peer = RawPeer(reactor, number, alpn)
        self._ends.append(peer.stop)
        return peer

    def transport(self, number: int) -> tuple[IrohTransport, RecordingLinks]:
        """
        A transport on which L{TOPIC} is open.
        """
        transport = IrohTransport(reactor, PeerKey.from_seed(bytes((number,)) * 32))
        transport.listen(LOOPBACK, 0)
        links = RecordingLinks()
        transport.open_topic(TOPIC, SECRET_HASH, links)

        async def stop() -> None:
            await transport.stop()

        self._ends.append(stop)
        return transport, links

    async def dial_error(self, transport: IrohTransport, peer_id: bytes, at: RawPeer) -> str:
        """
        The reason why dialling C{peer_id} at C{at} fails.
        """
        try:
            await transport.dial(peer_id, [at.address])
        except DialFailed as error:
            return str(error)
        return ""
