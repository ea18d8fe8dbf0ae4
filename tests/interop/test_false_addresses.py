"""
False addresses of iroh peers: an unused port, and another peer's address, alone and among
good ones; over the real bindings.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred

from dtt.identity import PeerKey
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.transport import IrohTransport
from dtt.wire.addresses import IROH, PeerAddress
from tests.interop.iroh_peers import IrohTestCase, RawPeer
from tests.interop.support import LOOPBACK, until

reactor: Any = global_reactor

#: The port C{discard}, on which there is no listener.
NOBODY = PeerAddress(IROH, LOOPBACK, 9)

#: The number of peers dialled in a row: with two addresses the wrong one answers first every other
#: time.
PEERS = 8

#: The maximum, until this has happened once: by chance it may take several dials.
MAX_PEERS = 60

#: The limit for such a dial in seconds; it takes 0.3.
SOON = 3.0


class FalseAddressTests(IrohTestCase):
    """
    Dials of peers with false addresses.
    """

    def impostor(self) -> RawPeer:
        """
        Another peer, which answers.
        """
        raw = self.raw(100)
        raw.listen()
        return raw

    async def dial(self, transport: IrohTransport, to: IrohTransport, *addresses: PeerAddress) -> None:
        """
        Connect soon.
        """
        await transport.dial(to.peer_id, addresses).addTimeout(SOON, reactor)
        self.assertTrue(transport.is_connected(to.peer_id))

    async def test_wrong_id(self) -> None:
        """
        A wrong id at the right address is never reached; the right one is, afterwards.
        """
        transport, _ = self.transport(1)
        raw = self.impostor()
        nobody = PeerKey.from_seed(b"n" * 32).peer_id
        self.assertEqual(await self.dial_error(transport, nobody, raw), "wrong peer key")
        await self.assertFailure(Deferred.fromCoroutine(raw.connect(transport, nobody)), IrohFailure)
        self.assertFalse(transport.is_connected(nobody))
        await transport.dial(raw.peer_id, [raw.address])
        self.assertTrue(transport.is_connected(raw.peer_id))

    async def test_wrong_port(self) -> None:
        """
        An unused port does not delay a dial.
        """
        transport, _ = self.transport(1)
        for number in range(2, 2 + PEERS):
            other, _ = self.transport(number)
            await self.dial(transport, other, NOBODY, *self.places(other))

    async def test_among_good_ones(self) -> None:
        """
        An address at which another peer answers does not make a dial fail, and is
        remembered: the next dial tries other addresses first.
        """
        transport, _ = self.transport(1)
        raw = self.impostor()
        met = 0
        for number in range(2, 2 + MAX_PEERS):
            if met and number >= 2 + PEERS:
                break
            other, _ = self.transport(number)
            await self.dial(transport, other, raw.address, *self.places(other))
            if transport._dialing._suspects.has(other.peer_id, reactor.seconds()):
                met += 1
                order = transport._dialing._suspects.order(other.peer_id, [raw.address, *self.places(other)])
                self.assertEqual(order, [*self.places(other), raw.address])
        self.assertGreater(met, 0)
        self.assertEqual(raw.connections, [])
        # Each used a separate endpoint, which ends with its connection.
        await until(reactor, lambda: len(transport._endpoint.spares.open) == met)
        transport.peers.abort_all()
        self.assertEqual(transport._endpoint.spares.open, [])

    async def test_false_one_first(self) -> None:
        """
        A false address that was dialled alone before, and that the library remembers for
        a minute, does not make a dial fail, either.
        """
        transport, _ = self.transport(1)
        raw = self.impostor()
        for number in range(2, 2 + PEERS):
            other, _ = self.transport(number)
            self.assertEqual(await self.dial_error(transport, other.peer_id, raw), "wrong peer key")
            await self.dial(transport, other, *self.places(other))

    async def test_members(self) -> None:
        """
        Members with false addresses become neighbours, and receive each other's messages.
        """
        raw = self.impostor()
        for number in range(2, 10, 2):
            one, other = self.member(number), self.member(number + 1)
            one.book.learn(other.peer_id, [raw.address, NOBODY], "record")
            one.join(other)
            for member, peer in ((one, other), (other, one)):
                await member.neighbor(reactor, peer.peer_id)
            await one.member.broadcast(b"hello")
            await other.listener.heard(reactor, 1)
            self.assertEqual(other.listener.contents, [b"hello"])

    def places(self, transport: IrohTransport) -> list[PeerAddress]:
        """
        The addresses at which it listens.
        """
        return [address for address in transport.addresses() if isinstance(address, PeerAddress)]
