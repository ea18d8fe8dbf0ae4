"""
Ten hosts with addresses of their own, as network namespaces on one bridge: what
can't be seen on loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from attrs import frozen
from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from dtt.dht.node_id import is_valid
from tests.interop.host_node import PORT
from tests.interop.peers import Program
from tests.interop.support import NO_INTEROP

HOSTS = 10


def _ip(*words: object) -> None:
    subprocess.run(
        ["ip", *(str(word) for word in words)], check=True, capture_output=True, text=True, timeout=10
    )


def _missing() -> str | None:
    if NO_INTEROP:
        return NO_INTEROP
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the program ip (iproute2)"
    name = f"dtt{os.getpid()}try"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "br0", "type", "bridge")
        _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    except subprocess.SubprocessError as error:
        return f"network namespaces can't be made here: {getattr(error, 'stderr', '') or error}".strip()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return None


class Network:
    """
    Namespaces that are hosts, and one that is the bridge between them.  All
    addresses are of 45/8, public ones to BEP42, and of networks of their own
    to the rules against many nodes in one.
    """

    def __init__(self) -> None:
        self._prefix = f"dtt{os.getpid()}"
        self._names: list[str] = []

    def build(self) -> None:
        """
        The bridge.
        """
        self._bridge = self._namespace("bridge")
        _ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "br0", "up")

    def _namespace(self, word: str) -> str:
        name = f"{self._prefix}{word}"
        _ip("netns", "add", name)
        self._names.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def add_host(self, number: int, address: str) -> str:
        """
        @return: the name of its namespace.
        """
        name = self._namespace(str(number))
        port = f"port{number}"
        _ip("-n", self._bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self._bridge, "link", "set", port, "master", "br0", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        self.set_address(name, address)
        return name

    def set_address(self, name: str, address: str) -> None:
        """
        Its only one.
        """
        _ip("-n", name, "address", "flush", "dev", "eth0")
        _ip("-n", name, "address", "add", f"{address}/8", "dev", "eth0")

    def remove(self) -> None:
        """
        All of it.
        """
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)


@frozen
class Status:
    """
    What a host says of itself.
    """

    node_id: bytes
    external: str
    known: int


class NamespaceTests(TestCase):
    """
    Nodes on hosts of their own.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        Make the network.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        missing = _missing()
        if missing:
            raise SkipTest(missing)
        self.network = Network()
        self.addCleanup(self.network.remove)
        self.network.build()
        self.addresses = [f"45.{number}.7.1" for number in range(1, HOSTS + 1)]
        self.hosts = [self.network.add_host(number, each) for number, each in enumerate(self.addresses)]
        self.programs: list[Program] = []

    async def run_node(self, number: int, node_id: str, bootstrap: list[str]) -> Program:
        """
        Start a host's node.
        """
        command = ["ip", "netns", "exec", self.hosts[number], sys.executable]
        command += ["-m", "tests.interop.host_node", node_id, *(f"{host}:{PORT}" for host in bootstrap)]
        program = Program(self.reactor, [shutil.which("ip") or "ip", *command[1:]])
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop()))
        await program.port
        return program

    async def status(self, number: int) -> Status:
        """
        Of one host.
        """
        node_id, external, known = (await self.programs[number].command("status")).split()
        return Status(bytes.fromhex(node_id), external, int(known))

    async def become(self, numbers: list[int], condition: Callable[[int, Status], bool]) -> None:
        """
        Wait until all of some hosts are as they should be.
        """
        while True:
            states = [await self.status(number) for number in numbers]
            if all(condition(number, state) for number, state in zip(numbers, states, strict=True)):
                return
            self.last = states
            await deferLater(self.reactor, 0.2)

    def knows_itself(self, number: int, state: Status) -> bool:
        """
        Its address is voted, and its id valid there (BEP42).
        """
        return state.external == self.addresses[number] and is_valid(state.node_id, state.external)

    async def exchange(self, writer: int, readers: list[int]) -> None:
        """
        One puts, all others get.
        """
        seed, value = os.urandom(32), os.urandom(16)
        key = crypto_sign_seed_keypair(seed)[0]
        stored = await self.programs[writer].command("put", seed, b"", 1, value)
        self.assertGreaterEqual(int(stored), 2)
        reads = [self.programs[number].command("get", key, b"") for number in readers]
        self.assertEqual(await gatherResults(reads), [value.hex()] * len(readers))

    async def _hosts(self) -> None:
        every = list(range(HOSTS))
        # Ids that are not valid at these addresses, so that all have to move.
        ids = [os.urandom(20) for _ in every]
        for number in every:
            first = self.addresses[:1] if number else []
            self.programs.append(await self.run_node(number, ids[number].hex(), first))
        await self.become(every, self.knows_itself)
        for number in every:
            state = await self.status(number)
            self.assertTrue(is_valid(ids[number], state.external) or state.node_id != ids[number])
        await self.exchange(1, every)

        # One vanishes.
        *others, gone = every
        node_id = (await self.status(gone)).node_id
        await self.programs[gone].stop()
        await self.exchange(2, others)

        # It comes back elsewhere, with the id that was valid at its old place.
        self.addresses[gone] = "45.99.7.1"
        self.network.set_address(self.hosts[gone], self.addresses[gone])
        # Eight of the nine others must tell it where it is (BEP42).
        self.programs[gone] = await self.run_node(gone, node_id.hex(), self.addresses[:gone])
        await self.become([gone], self.knows_itself)
        self.assertNotEqual((await self.status(gone)).node_id, node_id)
        await self.exchange(gone, every)
        await self.exchange(0, every)
        await self.become(every, self.knows_itself)

    def test_hosts(self) -> Deferred[None]:
        """
        Ten nodes learn their addresses from each other and take ids that are
        valid there; one vanishes and nobody misses it; it comes back with
        another address, learns that, and is found again.
        """
        return Deferred.fromCoroutine(self._hosts())
