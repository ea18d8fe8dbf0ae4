"""
Tests for L{benchmarks.wan}: hosts, and the simulated Internet between them.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from benchmarks.wan.carrier import Address, Internet, Passage
from benchmarks.wan.host import Host, missing
from benchmarks.wan.packets import SYN, TCP, UDP
from tests.interop.support import NO_INTEROP

#: Two hosts, the second one with two addresses, and a node of the model.
FIRST, SECOND, THIRD, NODE = "61.0.0.1", "61.0.1.1", "61.0.2.1", "61.0.3.1"

DELAY = 0.05

#: Connects from one address to another one in the same namespace or to a listener in another process.
LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 4000)) as server:
    server.settimeout(10)
    connection, address = server.accept()
    connection.sendall(address[0].encode())
"""

CONNECT = """
import socket, sys, time
until = time.monotonic() + 10
while True:
    try:
        began = time.monotonic()
        with socket.create_connection((sys.argv[2], 4000), 5, (sys.argv[1], 0)) as connection:
            print(connection.recv(100).decode(), time.monotonic() - began)
            break
    except ConnectionRefusedError:
        if time.monotonic() > until:
            raise
        time.sleep(0.05)
"""

ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(float(sys.argv[1]))
    asker.sendto(b"who?", (sys.argv[2], 1234))
    print(*asker.recvfrom(100))
"""


class Ways:
    """
    The same latency between all hosts.
    """

    def delay(self, source: str, destination: str) -> float:
        """
        The one-way latency.
        """
        return DELAY


class Model:
    """
    A DHT of one node, which is also the bootstrap node.
    """

    bootstrap = ((NODE, 6881),)

    def has(self, host: str) -> bool:
        """
        Only the bootstrap node exists.
        """
        return False

    def answer(self, data: bytes, source: Address, destination: Address, now: float) -> bytes | None:
        """
        Answer with the addresses of the query.
        """
        return b"%b from %b to port %d" % (data, source[0].encode(), destination[1])


class WANTests(TestCase):
    """
    Tests for L{Host} and L{Internet}.
    """

    timeout = 180

    def setUp(self) -> None:
        """
        Create the Internet.
        """
        from twisted.internet import reactor

        reason = NO_INTEROP or missing()
        if reason:
            raise SkipTest(reason)
        self.passages: list[Passage] = []
        self.internet = Internet(reactor, Random(1), Ways(), 0.0, dht=Model())
        self.internet.watchers.append(self.passages.append)
        self.hosts = [Host((FIRST,), {"some.name": NODE}), Host((SECOND, THIRD))]
        for host in self.hosts:
            self.addCleanup(host.close)
            self.internet.attach(host)
        self.addCleanup(self.internet.stop)

    def run_on(self, host: Host, script: str, *words: object) -> Deferred[Any]:
        """
        The output of a script, split into words.
        """
        command = host.enter(sys.executable, "-c", script, *map(str, words))

        def said(result: Any) -> list[str]:
            output, errors, code = result
            assert code == 0, errors.decode()
            return str(output.decode()).split()

        done: Deferred[Any] = getProcessOutputAndValue(command[0], command[1:])
        return done.addCallback(said)

    async def connect(self, source: Host, source_address: str, target: Host, address: str) -> None:
        """
        A TCP connection and its answer take two round trips.
        """
        listening = self.run_on(target, LISTEN, address)
        seen_from, took = await self.run_on(source, CONNECT, source_address, address)
        await listening
        self.assertEqual(seen_from, source_address)
        # The handshake, and the bytes that directly follow its last packet.
        self.assertGreater(float(took), 3.9 * DELAY)
        self.assertLess(float(took), 20 * DELAY)
        self.assertTrue(
            any(
                each.packet.protocol == TCP and each.packet.flags & SYN and each.packet.destination == address
                for each in self.passages
            )
        )

    async def test_tcp(self) -> None:
        """
        Hosts connect to each other, with the configured delay.
        """
        await self.connect(self.hosts[0], FIRST, self.hosts[1], SECOND)

    async def test_inside(self) -> None:
        """
        Packets between two addresses of one host are carried, too.
        """
        await self.connect(self.hosts[1], SECOND, self.hosts[1], THIRD)

    async def test_model(self) -> None:
        """
        The model answers, and its bootstrap hosts do so at any port.
        """
        said = " ".join(await self.run_on(self.hosts[0], ASK, 5, "some.name"))
        self.assertEqual(said, f"b'who? from {FIRST} to port 6881' ('{NODE}', 1234)")
        there, back = [each for each in self.passages if each.packet.protocol == UDP]
        self.assertLess(DELAY, back.sent - there.sent)
        self.assertLess(back.sent - there.sent, 2 * DELAY)

    async def test_silent(self) -> None:
        """
        Packets of a silent host are dropped.
        """
        self.internet.silent.add(NODE)
        with self.assertRaises(AssertionError):
            await self.run_on(self.hosts[0], ASK, 0.5, "some.name")
        self.assertEqual(self.internet.counters["lost"], 1)

    async def test_nowhere(self) -> None:
        """
        A packet to an unknown address has no destination.
        """
        with self.assertRaises(AssertionError):
            await self.run_on(self.hosts[0], ASK, 0.5, "61.0.9.9")
        self.assertEqual([each.arrived for each in self.passages], [None])
        self.assertEqual(self.internet.counters["nowhere"], 1)
