"""
Tests for L{dtt.tracker.alone}.
"""

from __future__ import annotations

from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config
from dtt.discovery.record_slot import SlotSummary
from dtt.discovery.shared import SharedServices
from dtt.events import Event, MembersUnreachable, TopicAlone
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.alone import MAX_FAILED, UNREACHABLE_AFTER, AloneReporter
from tests.tracker.common import IDS, KEYS, START, TOPIC, Book, start_clock


class DHT:
    """
    A DHT that answers or not.
    """

    def __init__(self) -> None:
        self.ready = True
        self.waiting: list[Deferred[int]] = []
        self.cancelled = 0

    def when_ready(self) -> Deferred[int]:
        if self.ready:
            return succeed(8)
        return Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class Records:
    """
    A record client with a prepared summary.
    """

    def __init__(self) -> None:
        self.result = SlotSummary(0, 0, False)

    def summary(self) -> SlotSummary:
        return self.result


class AloneTests(SynchronousTestCase):
    """
    Tests for L{AloneReporter}.
    """

    def setUp(self) -> None:
        """Start without neighbours."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.dht = DHT()
        self.records = Records()
        self.events: list[tuple[float, Event]] = []
        self.reached = self.symmetric = False
        self.behind_nat: bool | None = None
        shared = SharedServices(
            self.clock,
            Random(1),
            Config(),
            KEYS[0],
            cast(Any, self.dht),
            Book(),
            cast(Any, None),
            lambda event: self.events.append((self.clock.seconds() - START, event)),
            lambda: self.reached,
            lambda: self.symmetric,
            behind_nat=lambda: self.behind_nat,
        )
        self.reporter = AloneReporter(shared, self.gossip, cast(Any, self.records), TOPIC)
        self.reporter.startService()

    def reason(self) -> str:
        """Return the reason that is reported now."""
        return self.reporter._reason()

    def seconds(self) -> list[int]:
        """Return the times that were reported, without neighbours, and check when."""
        return [event.seconds for _, event in self.events if isinstance(event, TopicAlone)]

    def test_times(self) -> None:
        """It reports after 1, 10 and 60 minutes, and then every hour; no more once stopped."""
        advance(self.clock, 4 * 3600 + 1)
        expected = [60, 600, 3600, 7200, 10800, 14400]
        self.assertEqual(self.seconds(), expected)
        self.assertEqual([round(at, 3) for at, _ in self.events], expected)
        self.reporter.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_neighbours(self) -> None:
        """With a neighbour it is silent; it starts again when the last one is lost."""
        advance(self.clock, 70)
        self.gossip.up(IDS[1])
        self.gossip.up(IDS[2])
        advance(self.clock, 5000)
        self.gossip.down(IDS[1])
        advance(self.clock, 5000)
        self.assertEqual(self.seconds(), [60])
        self.gossip.down(IDS[2])
        advance(self.clock, 601)
        self.assertEqual(self.seconds(), [60, 60, 600])
        self.gossip.up(IDS[1])
        self.reporter.stopService()
        self.gossip.down(IDS[1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_neighbour_at_the_start(self) -> None:
        """A neighbour that is there already counts."""
        self.reporter.stopService()
        self.gossip.up(IDS[1])
        self.reporter.startService()
        advance(self.clock, 5000)
        self.assertEqual(self.seconds(), [])

    def test_no_dht(self) -> None:
        """If no DHT node answers, that is the reason; nothing is left waiting."""
        self.dht.ready = False
        self.records.result = SlotSummary(1, 1, True)
        self.assertIn("no DHT node answers", self.reason())
        self.assertEqual(self.dht.cancelled, 1)

    def test_unreachable(self) -> None:
        """Members that can't be reached are the reason, with NATs unless somebody has reached us."""
        self.reporter.peer_failed(IDS[1], "connection refused")
        self.reporter.peer_failed(IDS[2], "refused")
        self.reporter.peer_failed(IDS[1], "timed out")
        self.assertIn("of 2 members found, none could be reached (timed out), and none", self.reason())
        self.assertIn("behind NATs", self.reason())
        self.reached = True
        self.assertTrue(self.reason().endswith("(timed out)"))
        self.gossip.up(IDS[1])
        self.gossip.down(IDS[1])
        self.assertNotIn("reached", self.reason())

    def test_no_nat(self) -> None:
        """A NAT is not the reason if hosts have answered, or if we are behind none."""
        self.reporter.peer_failed(IDS[1], "refused")
        self.reporter.peer_failed(IDS[2], "wrong peer key")
        self.assertIn("no such member runs there", self.reason())
        self.assertNotIn("NAT", self.reason())
        self.reporter.peer_failed(IDS[3], "refused, timed out")
        self.assertIn("have stopped recently, or both sides are behind NATs", self.reason())
        self.behind_nat = False
        self.assertIn("although we are not behind a NAT", self.reason())

    def test_unreachable_soon(self) -> None:
        """
        After some seconds it is said, once, that all members found could not be reached;
        not if none was found, or with a neighbour.
        """
        self.reporter.peer_failed(IDS[1], "timed out")
        advance(self.clock, UNREACHABLE_AFTER)
        ((at, event),) = self.events
        assert isinstance(event, MembersUnreachable)
        self.assertEqual((at, event.topic, event.members), (UNREACHABLE_AFTER, TOPIC, 1))
        self.assertIn("timed out, and none has reached us", event.text())
        self.reporter.peer_failed(IDS[2], "timed out")
        self.assertEqual(len(self.events), 1)
        self.gossip.up(IDS[3])
        self.gossip.down(IDS[3])
        advance(self.clock, UNREACHABLE_AFTER + 3)
        self.assertEqual(len(self.events), 1)
        self.reporter.peer_failed(IDS[2], "refused")
        self.assertEqual([type(event) for _, event in self.events], [MembersUnreachable] * 2)

    def test_symmetric(self) -> None:
        """
        Two symmetric NATs are the reason if no member that was found has an address
        outside for QUIC; else ours is.  Neither is, if ours is not symmetric or somebody
        has reached us.
        """
        both = "; both sides are behind symmetric NATs and no member is reachable: switch on"
        ours = "; we are behind a symmetric NAT, and the other side is behind a NAT or firewall, too"
        self.reporter.peer_failed(IDS[1], "timed out", ("streams global", "quic private", "streams private"))
        self.assertIn("have stopped recently, or both sides are behind NATs", self.reason())
        self.symmetric = True
        self.assertIn(f"none could be reached (timed out){both}", self.reason())
        self.reporter.peer_failed(IDS[2], "timed out", ("quic private", "quic global"))
        self.assertIn(ours, self.reason())
        self.reporter.peer_failed(IDS[2], "timed out", ("streams global",))
        self.assertIn(ours, self.reason())
        self.reporter.peer_failed(IDS[2], "timed out", ("quic private",))
        self.assertIn(both, self.reason())
        self.reached = True
        self.assertTrue(self.reason().endswith("(timed out)"))

    def test_many_unreachable(self) -> None:
        """A bounded number of members is remembered."""
        for number in range(10 * MAX_FAILED):
            self.reporter.peer_failed(number.to_bytes(32, "big"), "timed out")
        self.assertIn(f"of {MAX_FAILED} members", self.reason())

    def test_records(self) -> None:
        """Else what was read is the reason."""
        for summary, expected in (
            (SlotSummary(1, 3, False), "1 member found, but none has become a neighbour yet"),
            (SlotSummary(0, 3, False), "3 records in the DHT that our secret does not decrypt"),
            (SlotSummary(0, 0, True), "can't be read"),
            (SlotSummary(0, 0, False), "no record of another member"),
        ):
            self.records.result = summary
            self.assertIn(expected, self.reason())
