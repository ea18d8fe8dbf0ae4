"""
Ten hosts with their own addresses: tests that are impossible on loopback.
"""

from __future__ import annotations

import os
import sys

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, gatherResults

from dtt.dht.routing.ids import is_valid
from tests.interop.host_node import PORT
from tests.interop.hosts import HOSTS, HostsCase


class NamespaceTests(HostsCase):
    """
    Nodes on separate hosts.
    """

    timeout = 180

    async def run_node(self, number: int, node_id: str, bootstrap: list[str]) -> None:
        """
        Start a host's node.
        """
        module = [sys.executable, "-m", "tests.interop.host_node", node_id]
        await self.start(number, [*module, *(f"{host}:{PORT}" for host in bootstrap)])

    async def exchange(self, writer: int, readers: list[int]) -> None:
        """
        One node puts, all others get.
        """
        seed, value = os.urandom(32), os.urandom(16)
        key = crypto_sign_seed_keypair(seed)[0]
        stored = await self.programs[writer].command("put", seed, b"", 1, value)
        self.assertGreaterEqual(int(stored), 2)
        reads = [self.programs[number].command("get", key, b"") for number in readers]
        self.assertEqual(await gatherResults(reads), [value.hex()] * len(readers))

    async def _hosts(self) -> None:
        every = list(range(HOSTS))
        # Ids that are invalid at these addresses, so that all nodes have to change them.
        ids = [os.urandom(20) for _ in every]
        for number in every:
            first = self.addresses[:1] if number else []
            await self.run_node(number, ids[number].hex(), first)
        # Only the last one has found enough others itself: those that came to a node have no vote.
        last = every[-1]
        await self.become([last], self.knows_itself)
        state = await self.status(last)
        self.assertTrue(is_valid(ids[last], state.external) or state.node_id != ids[last])
        await self.exchange(1, every)

        # One node vanishes.
        *others, gone = every
        node_id = (await self.status(gone)).node_id
        await self.programs[gone].stop()
        await self.exchange(2, others)

        # It returns at another address, with the id that was valid at its old address.
        self.addresses[gone] = "45.99.7.1"
        self.network.set_address(self.hosts[gone], self.addresses[gone])
        # Eight of the nine others must report its address (BEP42).
        await self.run_node(gone, node_id.hex(), self.addresses[:gone])
        await self.become([gone], self.knows_itself)
        self.assertNotEqual((await self.status(gone)).node_id, node_id)
        await self.exchange(gone, every)
        await self.exchange(0, every)

    def test_hosts(self) -> Deferred[None]:
        """
        Ten nodes find each other, and the last one learns its address from the others and
        takes an id that is valid there; the loss of a node has no effect; it returns with
        another address, learns that, and is found again.
        """
        return Deferred.fromCoroutine(self._hosts())
