"""
Message overlap merge in whole swarms: it must heal divided ones, and leave others alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from dtt.config import BubbleMergeConfig
from dtt.events import Message, NeighborDown, NeighborUp
from dtt.interfaces import IGossip
from dtt.testing.fake_dht import FakeDHT
from dtt.tracker.merger import MessageOverlapMerge
from dtt.tracker.parts import PartMerge
from tests.sweeps import sized, thorough
from tests.tracker.test_topic import Member, TopicTestCase


class SwitchedDHT:
    """
    Another DHT, which can be replaced while members use it.

    @ivar dht: the DHT.
    """

    def __init__(self, dht: FakeDHT) -> None:
        self.dht = dht

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dht, name)


class OverlapCase(TopicTestCase):
    """
    Swarms with traffic.
    """

    def setUp(self) -> None:
        """Count the membership messages sent."""
        super().setUp()
        self.membership: Counter[bytes] = Counter()
        self.sent = 0

    def swarm(self, numbers: Sequence[int], **config: Any) -> list[Member]:
        """Start members, a second apart."""
        members = []
        for number in numbers:
            member = self.member(number, **config)
            send = member.transport.send

            def count(peer: bytes, topic: bytes, message: bytes, send: Callable[..., bool] = send) -> bool:
                self.membership[message[:2]] += message[0] == 0
                return send(peer, topic, message)

            member.transport.send = count  # type: ignore[method-assign,assignment]
            members.append(member)
            self.advance(1)
        return members

    def talk(self, senders: Sequence[tuple[Member, float]], seconds: float) -> None:
        """
        Let members broadcast, each at its own interval in seconds.
        """
        due = [interval for _, interval in senders]
        for second in range(1, int(seconds) + 1):
            self.advance(1)
            for index, (member, interval) in enumerate(senders):
                if second >= due[index]:
                    due[index] += interval
                    self.sent += 1
                    member.topic.broadcast(b"message %d" % self.sent)

    def changes(self, members: Sequence[Member]) -> int:
        """The number of times that a neighbour came or went since the last call."""
        count = 0
        for member in members:
            count += len(member.of(NeighborUp)) + len(member.of(NeighborDown))
            member.events.clear()
        return count

    def parts(self, members: Sequence[Member]) -> int:
        """The number of parts of the swarm."""
        parts: list[set[bytes]] = []
        for member in members:
            linked = {member.peer_id, *member.topic.neighbors()}
            touched = [part for part in parts if part & linked]
            parts = [part for part in parts if not part & linked] + [linked.union(*touched)]
        return len(parts)

    def gossip(self, member: Member) -> IGossip:
        """The member's gossip."""
        (merge,) = (service for service in member.topic if isinstance(service, MessageOverlapMerge))
        return merge._gossip


class HealthySwarmTests(OverlapCase):
    """
    A swarm that is not divided is left alone.
    """

    def assert_quiet(self, senders: Callable[[list[Member]], list[tuple[Member, float]]]) -> None:
        """
        Assert that a swarm of eight has hardly any neighbour changes, about 8 membership messages a
        member and minute, and misses nothing, in some minutes of traffic.
        """
        members = self.swarm(range(8))
        self.talk(senders(members), sized(120, 180))
        self.advance(1)
        self.changes(members)
        self.membership.clear()
        before, minutes = self.sent, sized(2, 8)
        self.talk(senders(members), 60 * minutes)
        self.advance(1)
        received = sum(len(member.of(Message)) for member in members)
        self.assertEqual(received, (self.sent - before) * (len(members) - 1))
        # Two members that still have a free place may find each other.
        self.assertLessEqual(self.changes(members), 2)
        self.assertLess(sum(self.membership.values()) / len(members) / minutes, 10)

    @thorough
    def test_ordinary_traffic(self) -> None:
        """A message every ten seconds."""
        self.assert_quiet(lambda members: [(members[number], 40.0) for number in range(4)])

    def test_slow_sender(self) -> None:
        """
        One sender is fast, another slow.  What the fast one lists, the messages of the
        slow one, is older than what others list.
        """
        self.assert_quiet(lambda members: [(members[0], 10.0), (members[1], 200.0)])

    @thorough
    def test_rare_messages(self) -> None:
        """With a message every five minutes, records may list older ones only."""
        self.assert_quiet(lambda members: [(members[0], 300.0), (members[1], 290.0)])

    @thorough
    def test_newcomer(self) -> None:
        """
        A newcomer does not take what was sent before it joined for the traffic of another
        part: it does not join anybody after it has found neighbours.
        """
        members = self.swarm(range(8), bubble_merge=BubbleMergeConfig(enabled=False))
        self.talk([(members[0], 10.0)], 120)
        (newcomer,) = self.swarm([8], bubble_merge=BubbleMergeConfig(enabled=False))
        self.advance(20)
        joins: list[object] = []
        self.patch(self.gossip(newcomer), "join", joins.append)
        self.talk([(members[0], 10.0)], 400)
        self.assertEqual(joins, [[]] * len(joins))
        self.assertGreater(len(joins), 1)


class DividedSwarmTests(OverlapCase):
    """
    The parts of a divided swarm find each other by their messages.
    """

    def divided(self, **config: Any) -> list[Member]:
        """
        Two swarms of six members in two DHTs, with traffic, whose DHTs become one.
        Bubble merge is disabled.
        """
        config.setdefault("bubble_merge", BubbleMergeConfig(enabled=False))
        one = self.swarm(range(6), **config)
        whole = self.dht
        other = SwitchedDHT(FakeDHT(self.clock, latency=0.02))
        self.dht = other  # type: ignore[assignment]
        two = self.swarm(range(6, 12), **config)
        members = one + two
        self.talk([(one[0], 10.0), (two[0], 10.0)], sized(120, 240))
        self.assertEqual(self.parts(members), 2)
        other.dht = whole
        return members

    @thorough
    def test_traffic_on_both_sides(self) -> None:
        """Parts with traffic are one within three minutes."""
        members = self.divided()
        self.talk([(members[0], 10.0), (members[6], 10.0)], 180)
        self.assertEqual(self.parts(members), 1)
        self.talk([(members[0], 10.0), (members[6], 10.0)], 240)
        self.changes(members)
        self.talk([(members[0], 10.0), (members[6], 10.0)], 300)
        self.assertEqual(self.changes(members), 0)

    def test_traffic_on_one_side(self) -> None:
        """Traffic of one part is enough, if the other has had some."""
        members = self.divided()
        for _ in range(8):
            self.talk([(members[6], 10.0)], 30)
            if self.parts(members) == 1:
                return
        self.fail("not one within four minutes")


class QuietPartsTests(OverlapCase):
    """
    Parts in which nobody says anything, and where everybody has enough neighbours, find
    each other, too.
    """

    def divided(self, sizes: tuple[int, int], before: float) -> tuple[list[Member], Callable[[], None]]:
        """
        Two swarms in two DHTs; and a function that makes these one.
        """
        one = self.swarm(range(sizes[0]))
        whole = self.dht
        other = SwitchedDHT(FakeDHT(self.clock, latency=0.02))
        self.dht = other  # type: ignore[assignment]
        two = self.swarm(range(sizes[0], sum(sizes)))
        self.advance(before)
        self.assertEqual(self.parts(one + two), 2)

        def unite() -> None:
            other.dht = whole

        return one + two, unite

    @thorough
    def test_united(self) -> None:
        """Two parts with five neighbours each are one within three minutes, and stay so."""
        for sizes in ((7, 7), (3, 8)):
            members, unite = self.divided(sizes, 400)
            unite()
            self.advance(180)
            self.assertEqual(self.parts(members), 1, f"{sizes}")
            self.advance(300)
            self.assertEqual(self.parts(members), 1, f"{sizes}")
            for member in members:
                member.end()
            self.setUp()

    def test_undivided(self) -> None:
        """In a swarm that is not divided nobody is joined."""
        members = self.swarm(range(9))
        self.advance(sized(200, 300))
        self.changes(members)
        self.advance(sized(100, 400))
        parts = [each for member in members for each in member.topic if isinstance(each, PartMerge)]
        self.assertEqual(sum(each.joined for each in parts), 0)
        self.assertLessEqual(self.changes(members), 2)
