"""
Tests for L{dtt.testing.swarm}.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.config import Config
from dtt.errors import TopicLeft, UsageError, WrongType
from dtt.testing.swarm import VirtualSwarm
from tests.sweeps import sized, thorough

SEEDS = range(sized(1, 3))

#: Prints all that the members of a swarm notice, with the peer ids.
TRACE = """
from dtt.testing.swarm import VirtualSwarm
swarm = VirtualSwarm(members=3, seed=7, dht_nodes=5)
swarm.advance(5)
swarm.topics[0].broadcast(b"hello")
swarm.cut(0, 1)
swarm.advance(25)
swarm.crash(2)
swarm.advance(25)
for member in range(3):
    for event in swarm.events(member):
        print(member, event)
swarm.close()
"""


class VirtualSwarmTests(SynchronousTestCase):
    """
    Tests for L{VirtualSwarm}.
    """

    def swarm(self, members: int = 3, seed: int = 0) -> VirtualSwarm:
        """
        Return a swarm whose members have joined.
        """
        swarm = VirtualSwarm(members=members, seed=seed, dht_nodes=5)
        self.addCleanup(swarm.close)
        self.assertTrue(swarm.until(swarm.joined), f"seed {seed}")
        return swarm

    def test_messages(self) -> None:
        """
        With any seed, the members find each other, and hear each other's messages but not
        their own.
        """
        for seed in SEEDS:
            swarm = self.swarm(seed=seed)
            swarm.advance(5)
            for number, topic in enumerate(swarm.topics):
                topic.broadcast(b"from %d" % number)
            swarm.advance(2)
            for number in range(3):
                others = {b"from %d" % other for other in range(3) if other != number}
                self.assertEqual(set(swarm.heard(number)), others, f"seed {seed}")

    def trace(self) -> str:
        """
        Run L{TRACE}, and return what it prints.
        """
        here = io.StringIO()
        with contextlib.redirect_stdout(here):
            exec(TRACE, {})
        return here.getvalue()

    def test_same_seed_same_events(self) -> None:
        """
        The same seed gives the same ids and events.
        """
        output = self.trace()
        self.assertGreater(len(output.splitlines()), 20)
        self.assertEqual(self.trace(), output)

    @thorough
    def test_same_seed_in_another_process(self) -> None:
        """
        So it does in another process whose hashes have other seeds.
        """
        ran = subprocess.run(
            [sys.executable, "-c", TRACE],
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(dtt.__file__).parents[1]),
                "PYTHONHASHSEED": "7",
            },
        )
        self.assertEqual(ran.stdout, self.trace())

    def test_other_seed_other_ids(self) -> None:
        """
        Another seed gives other peer ids; so does another member.
        """
        ids: set[bytes] = set()
        for seed in range(3):
            with VirtualSwarm(members=2, seed=seed) as swarm:
                ids.update(tracker.peer_id for tracker in swarm.trackers)
        self.assertEqual(len(ids), 6)

    def test_cut(self) -> None:
        """
        Two members that are cut lose each other, but still hear each other's messages
        through the third; once mended, they can be neighbours again.
        """
        for seed in SEEDS:
            swarm = self.swarm(seed=seed)
            swarm.advance(5)
            swarm.cut(0, 1)
            ids = [tracker.peer_id for tracker in swarm.trackers]
            for one, other in ((0, 1), (1, 0)):
                lost = swarm.until(lambda: ids[other] not in swarm.topics[one].neighbors(), 120)  # noqa: B023
                self.assertTrue(lost, f"seed {seed}")
            swarm.topics[0].broadcast(b"the long way")
            swarm.advance(2)
            self.assertEqual(swarm.heard(1), [b"the long way"], f"seed {seed}")
            swarm.mend(0, 1)
            swarm.cut(0, 2)
            swarm.cut(1, 2)
            self.assertTrue(
                swarm.until(lambda swarm=swarm, ids=ids: swarm.topics[0].neighbors() == (ids[1],), 300),  # type: ignore[misc]
                f"seed {seed}",
            )

    def test_cut_all(self) -> None:
        """
        A member that is cut from all others hears nothing.
        """
        swarm = self.swarm(2)
        swarm.cut(0, 1)
        swarm.topics[0].broadcast(b"lost")
        self.assertTrue(swarm.until(lambda: not swarm.joined(), 120))
        self.assertEqual(swarm.heard(1), [])

    def test_stop(self) -> None:
        """
        A member that stops says goodbye: the others lose it at once. Its topic is left,
        and it does not count as one that must have joined.
        """
        swarm = self.swarm()
        stopped = swarm.trackers[2].peer_id
        swarm.stop(2)
        self.assertRaises(TopicLeft, swarm.topics[2].broadcast, b"too late")
        for topic in swarm.topics[:2]:
            self.assertNotIn(stopped, topic.neighbors())
        self.assertTrue(swarm.joined())

    def test_crash(self) -> None:
        """
        A member that crashes no longer sends: the others lose it later.
        """
        swarm = self.swarm()
        crashed = swarm.trackers[2].peer_id
        swarm.crash(2)
        self.assertIn(crashed, swarm.topics[0].neighbors())
        self.assertTrue(swarm.until(lambda: crashed not in swarm.topics[0].neighbors(), 120))

    def test_add(self) -> None:
        """
        A member that is added later finds the others.
        """
        swarm = self.swarm(2)
        number = swarm.add()
        self.assertEqual((number, len(swarm)), (2, 3))
        self.assertTrue(swarm.until(lambda: bool(swarm.topics[2].neighbors())))

    def test_until(self) -> None:
        """
        C{until} returns false after the given time.
        """
        swarm = self.swarm(2)
        before = swarm.now()
        self.assertFalse(swarm.until(lambda: False, 3))
        self.assertAlmostEqual(swarm.now() - before, 3, places=3)

    def test_quic(self) -> None:
        """
        Members can use quic, too.
        """
        with VirtualSwarm(members=2, config=Config(transport="quic")) as swarm:
            self.assertTrue(swarm.until(swarm.joined))

    def test_nothing_is_left(self) -> None:
        """
        C{close} can be called again, and leaves neither ports nor delayed calls.
        """
        swarm = self.swarm()
        swarm.close()
        swarm.close()
        self.assertEqual(swarm.network.listening(), set())
        self.assertEqual(list(swarm.network.clock.getDelayedCalls()), [])

    def test_what_the_application_leaves(self) -> None:
        """
        C{close} fails if the application has left a delayed call or a port.
        """
        swarm = VirtualSwarm(members=1)
        swarm.reactors[0].callLater(10_000, lambda: None)
        self.assertIn("left behind: <DelayedCall", str(self.assertRaises(AssertionError, swarm.close)))

    def test_context_manager(self) -> None:
        """
        An exception in the C{with} block is not hidden by what is left behind.
        """
        with self.assertRaises(ZeroDivisionError), VirtualSwarm(members=1) as swarm:
            swarm.reactors[0].callLater(10_000, lambda: None)
            raise ZeroDivisionError

    def test_arguments(self) -> None:
        """
        Numbers that are out of range and settings that a swarm in memory can't have are
        refused.
        """
        self.assertRaises(UsageError, VirtualSwarm, 251)
        self.assertRaises(UsageError, VirtualSwarm, -1)
        self.assertRaises(UsageError, VirtualSwarm, 1, 0)
        self.assertRaises(UsageError, VirtualSwarm, config=Config(transport="streams,iroh"))
        self.assertRaises(UsageError, VirtualSwarm, config=Config(state_dir="somewhere"))
        wrong: Any
        for name in ("members", "dht_nodes", "seed", "name", "secret", "config"):
            wrong = {name: 1.5}
            self.assertIn(name, str(self.assertRaises(WrongType, VirtualSwarm, **wrong)))
