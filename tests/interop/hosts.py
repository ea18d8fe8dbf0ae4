"""
Hosts with their own addresses, as network namespaces on one bridge, for tests that are
impossible on loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from dtt.dht.routing.ids import is_valid
from tests.interop.peers import Program
from tests.interop.support import NO_INTEROP

HOSTS = 10


def _ip(*words: object) -> None:
    subprocess.run(
        ["ip", *(str(word) for word in words)], check=True, capture_output=True, text=True, timeout=10
    )


def inside(name: str, *command: str) -> list[str]:
    """
    The command that runs C{command} in a namespace.
    """
    return [shutil.which("ip") or "ip", "netns", "exec", name, *command]


def missing() -> str | None:
    """
    The reason why namespaces can't be created here; C{None} if they can.
    """
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
    Host namespaces, and one that is the bridge between them. All addresses are in 45/8:
    public according to BEP42, and in separate networks according to the rules against
    many nodes in one network.

    @ivar bridge: the name of the bridge's namespace.
    """

    bridge: str

    def __init__(self) -> None:
        self._prefix = f"dtt{os.getpid()}"
        self._names: list[str] = []

    def build(self) -> None:
        """
        Create the bridge.
        """
        self.bridge = self._namespace("bridge")
        _ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.bridge, "link", "set", "br0", "up")

    def _namespace(self, word: str) -> str:
        name = f"{self._prefix}{word}"
        _ip("netns", "add", name)
        self._names.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def add_host(self, number: int, address: str) -> str:
        """
        Add a host.

        @return: the name of its namespace.
        """
        name = self._namespace(str(number))
        port = f"port{number}"
        _ip("-n", self.bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self.bridge, "link", "set", port, "master", "br0", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        self.set_address(name, address)
        return name

    def isolate(self, number: int) -> None:
        """
        Let a host communicate only with hosts that are not isolated.
        """
        _ip("-n", self.bridge, "link", "set", f"port{number}", "type", "bridge_slave", "isolated", "on")

    def add_gateway(self, name: str, address: str) -> None:
        """
        Set the gateway of a host.
        """
        _ip("-n", name, "route", "add", "default", "via", address)

    def add_address(self, name: str, address: str) -> None:
        """
        Add an address.
        """
        _ip("-n", name, "address", "add", f"{address}/8", "dev", "eth0")

    def set_address(self, name: str, address: str) -> None:
        """
        Replace all addresses with one.
        """
        _ip("-n", name, "address", "flush", "dev", "eth0")
        self.add_address(name, address)

    def remove(self) -> None:
        """
        Remove all namespaces.
        """
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)


@frozen
class Status:
    """
    The status that a dtt node on a host reports.
    """

    node_id: bytes
    external: str
    known: int


class HostsCase(TestCase):
    """
    Tests with programs on several hosts.

    @ivar addresses: the address of each host; a test that changes one has to change it
        here, too.
    @ivar hosts: the names of their namespaces.
    @ivar programs: the program on each host, if any.
    """

    def setUp(self) -> None:
        """
        Create the network.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        reason = missing()
        if reason:
            raise SkipTest(reason)
        self.network = Network()
        self.addCleanup(self.network.remove)
        self.network.build()
        self.addresses = [f"45.{number}.7.1" for number in range(1, HOSTS + 1)]
        self.hosts = [self.network.add_host(number, each) for number, each in enumerate(self.addresses)]
        self.programs: dict[int, Program] = {}

    async def start(self, number: int, command: Sequence[str]) -> Program:
        """
        Start a program on a host, and wait until it is ready.
        """
        program = Program(self.reactor, inside(self.hosts[number], *command))
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop()))
        self.programs[number] = program
        await program.port
        return program

    async def status(self, number: int) -> Status:
        """
        The status of the dtt node on a host.
        """
        node_id, external, known = (await self.programs[number].command("status")).split()
        return Status(bytes.fromhex(node_id), external, int(known))

    async def become(self, numbers: list[int], condition: Callable[[int, Status], bool]) -> None:
        """
        Wait until the status of the dtt nodes on some hosts is as expected.
        """
        while True:
            states = [await self.status(number) for number in numbers]
            if all(condition(number, state) for number, state in zip(numbers, states, strict=True)):
                return
            self.last = states
            await deferLater(self.reactor, 0.2)

    def knows_itself(self, number: int, state: Status) -> bool:
        """
        Does it know its address, and is its id valid there (BEP42)?
        """
        return state.external == self.addresses[number] and is_valid(state.node_id, state.external)
