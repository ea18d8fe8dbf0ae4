"""
Creates the discovery channels of a topic, according to the settings, the secret of the topic
and the services of its tracker.
"""

from __future__ import annotations

from attrs import frozen

from dtt.discovery.announce_channel import AnnounceChannel
from dtt.discovery.channels import Channels
from dtt.discovery.direct import DirectQuestion, OptionalContentSource
from dtt.discovery.lan_channel import LocalNetworkChannel
from dtt.discovery.memory_channel import SwarmMemoryChannel
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.sealed_channel import SealedChannel
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_channel import SlotChannel
from dtt.records.topic import TopicKeys


@frozen
class ConfiguredChannels:
    """
    The channels of one topic.

    @ivar all: all channels, to be queried together.
    @ivar records: reads and writes the record slots.
    @ivar direct: answers members that query us for our record.
    @ivar announcements: the announcements; C{None}: disabled.
    @ivar lan: the local network; C{None}: it is not searched.
    @ivar memory: the former neighbours; C{None}: they are not remembered.
    """

    all: Channels
    records: RecordClient
    direct: DirectQuestion
    announcements: AnnounceChannel | None
    lan: LocalNetworkChannel | None
    memory: SwarmMemoryChannel | None

    def start(self) -> None:
        """
        Answer direct queries, and query the hosts of the local network.
        """
        self.direct.start()
        if self.lan is not None:
            self.lan.start()

    def stop(self) -> None:
        """
        Stop both.
        """
        self.direct.stop()
        if self.lan is not None:
            self.lan.stop()


def channels_of(
    shared: SharedServices, keys: TopicKeys, content: OptionalContentSource
) -> ConfiguredChannels:
    """
    Create the channels of a topic.

    @param shared: the services of the tracker.
    @param keys: the keys of the topic.
    @param content: returns the content of our record; C{None}: there is none.
    @raise UsageError: the rotation does not return 32 bytes.
    """
    settings = shared.config.discovery
    records = RecordClient(shared, keys)
    slots = SlotChannel(shared, records)
    sealed: SealedChannel | None = None
    if settings.sealed and keys.has_secret:
        sealed = SealedChannel(shared, keys, shared.estimated_time)
        slots.elsewhere = sealed.publishers
        slots.alternates = True
        sealed.when_others_idle = slots.when_idle
    direct = DirectQuestion(shared, keys, content)
    announcements: AnnounceChannel | None = None
    if settings.announce_peer != "never":
        announcements = AnnounceChannel(shared, keys, direct, shared.estimated_time)
    lan = None if shared.lan is None else LocalNetworkChannel(shared, shared.lan, direct)
    memory = None if shared.memory is None else SwarmMemoryChannel(shared, keys, shared.memory)
    used = [each for each in (slots, sealed, announcements, lan, memory) if each is not None]
    return ConfiguredChannels(Channels(used), records, direct, announcements, lan, memory)
