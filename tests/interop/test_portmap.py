"""
Tests for L{dtt.portmap} with a real router: miniupnpd in a network namespace.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import SkipTest, TestCase

from dtt.portmap import upnp
from tests.interop.nat import Daemon
from tests.interop.nat_network import PUBLIC, SYM_NATPMP, SYM_PCP, Internet, Site, Weather, no_port_mapping
from tests.interop.peers import Program
from tests.interop.support import NO_INTEROP

#: Seconds of a mapping.
LIFETIME = 8

#: Sends a line to an address, and prints the answer.
ASK = """
import socket, sys
kind, host, port = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM) as asker:
    asker.settimeout(1)
    try:
        asker.connect((host, int(port)))
        asker.send(b"who?")
        print(asker.recv(100).decode())
    except OSError:
        print("nothing")
"""


@frozen(slots=True)
class Found:
    """
    What the mapping host reports.
    """

    transport: str
    host: str
    external: int
    method: str
    granted: int


class PortMappingTests(TestCase):
    """
    Tests for L{dtt.portmap.mapper.PortMapper}.
    """

    timeout = 180

    def setUp(self) -> None:
        """
        Create the Internet, and a public site.
        """
        from twisted.internet import reactor

        if reason := NO_INTEROP or no_port_mapping():
            raise SkipTest(reason)
        self.reactor: Any = reactor
        self.internet = Internet(reactor, Weather())
        self.addCleanup(self.internet.close)
        self.outside = self.site(PUBLIC)

    def site(self, kind: str) -> Site:
        """
        Return a new site.
        """
        site = self.internet.site(kind)
        self.addCleanup(site.close)
        return site

    async def begin(self, site: Site, *settings: str) -> Program:
        """
        Start the router and the machine behind it.
        """
        self.daemon = self.start_router(site, *settings)
        await deferLater(self.reactor, 0.5)
        command = [sys.executable, "-m", "tests.interop.portmap_host", str(LIFETIME)]
        program = Program(self.reactor, site.machine.enter(*command))
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop()))
        await program.port
        return program

    def start_router(self, site: Site, *settings: str) -> Daemon:
        """
        Start miniupnpd on the router of a site.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        daemon = Daemon()
        command = site.miniupnpd(folder.absolute(), *settings)
        self.reactor.spawnProcess(daemon, command[0], command)
        self.addCleanup(daemon.stop)
        return daemon

    async def mappings(self, program: Program) -> list[Found]:
        """
        What is mapped.
        """
        answer = await program.command("mappings")
        split = [word.split(",") for word in answer.split() if word != "-"]
        return [Found(kind, host, int(port), method, int(n)) for kind, host, port, method, n in split]

    async def mapped(self, program: Program, granted: int = 2) -> list[Found]:
        """
        Wait until both ports are mapped.

        @param granted: the fewest answers of the router.
        """
        while len(found := await self.mappings(program)) < 2 or found[0].granted < granted:
            await deferLater(self.reactor, 0.1)
        return found

    async def ask(self, found: Found) -> str:
        """
        What a machine outside hears from a mapped port.
        """
        command = self.outside.machine.enter(
            sys.executable, "-c", ASK, found.transport, found.host, str(found.external)
        )
        output = await getProcessOutput(command[0], command[1:])
        return str(output.decode().strip())

    async def check(self, site: Site, program: Program, method: str) -> None:
        """
        The ports are mapped, reachable, renewed and removed.
        """
        found = await self.mapped(program)
        self.assertEqual({each.transport for each in found}, {"TCP", "UDP"})
        for each in found:
            self.assertEqual((each.host, each.method), (site.public, method))
            self.assertEqual(await self.ask(each), "heard who?")
        # More than the lifetime that was asked for.
        await deferLater(self.reactor, LIFETIME + 2.0)
        again = await self.mapped(program, granted=4)
        self.assertEqual(
            {(each.transport, each.external) for each in again},
            {(each.transport, each.external) for each in found},
        )
        for each in again:
            self.assertEqual(await self.ask(each), "heard who?")
        await program.command("stop")
        self.assertEqual(await self.mappings(program), [])
        await deferLater(self.reactor, 0.2)
        for each in again:
            self.assertEqual(await self.ask(each), "nothing")

    async def test_pcp(self) -> None:
        """
        With PCP, ports are mapped, renewed, and removed at the end.
        """
        site = self.site(SYM_PCP)
        program = await self.begin(site, "enable_natpmp=yes", "min_lifetime=2")
        await self.check(site, program, "PCP")

    async def test_nat_pmp(self) -> None:
        """
        The same with NAT-PMP, where PCP is not answered.
        """
        site = self.site(SYM_NATPMP)
        program = await self.begin(site, "enable_natpmp=yes", "min_lifetime=2")
        await self.check(site, program, "NAT-PMP")

    async def test_upnp(self) -> None:
        """
        The same with UPnP, where neither is answered.
        """
        if not upnp.is_installed():
            raise SkipTest("miniupnpc can't be imported (pip install '.[upnp]')")
        site = self.site(SYM_PCP)
        program = await self.begin(site, "enable_natpmp=no")
        await self.check(site, program, "UPnP")

    async def test_expires(self) -> None:
        """
        If the machine vanishes, the router ends its mappings.
        """
        site = self.site(SYM_PCP)
        program = await self.begin(site, "enable_natpmp=yes", "min_lifetime=2")
        found = await self.mapped(program)
        self.assertEqual([each.external in self.forwarded(site) for each in found], [True, True])
        await program.stop()
        await deferLater(self.reactor, LIFETIME + 4.0)
        self.assertEqual([each.external in self.forwarded(site) for each in found], [False, False])

    def forwarded(self, site: Site) -> set[int]:
        """
        The ports that a router forwards.
        """
        rules = site.home.run("nft", "list", "table", "inet", "filter")
        return {int(port) for port in re.findall(r"dport (\d+)", rules)}

    async def test_restarted(self) -> None:
        """
        A router that has restarted, and has lost its mappings, gets them again with the
        next renewal.
        """
        site = self.site(SYM_PCP)
        program = await self.begin(site, "enable_natpmp=yes", "min_lifetime=2")
        await self.mapped(program)
        await self.daemon.stop()
        for chain in ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"):
            site.home.run("nft", "flush", "chain", "inet", "filter", chain)
        self.start_router(site, "enable_natpmp=yes", "min_lifetime=2")
        for each in await self.mapped(program, granted=4):
            self.assertEqual(await self.ask(each), "heard who?")
