"""
The code of how-to guides, run as shown on machines in memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt.dht.node import DHTNode
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker import tracker
from tests.tracker.common import without_iroh

DOCS = Path(dtt.__file__).parents[1] / "docs"

#: The bootstrap host whose name the guides or the defaults contain.
HOST = "router.bittorrent.com"


def blocks(page: str) -> list[str]:
    """
    The Python blocks of a page.
    """
    if not DOCS.exists():
        raise SkipTest("the documentation is not beside an installed package")
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


class HowToCase(SynchronousTestCase):
    """
    A DHT node that answers under the name of a public one, and programs on other machines.
    """

    page = ""

    def setUp(self) -> None:
        """Start the node."""
        without_iroh(self)
        clock = HeapClock()
        clock.advance(1_800_000_000)
        self.network = MachineNetwork(clock, rng=Random(1))
        self.network.udp.names[HOST] = ["10.0.0.1"]
        self.services: list[Any] = []
        self.printed: list[tuple[Any, ...]] = []
        self.run_service(DHTNode(self.network.reactor("10.0.0.1"), port=6881, rng=Random(2)))
        self.addCleanup(self.stop)

    def run_service(self, service: Any) -> None:
        """Start a service."""
        service.privilegedStartService()
        service.startService()
        self.services.append(service)

    def stop(self) -> None:
        """Stop everything, and check that nothing is left."""
        for service in self.services:
            service.stopService()
        self.network.advance(5)
        self.assertEqual(self.network.listening(), set())

    def program(self, number: int, *numbers: int, **names: Any) -> dict[str, Any]:
        """
        Start a program, which consists of some blocks of the page, on a separate machine;
        return its names.
        """
        self.patch(tracker, "SystemRandom", lambda: Random(number + 100))
        application = MultiService()
        self.run_service(application)
        names |= {
            "application": application,
            "reactor": self.network.reactor(f"10.1.1.{number}"),
            "print": lambda *words: self.printed.append((number, *words)),
        }
        self.run_blocks(names, *numbers)
        return names

    def run_blocks(self, names: dict[str, Any], *numbers: int) -> None:
        """Run further blocks of the page in a program."""
        for each in numbers:
            exec(compile(blocks(self.page)[each], self.page, "exec"), names)


class DiscoveryTests(HowToCase):
    """
    docs/how-to/discovery.md.
    """

    page = "how-to/discovery.md"

    def test_discovery(self) -> None:
        """Two programs find each other's content; the coroutine sees it, and the end."""
        one, two = self.program(1, 0), self.program(2, 0, 1)
        self.network.advance(10)
        ids = [names["tracker"].peer_id.hex()[:10] for names in (one, two)]
        self.assertEqual(
            sorted(self.printed, key=lambda words: (words[0], words[1])),
            [
                (1, ids[1], "is", "ipp://192.0.2.7/"),
                (2, ids[0], "is", "ipp://192.0.2.7/"),
                (2, "found", "ipp://192.0.2.7/"),
            ],
        )
        two["application"].stopService()
        self.network.advance(2)
        self.assertIn((2, "the service has ended"), self.printed)
        self.successResultOf(two["following"])

    def test_postcard(self) -> None:
        """The content for Rust is a length and the bytes, and is read back."""
        names: dict[str, Any] = {}
        self.run_blocks(names, 2)
        self.assertEqual((names["content"], names["text"]), (b"\x10ipp://192.0.2.7/", "ipp://192.0.2.7/"))


class OwnPartsTests(HowToCase):
    """
    docs/how-to/own-parts.md.
    """

    page = "how-to/own-parts.md"

    def test_own_parts(self) -> None:
        """Programs with their own keys and nodes find each other, sign, show their status, and greet a
        neighbour."""
        one, two = self.program(1, 0, 1, 4, seed=b"1" * 32), self.program(2, 0, seed=b"2" * 32)
        self.network.advance(10)
        self.assertEqual(one["topic"].neighbors(), (two["tracker"].peer_id,))
        self.run_blocks(one, 2)
        (_, shown, ports), *_, (_, nodes) = self.printed
        self.assertEqual((shown, sorted(ports)), (one["tracker"], ["dht", "quic", "streams"]))
        self.assertGreater(nodes, 0)
        greeted: list[bytes] = []
        two["topic"].messages().next().addCallback(lambda message: greeted.append(message.content))
        self.successResultOf(Deferred.fromCoroutine(one["greet"](two["tracker"].peer_id)))
        self.network.advance(1)
        self.assertEqual(greeted, [b"hello, neighbour"])

    def test_accept(self) -> None:
        """Only friends become neighbours."""
        one, two = self.program(1, 0, 3, seed=b"1" * 32), self.program(2, 0, 3, seed=b"2" * 32)
        for names, other in ((one, two), (two, one)):
            names["friends"].add(other["tracker"].peer_id)
        three = self.program(3, 0, seed=b"3" * 32)
        stranger = three["tracker"].join("friends only", secret=b"between us")
        self.network.advance(30)
        self.assertEqual(one["choosy"].neighbors(), (two["tracker"].peer_id,))
        self.assertEqual(stranger.neighbors(), ())
