"""
Tests for L{dtt.gossip.budget}.  Those with real members are in L{tests.gossip.test_many_topics}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.budget import FULL, INTERVAL, MINIMUM, LinkBudget
from dtt.interfaces import PeerId


class Transport:
    """
    A transport with the connections that the test sets.
    """

    def __init__(self) -> None:
        self.used, self.maximum = 0, 40

    def connections_used(self) -> tuple[int, int]:
        """Return how many connections are used, and the maximum."""
        return self.used, self.maximum


class Topic:
    """
    A topic.

    @ivar limits: the capacities that it was given.
    """

    def __init__(self, name: str, count: int, known: int = 100) -> None:
        self.peers = [f"{name} {number}".encode() for number in range(count)]
        self.known = known
        self.limits: list[int] = []

    def neighbors(self) -> Sequence[PeerId]:
        """Return the neighbours."""
        return self.peers

    def known_peers(self) -> int:
        """Return the number of other peers."""
        return self.known

    def limit_neighbors(self, capacity: int) -> None:
        """Give up the newest neighbours."""
        self.limits.append(capacity)
        del self.peers[capacity:]


class LinkBudgetTests(SynchronousTestCase):
    """
    Tests for L{LinkBudget}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.budget = LinkBudget(self.clock, cast(Any, self.transport))

    def add(self, *topics: Topic) -> None:
        """Add topics, and count their connections."""
        for topic in topics:
            self.budget.add(topic)
        self.count(*topics)

    def count(self, *topics: Topic) -> None:
        """Count the connections of topics."""
        self.transport.used = len({peer for topic in topics for peer in topic.peers})
        self.budget.changed()

    def test_room(self) -> None:
        """While there is room, each topic may fill its view, and nothing is computed."""
        topics = [Topic(str(number), FULL) for number in range(6)]
        self.add(*topics)
        self.assertEqual((self.budget.capacity, self.clock.getDelayedCalls()), (FULL, []))
        self.assertEqual([topic.limits for topic in topics], [[]] * 6)

    def test_three_quarters(self) -> None:
        """
        Beyond three quarters of the connections, all topics get the same capacity: the largest
        with which three quarters suffice.
        """
        topics = [Topic(str(number), FULL, known=0) for number in range(7)]
        self.add(*topics)
        self.assertEqual(self.budget.capacity, FULL)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, 4)
        self.assertEqual([topic.limits for topic in topics], [[4]] * 7)

    def test_added_in_a_crowd(self) -> None:
        """A topic that is added while the connections are in use starts a computation."""
        self.transport.used = 31
        self.budget.add(Topic("only", 2))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_once(self) -> None:
        """Many changes at once are one computation."""
        topics = [Topic(str(number), FULL, known=0) for number in range(7)]
        self.add(*topics)
        for _ in range(5):
            self.budget.changed()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_shared_members(self) -> None:
        """Topics with the same members need no more connections than one."""
        topics = [Topic("same", FULL, known=0) for _ in range(100)]
        self.add(*topics, Topic("other", 2))
        self.transport.used = 31
        self.budget.changed()
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, FULL)

    def test_minimum(self) -> None:
        """Two neighbours each may use all connections; only if even they do not fit there is one."""
        topics = [Topic(str(number), FULL, known=0) for number in range(20)]
        self.add(*topics)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, MINIMUM)
        self.setUp()
        topics = [Topic(str(number), FULL, known=0) for number in range(21)]
        self.add(*topics)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, 1)

    def test_first_neighbors(self) -> None:
        """A topic without neighbours has room for its first ones reserved, although it knows nobody yet."""
        topics = [Topic(str(number), 4, known=0) for number in range(7)]
        self.add(*topics)
        self.add(*topics, Topic("new", 0, known=0), Topic("newer", 0, known=0))
        self.transport.used = 31
        self.budget.changed()
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, 3)

    def test_later_topic(self) -> None:
        """A topic that is added in a crowd is limited at once."""
        self.add(*(Topic(str(number), FULL, known=0) for number in range(7)))
        self.clock.advance(INTERVAL)
        later = Topic("later", 0)
        self.budget.add(later)
        self.assertEqual(later.limits, [4])

    def test_looks_for_more(self) -> None:
        """In a crowd, a topic with fewer than two neighbours looks for more, each time."""
        topics = [Topic(str(number), FULL, known=0) for number in range(7)]
        lonely = Topic("lonely", 1)
        self.add(*topics, lonely)
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(len(lonely.limits), 4)
        self.assertEqual(len(topics[0].limits), 1)

    def test_room_again(self) -> None:
        """The capacity grows again only when there is room, and then nothing is computed any longer."""
        topics = [Topic(str(number), FULL, known=0) for number in range(7)]
        self.add(*topics)
        self.clock.advance(INTERVAL)
        for topic in topics[2:]:
            self.budget.remove(topic)
        self.transport.used = 31
        self.clock.advance(INTERVAL)
        self.assertEqual(self.budget.capacity, 4)
        self.count(*topics[:2])
        self.clock.advance(INTERVAL)
        self.assertEqual((self.budget.capacity, topics[0].limits), (FULL, [4, FULL]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_removed(self) -> None:
        """Without topics nothing is computed; one that was not added, or was removed, does no harm."""
        topics = [Topic(str(number), FULL, known=0) for number in range(7)]
        self.add(*topics)
        self.budget.remove(Topic("unknown", 1))
        for topic in (*topics, topics[0]):
            self.budget.remove(topic)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.budget.changed()
        self.assertEqual(self.clock.getDelayedCalls(), [])
