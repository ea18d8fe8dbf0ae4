"""
Values put by each kind of node are read by each other one, on DHTs made of one
kind and on a mixed one.
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

#: Nodes of a DHT of one kind: more than the 8 that hold a value.
NODES = 12

#: The same of each kind in the mixed one.
MIXED = 4

#: Seconds until all know all (docs/protocol/dht.md section 5).
SETTLE = 1.5

#: Seconds for one operation: libtorrent waits 15 s for silent nodes.
LIMIT = 22.0

#: mainline drops what has no C{t} of four bytes, and a C{put} without
#: C{a.target} (docs/protocol/dht.md section 2): libtorrent and bittorrent-dht, whose C{t}
#: have two, can't use its servers, and wait for them.
UNDERSTOOD_BY_MAINLINE = ("dtt", "mainline")


class _ClientsCase(TestCase):
    skip = NO_INTEROP
    timeout = 60

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
        A running node.
        """
        peer = await start_peer(self.reactor, kind, bootstrap, serves)
        self.addCleanup(lambda: Deferred.fromCoroutine(peer.stop()))
        return peer

    async def swarm(self, *kinds: str) -> list[Peer]:
        """
        Nodes that are told of all before them.
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
        L{together}, begun.
        """
        return Deferred.fromCoroutine(self.together(peers, action))

    async def together(self, peers: list[Peer], action: Callable[..., Any]) -> dict[str, Any]:
        """
        What comes of an action of each, at the same time.
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
        One client of each kind comes to a DHT.
        """
        clients = [await self.start(kind, addresses, serves=False) for kind in kinds]
        await deferLater(self.reactor, SETTLE)
        await self.exchange(clients, clients)


def _stop(program: Program) -> Deferred[None]:
    return Deferred.fromCoroutine(program.stop())


class OneKindTests(_ClientsCase):
    """
    DHTs made of one kind of node.
    """

    async def _serve(self, kind: str, kinds: Sequence[str] = KINDS) -> None:
        peers = await self.swarm(*[kind] * NODES)
        await self.clients([peer.address for peer in peers], kinds)

    def test_libtorrent(self) -> Deferred[None]:
        """
        libtorrent sessions serve all.
        """
        return Deferred.fromCoroutine(self._serve("libtorrent"))

    def test_bittorrent_dht(self) -> Deferred[None]:
        """
        bittorrent-dht nodes serve all.
        """
        return Deferred.fromCoroutine(self._serve("bittorrent-dht"))

    def test_mainline(self) -> Deferred[None]:
        """
        mainline servers serve those that they understand.
        """
        return Deferred.fromCoroutine(self._serve("mainline", UNDERSTOOD_BY_MAINLINE))

    async def _dtt(self) -> None:
        addresses: list[Address] = []
        for _ in range(NODES):
            program = Program(self.reactor, dtt_command(addresses[:1]))
            self.addCleanup(_stop, program)
            addresses.append((LOOPBACK, await program.port))
        # One address is all that the clients know.
        await self.clients(addresses[:1])

    def test_dtt(self) -> Deferred[None]:
        """
        C{dtt node --closed} processes serve all, and one of them is bootstrap
        enough for everybody.
        """
        return Deferred.fromCoroutine(self._dtt())


class MixedTests(_ClientsCase):
    """
    A DHT made of all four kinds.
    """

    async def _mixed(self) -> None:
        peers = await self.swarm(*KINDS * MIXED)
        await self.exchange(peers[: len(KINDS)], peers[-len(KINDS) :])

    def test_mixed(self) -> Deferred[None]:
        """
        Nodes of each kind read what nodes of each kind put.
        """
        return Deferred.fromCoroutine(self._mixed())


class SkipTests(TestCase):
    """
    Where a program is missing.
    """

    def test_no_node(self) -> None:
        """
        Without C{node} the reason of the skip says so.
        """
        self.patch(shutil, "which", lambda program: None)
        with self.assertRaises(SkipTest) as caught:
            require("bittorrent-dht")
        self.assertIn("node is not installed", str(caught.exception))
