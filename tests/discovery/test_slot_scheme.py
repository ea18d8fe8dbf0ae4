"""
Tests for L{dtt.discovery.slot_scheme}.
"""

from __future__ import annotations

from attrs import evolve

from dtt.dht.client.placement import CANDIDATES
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.slot_scheme import SlotScheme
from dtt.errors import RecordRefused, UsageError
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record
from dtt.records.topic import Slot, TopicKeys
from tests.discovery.records import RecordClientTestCase
from tests.tracker.common import IDS, KEYS, MINUTE, SECRET_HASH, TOPIC, address


class SlotSchemeTests(RecordClientTestCase):
    """
    Tests for L{SlotScheme}.
    """

    def scheme(self, most: int = 5, secret_hash: bytes = SECRET_HASH) -> SlotScheme:
        """The record slots of a member."""
        shared = self.member(0, max_bootstrap_records=most).shared
        return SlotScheme(shared, TopicKeys(TOPIC, secret_hash))

    def test_slot(self) -> None:
        """
        A slot is that of the topic in its minute; what is sealed for it can be opened with the
        same secret, and in the same minute only.
        """
        scheme = self.scheme()
        slot, expected = scheme.slot(MINUTE), Slot(TOPIC, MINUTE)
        self.assertEqual(
            (slot.public_key, slot.salt, slot.signing_seed),
            (expected.public_key, expected.salt, expected.signing_seed),
        )
        record = Record.sign(KEYS[1], expected, GossipContent((IDS[2],)).encode())
        sealed = slot.seal(record, bytes(ENTROPY_BYTES))
        self.assertEqual(slot.open(sealed), record)
        self.assertRaises(RecordRefused, scheme.slot(MINUTE + 1).open, sealed)
        self.assertRaises(RecordRefused, self.scheme(secret_hash=bytes(32)).slot(MINUTE).open, sealed)

    def test_bad_rotation(self) -> None:
        """A rotation that does not return 32 bytes is refused."""
        keys = TopicKeys(TOPIC, SECRET_HASH, lambda *args, **kw: b"short")
        self.assertRaises(UsageError, SlotScheme(self.member(0).shared, keys).slot, MINUTE)

    def test_rules(self) -> None:
        """
        The number of a record slot is the minute of its records, all of which are used; no slot
        is so full that there is another one; the setting limits the records of others.
        """
        scheme = self.scheme(most=3)
        found = FoundRecord(IDS[1], MINUTE, (IDS[2],), (), (address(1),))
        self.assertEqual(scheme.minute(MINUTE, MINUTE * 60 + 3600.0), MINUTE)
        self.assertTrue(scheme.accepts(found))
        self.assertGreater(scheme.full, CANDIDATES)
        self.assertEqual(scheme.max_others, 3)
        self.assertFalse(scheme.outdated(found, GossipContent()))

    def test_combine(self) -> None:
        """The records of a publisher become one, in which the last one seen is first."""
        new = FoundRecord(IDS[1], MINUTE, (IDS[3],), (), (address(2),))
        old = evolve(new, active_peers=(IDS[2],), addresses=(address(1),))
        other = evolve(new, publisher=IDS[4])
        one, two = self.scheme().combine([new, other, old])
        self.assertEqual((one.publisher, one.active_peers), (IDS[1], (IDS[3], IDS[2])))
        self.assertEqual(one.addresses, (address(2), address(1)))
        self.assertEqual(two, other)

    def test_news(self) -> None:
        """A content is published again only if it adds something."""
        scheme, old = self.scheme(), GossipContent((IDS[1], IDS[2]), (), (address(1),))
        for new, is_news in (
            (old, False),
            (GossipContent((IDS[2],), (), (address(1),)), False),
            (GossipContent((IDS[3],), (), (address(1),)), True),
            (GossipContent((IDS[1],), (), (address(2),)), True),
        ):
            self.assertIs(scheme.is_news(old, new), is_news)

    def test_copies(self) -> None:
        """The more publishers there are, the fewer copies each has, but at least one."""
        copies = [self.scheme().copies(MINUTE, publishers) for publishers in (1, 2, 4, 8, 16, 32, 1000)]
        self.assertEqual(copies, sorted(copies, reverse=True))
        self.assertGreater(copies[0], 1)
        self.assertEqual(copies[-1], 1)
