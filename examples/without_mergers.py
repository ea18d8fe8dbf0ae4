"""
A swarm without merge services: dtt does not merge its partitions.

By default, dtt looks for other partitions of the swarm (bubbles), and joins them. If all members can reach a
certain member, or the program knows its members from another source, it can turn this off, which saves
reading the slots of the topic every two minutes. Members still find each other when they
start, and are still found.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from dtt import Config, TopicService, Tracker
from dtt.config import BubbleMergeConfig, MessageOverlapMergeConfig


def without_mergers(config: Config) -> Config:
    """
    Return settings without merge services.
    """
    return evolve(
        config,
        bubble_merge=BubbleMergeConfig(enabled=False),
        message_overlap_merge=MessageOverlapMergeConfig(enabled=False),
    )


def join_known(tracker: Tracker, name: str, secret: bytes, members: Iterable[bytes]) -> TopicService:
    """
    Join a topic of which some members are known. The tracker must have started.

    @param members: their peer ids, 32 bytes each.
    """
    topic = tracker.join(name, secret)
    topic.join_peers([each for each in members if each != tracker.peer_id])
    return topic
