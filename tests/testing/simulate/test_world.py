"""
Tests for L{dtt.testing.simulate.world} and its members.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.testing.simulate.members import Member, parts
from dtt.testing.simulate.setting import Setting
from dtt.testing.simulate.world import World
from tests.sweeps import thorough
from tests.tracker.common import without_iroh

SMALL = Setting(nodes=60)

#: Runs a small world, and prints its trace hash.
TRACE = """
from dtt.testing.simulate.setting import Setting
from dtt.testing.simulate.world import World
from dtt.transport.iroh import bindings
bindings.unavailable_reason = lambda: ""
with World(Setting(nodes=60), seed=3) as world:
    for _ in range(2):
        world.start(world.member())
    world.until(world.all_joined, 30)
    world.members[0].runner.broadcast(b"hello")
    world.advance(2)
    print(world.digest())
"""


class WorldTests(SynchronousTestCase):
    """
    Tests for L{World}.
    """

    def setUp(self) -> None:
        without_iroh(self)

    def joined(self, world: World, count: int) -> list[Member]:
        """Start members, and wait until they are one swarm."""
        members = [world.start(world.member()) for _ in range(count)]
        self.assertTrue(world.until(lambda: world.all_joined() and world.is_one_swarm(), 30))
        return members

    def test_same_trace(self) -> None:
        """The same seed gives the same datagrams at the same times, in another process, too."""
        here = io.StringIO()
        with redirect_stdout(here):
            exec(TRACE, {})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
        ran = subprocess.run(
            [sys.executable, "-c", TRACE],
            cwd=Path(dtt.__file__).parents[1],
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(ran.stdout, here.getvalue(), ran.stderr)
        self.assertRegex(ran.stdout, r"\A[0-9a-f]+\n\Z")

    def test_another_seed(self) -> None:
        """Another seed gives another world."""
        with World(SMALL, seed=1) as one, World(SMALL, seed=2) as other:
            self.assertNotEqual(one.member().peer_id, other.member().peer_id)
            self.assertNotEqual(one.dht.nodes()[0].host, other.dht.nodes()[0].host)

    def test_meet(self) -> None:
        """Members meet, and hear each other; what they send is counted."""
        with World(SMALL, seed=1) as world:
            one, other = self.joined(world, 2)
            one.runner.broadcast(b"hello")
            world.advance(1)
            self.assertIn(b"hello", other.heard)
            self.assertGreater(one.sent_to_join, 10)
            self.assertGreater(one.messages["membership"], 0)
            self.assertGreater((one.finds() + other.finds())["record_slot_joined"], 0)
            self.assertEqual(world.curve[-1][1:], (2, 2))
            self.assertEqual(parts(world.members), [2])
        self.assertEqual(world.net.listening(), set())

    def test_upstream(self) -> None:
        """Members with upstream's rule meet each other, and those with dtt's."""
        with World(SMALL, seed=1) as world:
            members = [world.start(world.member(rule)) for rule in ("upstream", "upstream", "dtt")]
            self.assertTrue(world.until(lambda: world.all_joined() and world.is_one_swarm(), 60))
            members[0].runner.broadcast(b"hello")
            world.advance(1)
            self.assertIn(b"hello", members[1].heard)
            self.assertIn(b"hello", members[2].heard)

    @thorough
    def test_sleep(self) -> None:
        """A member that sleeps is missed, and is one of them again some time after it wakes elsewhere."""
        with World(SMALL, seed=2) as world:
            one, other = self.joined(world, 2)
            world.sleep(one)
            self.assertTrue(world.until(lambda: one.peer_id not in other.neighbors(), 120))
            world.wake(one, world.host())
            self.assertFalse(world.all_joined())
            self.assertTrue(world.until(world.all_joined, 60))
            self.assertGreater(one.seconds or 0, 0)

    def test_kill(self) -> None:
        """A member that was killed starts again as the same member elsewhere."""
        with World(SMALL, seed=3) as world:
            one, other = self.joined(world, 2)
            host = one.host
            world.kill(one)
            self.assertEqual(one.neighbors(), ())
            world.advance(10)
            world.restart(one)
            self.assertNotEqual(one.host, host)
            self.assertTrue(world.until(world.all_joined, 60))
            self.assertIn(one.peer_id, other.neighbors())

    def test_bad_rule(self) -> None:
        """There are two rules."""
        self.assertRaises(ValueError, Setting, rule="other")
