"""
Tests for L{dtt.discovery.finds}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.finds import (
    EXPIRY,
    MAX_ENDED,
    MAX_OPEN,
    MAX_RECORDS,
    RECORDS_FOR,
    REFUSED_AFTER,
    Finds,
)
from tests.tracker.common import IDS


def record(number: int, channel: str = "sealed_slot", *named: int) -> FoundRecord:
    """A record that names some members."""
    return FoundRecord(IDS[number], 7, tuple(IDS[each] for each in named), channel=channel)


class FindsTests(SynchronousTestCase):
    """
    Tests for L{Finds}.
    """

    def setUp(self) -> None:
        """Nothing is found yet."""
        self.sources: dict[bytes, str] = {}
        self.finds = Finds(lambda peer: self.sources.get(peer, ""))

    def count(self, now: float = 0.0, **expected: int) -> None:
        """Compare the counters."""
        self.assertEqual(self.finds.counters(now), expected)

    def test_outcomes(self) -> None:
        """Each find ends in one way, and counts for its channel and for the kind of its address."""
        for number in range(6):
            self.finds.found(record(number), 0.0)
        self.sources = dict(zip(IDS, ("record", "pkarr", "peer data", "record", "record", ""), strict=False))
        self.finds.dialled(IDS[0], 1.0)
        self.finds.joined(IDS[0], 1.0)
        self.finds.failed(IDS[1], "timed out, connection refused", 2.0)
        self.finds.failed(IDS[2], "timed out, wrong peer key", 2.0)
        self.finds.dialled(IDS[3], 3.0)
        self.finds.dialled(IDS[4], 100.0)
        self.assertEqual(self.finds.counters(3.0 + REFUSED_AFTER)["sealed_slot_refused"], 1)
        self.count(
            now=EXPIRY + REFUSED_AFTER,
            sealed_slot_found=6,
            sealed_slot_joined=1,
            address_hint_joined=1,
            sealed_slot_unreachable=1,
            address_pkarr_unreachable=1,
            sealed_slot_wrong_key=1,
            address_gossip_wrong_key=1,
            sealed_slot_refused=2,
            address_hint_refused=2,
            sealed_slot_expired=1,
            address_none_expired=1,
        )

    def test_first_channel(self) -> None:
        """A member belongs to the channel that was first, however often it is found."""
        for channel in ("announce", "sealed_slot", "announce"):
            self.finds.found(record(1, channel), 0.0)
        self.finds.joined(IDS[1], 0.0)
        self.finds.joined(IDS[1], 0.0)
        self.finds.found(record(1), EXPIRY - 1)
        self.count(announce_found=1, announce_joined=1, address_none_joined=1)
        self.finds.found(record(1), EXPIRY)
        self.assertEqual(self.finds.counters(EXPIRY)["sealed_slot_found"], 1)

    def test_named(self) -> None:
        """A member that a record names counts apart; once its own record is found, for who found that."""
        self.finds.found(record(1, "record_slot", 2, 3), 0.0)
        self.count(record_slot_found=1, record_slot_named=2)
        self.assertEqual([self.finds.channel_of(IDS[number]) for number in (1, 2)], ["record_slot"] * 2)
        self.finds.dialled(IDS[2], 0.0)
        self.finds.found(record(2, "announce", 1), 1.0)
        self.assertEqual(
            [self.finds.channel_of(IDS[number]) for number in (1, 2)], ["record_slot", "announce"]
        )
        self.finds.joined(IDS[2], 1.0)
        self.finds.failed(IDS[3], "no address", 1.0)
        self.count(
            record_slot_found=1,
            record_slot_named=2,
            announce_found=1,
            announce_joined=1,
            address_none_joined=1,
            record_slot_unreachable=1,
            address_none_unreachable=1,
        )
        self.assertEqual(
            self.finds.by_channel(1.0)["record_slot"], {"found": 1, "named": 2, "unreachable": 1}
        )

    def test_others(self) -> None:
        """Members that no channel has found count, as found by peers; each once."""
        for _ in range(2):
            self.finds.joined(IDS[1], 0.0)
            self.finds.dialled(IDS[1], 0.0)
            self.finds.failed(IDS[2], "timed out", 0.0)
        self.finds.dialled(IDS[3], 0.0)
        self.finds.found(record(3), 1.0)
        self.assertEqual({self.finds.channel_of(each) for each in IDS[1:5]}, {"peers"})
        self.count(
            now=REFUSED_AFTER,
            peers_found=3,
            peers_joined=1,
            address_none_joined=1,
            peers_unreachable=1,
            address_none_unreachable=1,
            peers_refused=1,
            address_none_refused=1,
        )

    def test_records(self) -> None:
        """A record is shown once for each channel and minute, and for some minutes."""
        for time in range(3):
            self.finds.found(record(1), float(time))
        self.finds.found(record(1, "lan"), 3.0)
        shown = [(each.record.channel, each.seen) for each in self.finds.records(RECORDS_FOR)]
        self.assertEqual(shown, [("sealed_slot", 0.0), ("lan", 3.0)])
        self.assertEqual(len(self.finds.records(RECORDS_FOR + 1)), 1)
        self.assertEqual(self.finds.records(RECORDS_FOR + 4), ())

    def test_bounded(self) -> None:
        """Beyond the bounds, the oldest expire."""
        for number in range(3 * MAX_OPEN):
            self.finds.found(FoundRecord(number.to_bytes(32), 7, channel="x"), 0.0)
        self.assertEqual((len(self.finds._open), len(self.finds._ended)), (MAX_OPEN, MAX_ENDED))
        self.assertEqual(len(self.finds.records(0.0)), MAX_RECORDS)
        self.count(x_found=3 * MAX_OPEN, x_expired=2 * MAX_OPEN, address_none_expired=2 * MAX_OPEN)
        for now, ended in ((EXPIRY, MAX_ENDED), (2 * EXPIRY, 0)):
            self.finds.counters(now)
            self.assertEqual((len(self.finds._open), len(self.finds._ended)), (0, ended))
