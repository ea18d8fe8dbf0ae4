"""
Tests for L{dtt.cli.snapshots}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.snapshots import peer_lines, span, status_lines
from dtt.tracker.status import (
    DHTStatus,
)
from tests.cli.status import NOW, STATUS, snapshot


class SnapshotTests(SynchronousTestCase):
    """
    Tests for snapshots as text.
    """

    def test_status(self) -> None:
        """It shows what the service is, how it is reached, and each topic with its state."""
        text = "\n".join(status_lines(snapshot(), 100))
        for part in (
            "dtt 0.1.0, running for 1 d 1 h",
            "UDP port 6881, 200 nodes known, round trip 120 ms",
            "ipv4: symmetric",
            "1.2.3.4:6881 to UDP 6881",
            "joined for 1 h 1 min: has a neighbour",
            "2, 7 other members known",
            "2 of other members now, 3 that our secret does not decrypt",
            "record_slot 4 (1 neighbour)",
            "there is no record of another member",
            "30 s ago: No neighbour.",
        ):
            self.assertIn(part, text)
        self.assertNotIn("lan 0", text)

    def test_not_ready(self) -> None:
        """A DHT without an answer is said, and why no member can reach us."""
        status = evolve(
            STATUS,
            dht=DHTStatus(ready=False, node_id=bytes(20), port=1),
            addresses=(),
            unreachable="no network",
        )
        text = "\n".join(status_lines(snapshot(status), 100))
        self.assertIn("no node has answered yet", text)
        self.assertIn("no network", text)

    def test_any_width(self) -> None:
        """From 20 columns on, no line is too long, and none has characters that control a terminal."""
        for width in (*range(20, 70), 200):
            for lines in (
                status_lines(snapshot(), width),
                peer_lines(snapshot()["topics"][0], NOW, width),
                peer_lines(snapshot()["topics"][1], NOW, width),
            ):
                self.assertLessEqual(max(map(len, lines)), width)
                self.assertTrue(all(line.isprintable() for line in lines))

    def test_peers(self) -> None:
        """Neighbours are shown with how we are connected, others with where they were found."""
        self.assertEqual(
            peer_lines(snapshot()["topics"][0], NOW, 120),
            [
                "garden party",
                "  1111111111  quic, 1.2.3.4:5, 40 ms, found by record_slot, neighbour for 1 min 30 s",
                "  2222222222  unknown transport, found by peers, neighbour for 5 s",
                "  3333333333  record found by record_slot 1 min ago",
            ],
        )
        self.assertIn("no other member", peer_lines(snapshot()["topics"][1], NOW, 120)[1])

    def test_span(self) -> None:
        """A duration has two units at most."""
        self.assertEqual(
            [span(each) for each in (-1, 0, 59, 60, 61, 3600, 90061)],
            ["0 s", "0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 d 1 h"],
        )
