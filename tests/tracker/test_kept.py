"""
Tests for L{dtt.tracker.kept}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.saved import SavedNode
from dtt.discovery.swarm_memory import RememberedMember
from dtt.errors import StateError
from dtt.identity import PeerKey
from dtt.tracker.kept import KEY_FILE, MEMORY_DELAY, PORTS_FILE, SWARMS_FILE, KeptState
from dtt.tracker.saved import SavedPorts
from dtt.wire.addresses import STREAMS, PeerAddress

MEMBER = RememberedMember(
    PeerKey.from_seed(b"m" * 32).peer_id, (PeerAddress(STREAMS, "192.0.2.1", 1),), 1_800_000_000.0
)
TOPIC = b"t" * 16


class KeptStateTests(SynchronousTestCase):
    """
    Tests for L{KeptState}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())

    def state(self, *, with_memory: bool = True, may_write: bool = True) -> KeptState:
        """
        A state that is locked and loaded.
        """
        state = KeptState(self.clock, self.path)
        state.lock()
        state.load(with_memory=with_memory)
        state.may_write = may_write
        return state

    def files(self) -> set[str]:
        """
        The files of the directory with a value.
        """
        return {each.name for each in self.path.iterdir()} & {KEY_FILE, PORTS_FILE, SWARMS_FILE}

    def remember(self, state: KeptState) -> None:
        """
        Remember a member.
        """
        assert state.memory is not None
        state.memory.remember(TOPIC, MEMBER)

    def test_nothing_kept(self) -> None:
        """
        Without a directory there is nothing, and everything can be called.
        """
        state = KeptState(self.clock, None)
        state.lock()
        state.load(with_memory=True)
        state.may_write = True
        self.assertEqual((state.ports, state.node, state.memory), (SavedPorts(), SavedNode(), None))
        self.assertIsNone(state.key())
        state.save(None)
        state.unlock()

    def test_kept(self) -> None:
        """
        The key is made once; ports and members are read by the next run.
        """
        state = self.state()
        key = state.key()
        assert key is not None
        state.ports = evolve(state.ports, dht=6881)
        self.remember(state)
        state.save(None)
        state.unlock()
        again = self.state()
        made = again.key()
        assert made is not None
        assert again.memory is not None
        self.assertEqual((made.peer_id, again.ports), (key.peer_id, SavedPorts(dht=6881)))
        self.assertEqual(again.memory.members(TOPIC, MEMBER.at), [MEMBER])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_memory_soon(self) -> None:
        """
        A change of the members is written soon, together with those that follow.
        """
        state = self.state()
        self.remember(state)
        self.clock.advance(MEMORY_DELAY - 1)
        self.remember(state)
        self.assertEqual(self.files(), set())
        self.clock.advance(1)
        self.assertEqual(self.files(), {SWARMS_FILE})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        (self.path / SWARMS_FILE).unlink()
        self.remember(state)
        self.clock.advance(MEMORY_DELAY)
        self.assertEqual(self.files(), {SWARMS_FILE})

    def test_without_memory(self) -> None:
        """
        If no members are to be remembered, those of earlier runs are neither read nor lost.
        """
        state = self.state()
        self.remember(state)
        state.save(None)
        state.unlock()
        before = (self.path / SWARMS_FILE).read_bytes()
        state = self.state(with_memory=False)
        self.assertIsNone(state.memory)
        state.save(None)
        self.assertEqual((self.path / SWARMS_FILE).read_bytes(), before)

    def test_not_before_the_ports(self) -> None:
        """
        Nothing is written before that is allowed.
        """
        state = self.state(may_write=False)
        self.remember(state)
        state.save(None)
        self.clock.advance(MEMORY_DELAY)
        self.assertEqual(self.files(), set())

    def test_not_after_unlocking(self) -> None:
        """
        Nothing is written after the directory is unlocked: it may be another process's.
        """
        state = self.state()
        self.remember(state)
        state.unlock()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.remember(state)
        state.save(None)
        self.clock.advance(MEMORY_DELAY)
        self.assertEqual(self.files(), set())

    def test_locked(self) -> None:
        """
        One process at a time uses the directory.
        """
        state = self.state()
        self.assertRaises(StateError, self.state)
        state.unlock()
        state.unlock()
        self.state().unlock()

    def test_damaged(self) -> None:
        """
        A file that can't be used is put aside, and the rest is read.
        """
        state = self.state()
        state.ports = SavedPorts(streams=4433)
        self.remember(state)
        state.save(None)
        state.unlock()
        (self.path / SWARMS_FILE).write_text(json.dumps({"version": 99}))
        again = self.state()
        assert again.memory is not None
        self.assertEqual(again.ports, SavedPorts(streams=4433))
        self.assertEqual(again.memory.members(TOPIC, MEMBER.at), [])
        self.assertEqual(self.files(), {PORTS_FILE})

    def test_relative(self) -> None:
        """
        A relative path means the same place when the working directory changes.
        """
        state = self.state()
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir("/")
        state.save(None)
        os.chdir(before)
        self.assertEqual(self.files(), {PORTS_FILE, SWARMS_FILE})
