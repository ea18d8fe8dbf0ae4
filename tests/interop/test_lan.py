"""
Members in one local network, without an Internet: real multicast between namespaces.
"""

from __future__ import annotations

import sys

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.hosts import HostsCase, inside
from tests.interop.peers import Program


class LocalNetworkTests(HostsCase):
    """
    Two members on two hosts of one bridge, with private addresses and no route elsewhere.
    """

    timeout = 180
    addresses_of_members = ("192.168.77.2", "192.168.77.3")

    def member(self, number: int, *options: str) -> Program:
        """Start a member on a host."""
        self.network.set_address(self.hosts[number], self.addresses_of_members[number])
        command = [sys.executable, "-m", "tests.interop.lan_member", *options]
        program = Program(self.reactor, inside(self.hosts[number], *command))
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop()))
        self.programs[number] = program
        return program

    async def _meet(self) -> None:
        members = [self.member(number) for number in range(2)]
        await gatherResults([member.port for member in members])
        neighbors = [await member.command("joined") for member in members]
        ids = [await member.command("id") for member in members]
        self.assertEqual(neighbors, ids[::-1])

    def test_meet(self) -> Deferred[None]:
        """They are neighbours soon, without any DHT node."""
        return Deferred.fromCoroutine(self._meet())

    async def _off(self) -> None:
        members = [self.member(0), self.member(1, "--no-lan")]
        await gatherResults([member.port for member in members])
        self.assertEqual(await members[0].command("alone"), "True")

    def test_off(self) -> Deferred[None]:
        """With the search off on one of them, they are not within some seconds."""
        return Deferred.fromCoroutine(self._off())
