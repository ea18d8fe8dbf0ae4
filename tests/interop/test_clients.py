"""
Values put by each kind of node are read by each other kind, on DHTs of one kind and on a
mixed one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.peers import Peer, Program, dtt_command, immutable_target, require, start_peer
from tests.interop.support import LOOPBACK, NO_INTEROP, Address

KINDS = ("dtt", "libtorrent", "bittorrent-dht", "mainline")

#: The number of nodes in a DHT of one kind: more than the 8 that hold a value.
NODES = 12

#: The number of nodes of each kind in the mixed DHT.
MIXED = 4

#: Seconds until all nodes know each other (docs/protocol/dht.md section 5).
SETTLE = 1.5

#: The limit for one operation in seconds: libtorrent waits 15 s for silent nodes.
LIMIT = 22.0

#: mainline drops queries without a four-byte C{t}, and a C{put} without C{a.target}
#: (docs/protocol/dht.md section 2): libtorrent and bittorrent-dht, whose C{t} has two bytes, can't use
#: its servers, and wait for them.
UNDERSTOOD_BY_MAINLINE = ("dtt", "mainline")


class _ClientsCase(TestCase):
    skip = NO_INTEROP
    timeout = 180

    def setUp(self) -> None:
        """
        Build what is missing.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        for kind in KINDS[1:]:
            require(kind)

    async def start(self, kind: str, bootstrap: list[Address], serves: bool = True) -> Peer:
        """
        Start a node.
        """
        peer = await start_peer(self.reactor, kind, bootstrap, serves)
        self.addCleanup(lambda: Deferred.fromCoroutine(peer.stop()))
        return peer

    async def swarm(self, *kinds: str) -> list[Peer]:
        """
        Start nodes, each of which gets all earlier ones.
        """
        peers: list[Peer] = []
        for kind in kinds:
            new = await self.start(kind, [peer.address for peer in peers])
            for peer in peers:
                peer.meet(new.address)
            peers.append(new)
        await deferLater(self.reactor, SETTLE)
        return peers

    async def exchange(self, peers: list[Peer], writers: list[Peer]) -> None:
        """
        Each writer puts a mutable and an immutable value, each peer reads all.
        """
        salt = os.urandom(8)
        seeds = {writer.kind: os.urandom(32) for writer in writers}
        keys = {kind: crypto_sign_seed_keypair(seed)[0] for kind, seed in seeds.items()}
        values = {writer.kind: f"{writer.kind} {salt.hex()}".encode() for writer in writers}
        puts = await gatherResults(
            [
                self.begin(writers, lambda p: p.put(seeds[p.kind], keys[p.kind], salt, values[p.kind])),
                self.begin(writers, lambda p: p.put_immutable(values[p.kind])),
            ]
        )
        self.assertEqual(puts, [dict.fromkeys(values)] * 2)
        reads: list[Deferred[dict[str, Any]]] = []
        for kind, value in values.items():
            key, target = keys[kind], immutable_target(value)
            reads.append(self.begin(peers, lambda p, key=key: p.get(key, salt)))
            reads.append(self.begin(peers, lambda p, target=target: p.get_immutable(target)))
        for number, got in enumerate(await gatherResults(reads)):
            kind = writers[number // 2].kind
            what = "immutable" if number % 2 else "mutable"
            self.assertEqual(got, {peer.kind: values[kind] for peer in peers}, f"{what}, by {kind}")

    def begin(self, peers: list[Peer], action: Callable[..., Any]) -> Deferred[dict[str, Any]]:
        """
        Start L{together}.
        """
        return Deferred.fromCoroutine(self.together(peers, action))

    async def together(self, peers: list[Peer], action: Callable[..., Any]) -> dict[str, Any]:
        """
        The results of an action of each peer, run concurrently.
        """
        actions = [Deferred.fromCoroutine(self._named(peer, action)) for peer in peers]
        results = await gatherResults(actions, consumeErrors=True)
        return {peer.kind: result for peer, result in zip(peers, results, strict=True)}

    async def _named(self, peer: Peer, action: Callable[..., Any]) -> Any:
        try:
            return await Deferred.fromCoroutine(action(peer)).addTimeout(LIMIT, self.reactor)
        except (TimeoutError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"

    async def clients(self, addresses: list[Address], kinds: Sequence[str] = KINDS) -> None:
        """
        Add one client of each kind to a DHT.
        """
        clients = [await self.start(kind, addresses, serves=False) for kind in kinds]
        await deferLater(self.reactor, SETTLE)
        await self.exchange(clients, clients)


def _stop(program: Program) -> Deferred[None]:
    return Deferred.fromCoroutine(program.stop())


class OneKindTests(_ClientsCase):
    """
    DHTs of one kind of node.
    """

    async def _serve(self, kind: str, kinds: Sequence[str] = KINDS) -> None:
        peers = await self.swarm(*[kind] * NODES)
        await self.clients([peer.address for peer in peers], kinds)

    def test_libtorrent(self) -> Deferred[None]:
        """
        libtorrent sessions serve all clients.
        """
        return Deferred.fromCoroutine(self._serve("libtorrent"))

    def test_bittorrent_dht(self) -> Deferred[None]:
        """
        bittorrent-dht nodes serve all clients.
        """
        return Deferred.fromCoroutine(self._serve("bittorrent-dht"))

    def test_mainline(self) -> Deferred[None]:
        """
        mainline servers serve the clients that they understand.
        """
        return Deferred.fromCoroutine(self._serve("mainline", UNDERSTOOD_BY_MAINLINE))

    async def _dtt(self) -> None:
        addresses: list[Address] = []
        for _ in range(NODES):
            program = Program(self.reactor, dtt_command(addresses[:1]))
            self.addCleanup(_stop, program)
            addresses.append((LOOPBACK, await program.port))
        # The clients know only one address.
        await self.clients(addresses[:1])

    def test_dtt(self) -> Deferred[None]:
        """
        C{dtt node --closed} processes serve all clients, and one of them suffices as
        bootstrap node.
        """
        return Deferred.fromCoroutine(self._dtt())


class MixedTests(_ClientsCase):
    """
    A DHT of all four kinds.
    """

    async def _mixed(self) -> None:
        peers = await self.swarm(*KINDS * MIXED)
        await self.exchange(peers[: len(KINDS)], peers[-len(KINDS) :])

    def test_mixed(self) -> Deferred[None]:
        """
        Nodes of each kind read values put by nodes of each kind.
        """
        return Deferred.fromCoroutine(self._mixed())


class SkipTests(TestCase):
    """
    Missing programs.
    """

    def test_no_node(self) -> None:
        """
        Without C{node} the test is skipped, and the reason says so.
        """
        self.patch(shutil, "which", lambda program: None)
        with self.assertRaises(SkipTest) as caught:
            require("bittorrent-dht")
        self.assertIn("node is not installed", str(caught.exception))
