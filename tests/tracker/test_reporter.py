"""
Tests for L{dtt.tracker.reporter}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.finds import Finds
from dtt.events import Event, NeighborDown, NeighborUp, PeerDialled, PeerFailed, RecordPublished, TopicJoined
from dtt.interfaces import GossipMessage
from dtt.tracker.reporter import TopicReporter
from tests.tracker.common import IDS, TOPIC


class TopicReporterTests(SynchronousTestCase):
    """
    Tests for L{TopicReporter}.
    """

    def setUp(self) -> None:
        """Report of a topic."""
        self.clock = Clock()
        self.events: list[Event] = []
        self.reporter = TopicReporter(self.clock, TOPIC, Finds(), lambda event: self.events.append(event))

    def test_since(self) -> None:
        """The state changes with the first neighbour and with the last one only."""
        for time, act, peer, since in (
            (1.0, self.reporter.neighbor_up, IDS[1], 1.0),
            (2.0, self.reporter.neighbor_up, IDS[2], 1.0),
            (3.0, self.reporter.neighbor_down, IDS[1], 1.0),
            (4.0, self.reporter.neighbor_down, IDS[2], 4.0),
        ):
            self.clock.rightNow = time
            act(peer)
            self.assertEqual(self.reporter.since, since, time)
        self.assertEqual(self.reporter.neighbors, {})
        self.assertEqual(
            [type(event) for event in self.events],
            [NeighborUp, TopicJoined, NeighborUp, NeighborDown, NeighborDown],
        )

    def test_left_by_a_sink(self) -> None:
        """Nobody has joined if the event sink leaves when it hears of the first neighbour."""
        self.reporter = TopicReporter(self.clock, TOPIC, Finds(), self.leave)
        self.reporter.neighbor_up(IDS[1])
        self.assertEqual([type(event) for event in self.events], [NeighborUp, NeighborDown])

    def leave(self, event: Event) -> None:
        """Lose the neighbour at once."""
        self.events.append(event)
        if isinstance(event, NeighborUp):
            self.reporter.neighbor_down(event.peer)

    def test_found_by(self) -> None:
        """A neighbour keeps the channel that had found it, for as long as it is one."""
        self.reporter.found(FoundRecord(IDS[1], 1, channel="lan"))
        self.reporter.neighbor_up(IDS[1])
        self.reporter.neighbor_up(IDS[2])
        self.clock.advance(1000)
        self.reporter.found(FoundRecord(IDS[1], 16, channel="record_slot"))
        self.assertEqual([each.found_by for each in self.reporter.neighbors.values()], ["lan", "peers"])

    def test_outcomes(self) -> None:
        """What becomes of members is counted, and told as events."""
        self.reporter.found(FoundRecord(IDS[1], 1, channel="lan"))
        self.reporter.peer_dialled(IDS[1])
        self.reporter.peer_failed(IDS[2], "no answer", ["ipv4 global"])
        self.assertEqual(
            self.events,
            [PeerDialled(TOPIC, IDS[1]), PeerFailed(TOPIC, IDS[2], "no answer", ("ipv4 global",))],
        )
        self.clock.advance(30)
        self.assertEqual(
            self.reporter.finds.by_channel(30.0),
            {"lan": {"found": 1, "refused": 1}, "peers": {"found": 1, "unreachable": 1}},
        )

    def test_messages(self) -> None:
        """Messages are counted, and our last stored record is remembered."""
        self.reporter.message_received(GossipMessage(IDS[1], "swarm", b"hello"))
        for minute in (7, 8):
            self.reporter.emit(RecordPublished(TOPIC, minute, 3))
        self.assertEqual(self.reporter.received, 1)
        self.assertEqual(self.reporter.stored, RecordPublished(TOPIC, 8, 3))
        self.assertEqual(len(self.events), 3)
