"""
Tests for L{dtt.discovery.configured}.
"""

from __future__ import annotations

from random import Random
from typing import Any
from unittest.mock import Mock
from unittest.mock import call as mock_call

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DiscoveryConfig
from dtt.discovery.channels import Channels
from dtt.discovery.configured import ConfiguredChannels, channels_of
from dtt.discovery.lan import LocalSearch
from dtt.discovery.swarm_memory import SwarmMemory
from dtt.errors import UsageError
from dtt.records.topic import TopicId, TopicKeys, initial_secret_hash
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from tests.tracker.common import SECRET_HASH, TOPIC, Member, SilentDHT


class ChannelsOfTests(SynchronousTestCase):
    """
    Tests for L{channels_of}.
    """

    def channels(self, secret_hash: bytes = SECRET_HASH, **changed: Any) -> ConfiguredChannels:
        """Create the channels of a topic with some of the services changed."""
        shared = evolve(Member(HeapClock(), SilentDHT()).shared, **changed)
        return channels_of(shared, TopicKeys(TopicId(TOPIC), secret_hash), lambda: None)

    def config(self, **settings: Any) -> Config:
        """Return a configuration."""
        return Config(discovery=DiscoveryConfig(**settings))

    def names(self, channels: Channels) -> list[str]:
        """Return the names of the channels that are used."""
        return [channel.name for channel in channels._channels]

    def lan(self) -> LocalSearch:
        """Return the search of a machine."""
        net = MachineNetwork(HeapClock())
        return LocalSearch(net.reactor("192.168.1.2"), Random(1), lambda: {False: 1, True: 1})

    def test_settings(self) -> None:
        """The settings, the secret and the services say which channels there are."""
        every = ["record_slot", "sealed_slot", "announce", "local_network", "swarm_memory"]
        lan, memory = self.lan(), SwarmMemory()
        for expected, channels in (
            (every, self.channels(lan=lan, memory=memory)),
            (every[:3], self.channels()),
            ([every[0], every[2]], self.channels(initial_secret_hash(b""))),
            ([every[0], every[2]], self.channels(config=self.config(sealed=False))),
            (every[:2], self.channels(config=self.config(announce_peer="never"))),
            (
                [every[0], every[4]],
                self.channels(memory=memory, config=self.config(announce_peer="never", sealed=False)),
            ),
        ):
            self.assertEqual(self.names(channels.all), expected)
            self.assertEqual(channels.announcements is not None, "announce" in expected)
            self.assertEqual(channels.lan is not None, "local_network" in expected)
            self.assertEqual(channels.memory is not None, "swarm_memory" in expected)

    def test_bad_rotation(self) -> None:
        """A rotation that does not return 32 bytes is refused at once."""
        keys = TopicKeys(TopicId(TOPIC), SECRET_HASH, lambda *args, **kw: b"short")
        shared = Member(HeapClock(), SilentDHT()).shared
        self.assertRaises(UsageError, channels_of, shared, keys, lambda: None)

    def test_start(self) -> None:
        """Direct questions are answered, and local hosts asked, between start and stop."""
        for lan in (None, Mock()):
            direct = Mock()
            channels = evolve(self.channels(), direct=direct, lan=lan)
            for call in ("start", "stop"):
                getattr(channels, call)()
                for each in filter(None, (direct, lan)):
                    self.assertEqual(each.method_calls, [getattr(mock_call, call)()])
                    each.reset_mock()
