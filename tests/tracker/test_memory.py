"""
Members that find each other again without a DHT: they were connected before.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.kept import MEMORY_DELAY, SWARMS_FILE
from dtt.tracker.tracker import Tracker
from tests.tracker.common import fixed_chance

BOOTSTRAP = ("45.1.0.1", 6881)


class SwarmMemoryTests(SynchronousTestCase):
    """
    Two trackers with state directories.
    """

    def setUp(self) -> None:
        """Start a DHT node."""
        fixed_chance(self)
        clock = HeapClock()
        clock.rightNow = 1_800_000_020.0
        self.net = MachineNetwork(clock, rng=Random(1), log_limit=0)
        self.node = DHTNode(self.net.udp.reactor(BOOTSTRAP[0]), port=BOOTSTRAP[1], rng=Random(2))
        self.node.startService()
        self.directories = [Path(self.mktemp()) for _ in range(2)]
        self.trackers: list[Tracker] = []
        self.addCleanup(self.stop)

    def start(self) -> None:
        """Start both members."""
        for number, directory in enumerate(self.directories):
            config = Config(
                transport="streams",
                state_dir=directory,
                listen=(f"198.18.{number}.1", 0),
                dht=DHTConfig(bind=f"198.18.{number}.1", bootstrap=(BOOTSTRAP,)),
            )
            reactor = self.net.reactor(f"198.18.{number}.1")
            tracker = Tracker(reactor, config, lambda event: None, Random(f"{number} {len(self.trackers)}"))
            tracker.startService()
            tracker.join("topic", b"secret")
            self.trackers.append(tracker)

    def stop(self) -> None:
        """Stop everything."""
        trackers, self.trackers = self.trackers, []
        for tracker in trackers:
            tracker.stopService()
        self.node.stopService()
        self.net.advance(3)

    def connected(self) -> list[bool]:
        """Return whether each has a neighbour."""
        return [bool(topic.neighbors()) for each in self.trackers for topic in each._topics.values()]

    def test_restart(self) -> None:
        """Without any DHT node, members that were connected are so again soon after a restart."""
        self.start()
        self.net.advance(20)
        self.assertEqual(self.connected(), [True, True])
        self.stop()
        for tracker in self.directories:
            path = tracker / SWARMS_FILE
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            (topic,) = json.loads(path.read_text())["topics"]
            self.assertEqual(len(topic["members"]), 1)
        self.start()
        self.net.advance(3)
        self.assertEqual(self.connected(), [True, True])

    def test_killed(self) -> None:
        """Neighbours are written soon, in case that the process is killed."""
        self.start()
        self.net.advance(20 + MEMORY_DELAY)
        for directory in self.directories:
            self.assertEqual(len(json.loads((directory / SWARMS_FILE).read_text())["topics"]), 1)
