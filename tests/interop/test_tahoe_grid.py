"""
A grid of Tahoe-LAFS without an introducer, as C{examples/tahoe_grid} describes it: whole
processes on the loopback interface.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from dtt.config import Config, DHTConfig
from dtt.contrib.latest import LatestValues
from dtt.contrib.latest_wire import TO_SWARM, Entry, encode_entry
from dtt.tracker.tracker import Tracker
from tests.examples import load
from tests.interop import tahoe
from tests.interop.support import LOOPBACK, NO_INTEROP

SCRIPT = "from dtt.cli.main import main; main()"
SECRET = b"between our nodes"
SIZE = 1_000_000


class TahoeGridTests(TestCase):
    """
    Three storage nodes and a client, each with a bridge.
    """

    skip = NO_INTEROP
    timeout = 900

    def setUp(self) -> None:
        """
        Make the secret and a DHT.
        """
        reason = tahoe.install()
        if reason is not None:
            raise SkipTest(reason)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.secret = self.folder / "secret"
        self.secret.touch(0o600)
        self.secret.write_bytes(SECRET)
        self.bootstrap: list[str] = []
        for number, port in enumerate(tahoe.free_ports(3)):
            others = [word for each in self.bootstrap[:1] for word in ("--bootstrap", each)]
            node = tahoe.Process(
                self.folder / f"dht{number}.log",
                *(sys.executable, "-c", SCRIPT, "node", "--closed", "--bind", LOOPBACK),
                *("--port", str(port), *(others or ("--bootstrap", f"{LOOPBACK}:9"))),
            )
            self.addCleanup(node.end)
            node.start()
            self.bootstrap.append(f"{LOOPBACK}:{port}")

    async def until(self, condition: object, seconds: float = 90) -> None:
        """
        Wait until a coroutine function or function returns true.
        """
        assert callable(condition)
        end = time.monotonic() + seconds
        while not await maybeDeferred(condition):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds:.0f} s; logs are in {self.folder}")
            await deferLater(installed, 0.1)

    async def machine(self, name: str, storage: bool = True) -> tahoe.Machine:
        """
        Start a bridge, make the node with the FURL of the bridge, and start it.
        """
        machine = tahoe.Machine(self.folder, name, self.bootstrap, self.secret)
        self.addCleanup(machine.end)
        machine.bridge.start()
        await self.until(lambda: machine.bridge.said("ready"))
        await deferToThread(machine.create, storage)
        machine.node.start()
        return machine

    async def sees(self, client: tahoe.Machine, names: set[str]) -> float:
        """
        Wait until a node is connected to exactly these servers.

        @return: how many seconds it took.
        """
        start = time.monotonic()
        found: dict[str, bool] = {}

        async def connected() -> bool:
            nonlocal found
            found = await client.servers()
            return {name for name, is_connected in found.items() if is_connected} == names

        try:
            await self.until(connected)
        except AssertionError:
            raise AssertionError(f"expected {names}, found {found}; logs are in {self.folder}") from None
        return time.monotonic() - start

    async def test_grid(self) -> None:
        """
        The grid starts from nothing; a file of 1 MB is stored, and read with one node of
        three dead; bridges and nodes that were killed come back; a fourth storage node is
        found; an announcement that its node has not signed is refused.
        """
        starting = [Deferred.fromCoroutine(self.machine(f"storage{number}")) for number in range(3)]
        starting.append(Deferred.fromCoroutine(self.machine("client", storage=False)))
        *nodes, client = await gatherResults(starting)
        names = {node.name for node in nodes}
        taken = await self.sees(client, names)
        print(f"\n3 servers {taken:.1f} s after the start of the nodes")

        data = os.urandom(SIZE)
        capability = await client.upload(data)
        self.assertEqual(await client.download(capability), data)

        # Without one node and its bridge.
        nodes[0].bridge.kill()
        nodes[0].node.kill()
        await self.sees(client, names - {nodes[0].name})
        self.assertEqual(await client.download(capability), data)
        nodes[0].bridge.start()
        nodes[0].node.start()
        taken = await self.sees(client, names)
        print(f"the killed one {taken:.1f} s after its start")

        # A client that restarts with nothing in its cache depends on its bridge; the bridge
        # depends on the others.
        client.bridge.kill()
        client.node.kill()
        for cache in (client.folder / "tahoe" / "private").glob("introducer*cache*"):
            cache.unlink()
        client.bridge.start()
        client.node.start()
        taken = await self.sees(client, names)
        print(f"3 servers {taken:.1f} s after the restart of the client and its bridge")
        self.assertEqual(await client.download(capability), data)

        nodes.append(await self.machine("storage3"))
        names.add("storage3")
        await self.sees(client, names)

        await self.forge(nodes[1], client)
        await self.sees(client, names)
        self.assertEqual(await client.download(capability), data)

    async def forge(self, victim: tahoe.Machine, client: tahoe.Machine) -> None:
        """
        Be a member that knows the secret, and send an announcement in the name of a node.
        """
        host, _, port = self.bootstrap[0].partition(":")
        dht = DHTConfig(bind=LOOPBACK, bootstrap=((host, int(port)),))
        tracker = Tracker(installed, Config(transport="streams", listen=(LOOPBACK, 0), dht=dht))
        tracker.privilegedStartService()
        tracker.startService()
        topic = tracker.join("our grid", SECRET)
        state = LatestValues(installed, topic)
        try:
            await self.until(lambda: len(state) == 4)
            announcement = load("tahoe_grid/announcement").Announcement
            true = next(
                found
                for found in map(announcement.from_entry, state.entries())
                if json.loads(found.text)["nickname"] == victim.name
            )
            content = json.loads(true.text)
            content["seqnum"] = true.number + 1
            content["nickname"] = "forged"
            forged = announcement(
                json.dumps(content).encode(), true.signature, true.key, true.service, true.number + 1
            )
            await topic.broadcast(encode_entry(Entry(forged.author, forged.number, forged.value), TO_SWARM))
            for machine in (victim, client):
                await self.until(
                    lambda machine=machine: machine.bridge.said(
                        "an announcement was refused: wrong signature"
                    )
                )
            self.assertNotIn("forged", await client.servers())
        finally:
            state.close()
            await maybeDeferred(tracker.stopService)
