"""
Tests for L{dtt.transport.table}: a table without any protocol.
"""

from __future__ import annotations

from collections import Counter

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.backpressure import WRITABLE
from dtt.transport.table import ConnectionTable, TableEntry

TOPIC, OTHER = b"t" * 32, b"u" * 32
ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32


@define(eq=False)
class Connection:
    """
    A connection that only counts its closes.
    """

    peer_id: bytes
    unsent: int = 0
    closes: int = 0
    networks: tuple[str, ...] = ()

    def close(self) -> None:
        """Count."""
        self.closes += 1


@define(eq=False)
class Link(TableEntry[Connection]):
    """
    @ivar used: the topics that use it.
    """

    used: set[bytes] = field(factory=set)


class TableTests(SynchronousTestCase):
    """
    Tests for L{ConnectionTable}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.counters: Counter[str] = Counter()
        self.retired: list[Link] = []
        self.table: ConnectionTable[Link] = ConnectionTable(
            self.clock, self.counters, lambda link: link.used, self.retired.append, 3
        )

    def add(self, peer_id: bytes, *used: bytes) -> Link:
        """
        Add a connection.
        """
        link = Link(Connection(peer_id), set(used))
        self.table.add(link)
        return link

    def test_current(self) -> None:
        """
        A peer's first connection is current; later ones are counted as duplicates.
        """
        first = Link(Connection(ALICE))
        self.assertIsNone(self.table.add(first))
        second = Link(Connection(ALICE))
        self.assertIs(self.table.add(second), first)
        self.assertIsNone(self.table.add(Link(Connection(BOB))))
        self.assertIs(self.table.current[ALICE], first)
        self.assertEqual(self.table.serving(ALICE), [first, second])
        self.assertEqual(self.counters, {"duplicate_connections": 1})

    def test_make_room(self) -> None:
        """
        At the limit the oldest connection that no topic uses is closed; without one
        there is no room.
        """
        links = [self.add(ALICE, TOPIC), self.add(BOB)]
        self.assertTrue(self.table.make_room())
        self.assertEqual(self.retired, [])
        links.append(self.add(CAROL))
        self.assertTrue(self.table.make_room())
        self.assertEqual(self.retired, links[1:2])
        self.add(CAROL, OTHER)
        links[2].used.add(OTHER)
        self.assertFalse(self.table.make_room())
        self.assertEqual([link.connection.closes for link in links], [0, 1, 0])
        self.assertEqual(self.counters["closed_made_room"], 1)

    def test_make_room_is_fair(self) -> None:
        """
        The connection that makes room is of the network that has most of those that no
        topic uses, also if others are older.
        """
        self.patch(self.table, "_max_connections", 12)
        oldest, used = self.add(ALICE), self.add(BOB, TOPIC)
        oldest.connection.networks = used.connection.networks = ("80.1.1.0/24",)
        crowd = []
        for number in range(10):
            crowd.append(self.add(bytes((number,)) * 32))
            crowd[-1].connection.networks = ("2a00:1::/48", f"2a00:1:0:{number // 2:x}00::/56")
        for closed in (0, 2, 4):
            self.assertTrue(self.table.make_room())
            self.assertTrue(crowd[closed].closing, closed)
            self.add(CAROL).connection.networks = (f"81.1.{closed}.0/24",)
        self.assertFalse(oldest.closing)
        self.assertFalse(used.closing)

    def test_close(self) -> None:
        """
        A connection that is closed serves no longer, but stays in the table until it
        has ended; it is retired once.
        """
        link = self.add(ALICE)
        self.table.close(link)
        self.table.close(link)
        self.assertEqual(link.connection.closes, 1)
        self.assertEqual(self.table.serving(ALICE), [])
        self.assertEqual(list(self.table.links.values()), [link])
        for _ in range(2):
            self.table.remove(link.connection)
        self.assertEqual(self.table.links, {})
        self.assertEqual(self.retired, [link])

    def test_end(self) -> None:
        """
        A connection that ends is retired, without its scheduled close, and is not
        closed.
        """
        link = self.add(ALICE)
        self.table.close_later(link, 1)
        self.table.remove(link.connection)
        self.assertEqual(self.retired, [link])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(link.connection.closes, 0)

    def test_close_later(self) -> None:
        """
        The last scheduled close counts, and it may be cancelled.
        """
        kept, link = self.add(ALICE), self.add(BOB)
        for each in (kept, link):
            self.table.close_later(each, 1)
        self.table.close_later(link, 3)
        self.table.keep(kept)
        self.clock.advance(2.9)
        self.assertEqual(self.retired, [])
        self.clock.advance(0.2)
        self.assertEqual(self.retired, [link])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_all(self) -> None:
        """
        Each connection is closed once.
        """
        links = [self.add(ALICE), self.add(ALICE, TOPIC), self.add(BOB)]
        self.table.close(links[1])
        self.table.close_all()
        self.assertEqual([link.connection.closes for link in links], [1, 1, 1])

    def test_topics(self) -> None:
        """
        All topics learn that a peer is connected, some that it is not.  A topic is
        opened once.
        """
        one, other = RecordingLinks(), RecordingLinks()
        self.table.open_topic(TOPIC, one)
        self.table.open_topic(OTHER, other)
        self.assertRaises(ValueError, self.table.open_topic, TOPIC, other)
        self.add(ALICE)
        self.table.peer_connected(ALICE)
        self.table.forget_peer(ALICE, {OTHER, b"closed"})
        self.assertEqual((one.connected, one.disconnected), ([ALICE], []))
        self.assertEqual((other.connected, other.disconnected), ([ALICE], [ALICE]))
        self.assertEqual(self.table.current, {})

    def test_topics_that_fail(self) -> None:
        """
        A topic that raises an exception, or closes another one, does not keep the
        others from being notified.
        """
        table = self.table

        class Failing(RecordingLinks):
            def peer_connected(self, peer_id: bytes) -> None:
                table.topics.pop(OTHER)
                raise ZeroDivisionError

        closed, last = RecordingLinks(), RecordingLinks()
        for topic_id, links in ((TOPIC, Failing()), (OTHER, closed), (b"last", last)):
            self.table.open_topic(topic_id, links)
        self.table.peer_connected(ALICE)
        self.assertEqual((closed.connected, last.connected), ([], [ALICE]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_writers(self) -> None:
        """
        Callers wait for the current connection, and no longer once there is none.
        """
        link, newer = self.add(ALICE), self.add(ALICE)
        newer.connection.unsent = WRITABLE
        self.successResultOf(self.table.writers.when_writable([ALICE]))
        link.connection.unsent = WRITABLE
        waiting = self.table.writers.when_writable([ALICE])
        self.assertNoResult(waiting)
        self.table.forget_peer(ALICE, ())
        self.successResultOf(waiting)
