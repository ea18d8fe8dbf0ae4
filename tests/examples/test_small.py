"""
Tests for the examples that are fragments: they run in a swarm in memory.
"""

from __future__ import annotations

from typing import Any

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig
from dtt.records.topic import TopicId
from dtt.testing.swarm import VirtualSwarm
from dtt.tracker.tracker import Tracker
from tests.examples import EXAMPLES, load
from tests.test_docs import keys
from tests.tracker.common import fixed_chance


class TwoTopicsTests(SynchronousTestCase):
    """
    Tests for examples/two_topics.py.
    """

    def test_rooms(self) -> None:
        """
        Everyone hears the lobby; only who knows the secret hears the staff.
        """
        module = load("two_topics")
        with VirtualSwarm(members=3, seed=1) as swarm:
            shown: list[list[str]] = [[], [], []]
            secrets = (b"ours", b"ours", b"a guess")
            rooms = [
                module.open_rooms(tracker, secret, lines.append)
                for tracker, secret, lines in zip(swarm.trackers, secrets, shown, strict=True)
            ]
            swarm.advance(20)
            for lobby, staff in rooms[:1]:
                lobby.say("hello, all")
                staff.say("hello, staff")
            swarm.advance(5)
            self.assertIn("lobby: 'hello, all'", shown[1])
            self.assertIn("staff: 'hello, staff'", shown[1])
            self.assertIn("lobby: 'hello, all'", shown[2])
            self.assertEqual([line for line in shown[2] if line.startswith("staff")], [])


class OwnRotationTests(SynchronousTestCase):
    """
    Tests for examples/own_rotation.py.
    """

    def setUp(self) -> None:
        self.module: Any = load("own_rotation")

    def join(self, swarm: VirtualSwarm, number: int, key: bytes, days: int = 0) -> Any:
        """
        Join with the key that a day began with.

        @param days: how many days ago.
        """
        day = int(swarm.now()) // 86400 - days
        return swarm.trackers[number].join("rotating", b"", self.module.DailyRotation(key, day))

    def test_meet(self) -> None:
        """
        Members with the keys of different days meet; one with another key does not.
        """
        today = self.module.next_day(self.module.next_day(b"k" * 32))
        with VirtualSwarm(members=3, seed=1) as swarm:
            topics = [
                self.join(swarm, 0, b"k" * 32, days=2),
                self.join(swarm, 1, today),
                self.join(swarm, 2, b"x" * 32),
            ]
            swarm.advance(30)
            self.assertEqual([len(topic.neighbors()) for topic in topics], [1, 1, 0])

    def test_forgets(self) -> None:
        """
        The keys of earlier days are forgotten; yesterday's is still known for the turn of the
        day, and any minute has a seed of 32 bytes.
        """
        rotation = self.module.DailyRotation(b"k" * 32, 20_000)
        topic_id = TopicId.from_name("x")
        minute = 20_005 * 1440
        seeds = {rotation(topic_id, minute + offset, b"") for offset in (0, 1, 1440)}
        self.assertEqual({len(seed) for seed in seeds}, {32})
        self.assertEqual(len(seeds), 3)
        self.assertEqual(sorted(rotation._keys), [20_005, 20_006])
        for other in (0, 2**63):
            self.assertEqual(len(rotation(topic_id, other, b"")), 32)


class WithoutMergersTests(SynchronousTestCase):
    """
    Tests for examples/without_mergers.py.
    """

    def test_members_still_meet(self) -> None:
        """
        Without mergers, members find each other when they start, and join those that they
        know.
        """
        module = load("without_mergers")
        config = module.without_mergers(Config(transport="streams"))
        self.assertFalse(config.bubble_merge.enabled or config.message_overlap_merge.enabled)
        with VirtualSwarm(members=3, seed=1, config=config) as swarm:
            self.assertTrue(swarm.until(swarm.joined))
            known = [tracker.peer_id for tracker in swarm.trackers]
            topics = [module.join_known(each, "by id", b"", known) for each in swarm.trackers]
            swarm.advance(5)
            self.assertTrue(all(topic.neighbors() for topic in topics))


class FullConfigurationTests(SynchronousTestCase):
    """
    Tests for examples/full_configuration.py.
    """

    def test_complete(self) -> None:
        """
        It names every setting, with its default.
        """
        module = load("full_configuration")
        self.assertEqual(module.config, Config())
        source = (EXAMPLES / "full_configuration.py").read_text("utf-8")
        for name in keys(asdict(Config())):
            self.assertIn(f"{name.rpartition('.')[2]}=", source, "examples/full_configuration.py lacks it")


class DiscoveryOnlyTests(SynchronousTestCase):
    """
    Tests for examples/discovery_only.py.
    """

    def test_find(self) -> None:
        """
        Instances find each other's addresses without transports; what is no address is not
        reported.
        """
        fixed_chance(self)
        module = load("discovery_only")
        with VirtualSwarm(members=0, seed=1) as swarm:
            reported: list[set[tuple[str, str]]] = [set(), set()]
            trackers = []
            for number in range(3):
                host = f"10.9.{number}.1"
                dht = DHTConfig(bind=host, bind6="off", bootstrap=(("10.1.1.1", 6881),))
                tracker = Tracker(swarm.network.reactor(host), evolve(module.CONFIG, dht=dht))
                tracker.startService()
                trackers.append(tracker)
            for number, addresses in enumerate(reported):

                def add(*found: str, addresses: set[tuple[str, str]] = addresses) -> None:
                    addresses.add((found[0], found[1]))

                module.start(trackers[number], b"secret", f"host{number}:80", add)
            trackers[2].discover(module.TOPIC, secret=b"secret", content=b"\xff:0")
            self.assertTrue(swarm.until(lambda: all(reported), 120))
            swarm.advance(40)
            for number, addresses in enumerate(reported):
                other = trackers[1 - number].peer_id.hex()
                self.assertEqual(addresses, {(other, f"host{1 - number}:80")})
            for tracker in trackers:
                tracker.stopService()
            swarm.advance(5)
