"""
Ten hosts with their own addresses and nodes of four kinds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater

from tests.interop.hosts import HOSTS, HostsCase
from tests.interop.peers import require
from tests.interop.support import Address

#: The program on each host. Eight networks must agree on an address (BEP42), and bittorrent-dht does
#: not report addresses, so ten hosts can include only one of it.
KINDS = (*["dtt"] * 3, *["libtorrent"] * 3, *["mainline"] * 3, "bittorrent-dht")

#: Seconds until all nodes know each other (docs/protocol/dht.md section 5).
SETTLE = 1.5

#: The limit for one operation in seconds: libtorrent waits 15 s for silent nodes, and mainline nodes
#: are silent to it (docs/protocol/dht.md section 2: C{t} must have four bytes).
LIMIT = 20.0


class MixedHostsTests(HostsCase):
    """
    dtt, libtorrent with its default settings, mainline and bittorrent-dht.
    """

    timeout = 180

    def setUp(self) -> None:
        """
        Build what is missing.
        """
        super().setUp()
        for kind in dict.fromkeys(KINDS):
            require(kind)
        self.nodes: dict[int, Address] = {}

    async def run_node(self, number: int, bootstrap: Iterable[Address], node_id: str = "-") -> None:
        """
        Start a host's node.
        """
        host, kind = self.addresses[number], KINDS[number]
        if kind == "dtt":
            command = [sys.executable, "-m", "tests.interop.host_node", node_id]
        elif kind == "libtorrent":
            command = [sys.executable, "-m", "tests.interop.host_libtorrent", host]
        else:
            command = [*require(kind), f"--bind={host}"]
        await self.start(number, [*command, *(f"{host}:{port}" for host, port in bootstrap)])
        self.nodes[number] = (host, await self.programs[number].port)
        for other, earlier in enumerate(KINDS):
            if other in self.nodes and other != number and earlier == "libtorrent":
                await self.programs[other].command("meet", *self.nodes[number])

    async def command(self, number: int, *words: bytes | int | str) -> str:
        """
        The answer of a host, or a note that it timed out.
        """
        try:
            return await self.programs[number].command(*words).addTimeout(LIMIT, self.reactor)
        except TimeoutError:
            return "nothing"

    async def exchange(self, writers: list[int], readers: list[int]) -> None:
        """
        Each writer puts a value, each reader gets all.
        """
        seeds = {number: os.urandom(32) for number in writers}
        keys = {number: crypto_sign_seed_keypair(seed)[0] for number, seed in seeds.items()}
        values = {number: os.urandom(16) for number in writers}
        puts = [self.begin(number, "put", seeds[number], b"", 1, values[number]) for number in writers]
        for number, stored in zip(writers, await gatherResults(puts), strict=True):
            failed = stored in ("0", "nothing") or stored.startswith("error")
            self.assertFalse(failed, f"put by {KINDS[number]}: {stored}")
        wanted = {
            f"{KINDS[writer]} {writer}, read by {KINDS[reader]} {reader}": (writer, reader)
            for writer in writers
            for reader in readers
            if writer != reader
        }
        gets = [self.begin(reader, "get", keys[writer], b"") for writer, reader in wanted.values()]
        got = dict(zip(wanted, await gatherResults(gets), strict=True))
        self.assertEqual(got, {words: values[writer].hex() for words, (writer, _) in wanted.items()})

    def begin(self, number: int, *words: bytes | int | str) -> Deferred[str]:
        """
        Start L{command}.
        """
        return Deferred.fromCoroutine(self.command(number, *words))

    async def _hosts(self) -> None:
        every = list(range(HOSTS))
        ours = [number for number in every if KINDS[number] == "dtt"]
        one_of_each = [KINDS.index(kind) for kind in dict.fromkeys(KINDS)]
        for number in every:
            await self.run_node(number, [*self.nodes.values()])
        await deferLater(self.reactor, SETTLE)
        await self.exchange(one_of_each, every)

        # One node vanishes.
        gone = ours[-1]
        node_id = (await self.status(gone)).node_id
        await self.programs[gone].stop()
        del self.nodes[gone]
        await self.exchange(ours[:1], [number for number in every if number != gone])

        # It returns at another address, with the id that was valid at its old address. (Of the second
        # byte BEP42 uses only four bits, and these differ.)
        self.addresses[gone] = "45.98.7.1"
        self.network.set_address(self.hosts[gone], self.addresses[gone])
        await self.run_node(gone, self.nodes.values(), node_id.hex())
        while not self.knows_itself(gone, await self.status(gone)):
            # A lookup of its own id may end before it has asked all eight nodes that report addresses.
            await self.command(gone, "get", os.urandom(32), b"")
            await deferLater(self.reactor, 0.2)
        self.assertNotEqual((await self.status(gone)).node_id, node_id)
        await self.exchange([gone, *ours[:1]], every)

    def test_hosts(self) -> Deferred[None]:
        """
        Nodes of each kind read values put by each other kind; the loss of a node has no
        effect; it returns with another address, learns that from the nodes that it finds
        and that report it, takes a valid id, and is found again.
        """
        return Deferred.fromCoroutine(self._hosts())
