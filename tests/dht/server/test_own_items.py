"""
Tests for L{dtt.dht.server.own_items}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.own_items import MAX_SIGNED, OwnItems
from dtt.interfaces import ServedItem
from dtt.krpc.bencode import decode

TARGET = b"t" * 20


class OwnItemsTests(SynchronousTestCase):
    """
    Tests for L{OwnItems}.
    """

    def test_sources(self) -> None:
        """The first source that has an item answers; one that has ended does not."""
        items = OwnItems()
        self.assertIsNone(items.get(TARGET))
        asked: list[bytes] = []

        def nothing(target: bytes) -> None:
            asked.append(target)

        items.add([TARGET], nothing)
        end = items.add([TARGET], lambda _: ServedItem(bytes(32), b"salt", b"one", 5))
        items.add([TARGET], lambda _: ServedItem(bytes(32), b"", b"two"))
        item = items.get(TARGET)
        assert item is not None
        self.assertTrue(item.is_genuine())
        self.assertEqual((decode(item.encoded), item.seq, item.salt), (b"one", 5, b"salt"))
        self.assertEqual(asked, [TARGET])
        end()
        end()
        item = items.get(TARGET)
        assert item is not None
        self.assertEqual((decode(item.encoded), item.seq), (b"two", 2**63 - 1))

    def test_other_targets(self) -> None:
        """A source is asked for its own targets only, and nothing is left of one that has ended."""
        items = OwnItems()
        asked: list[bytes] = []

        def source(target: bytes) -> ServedItem:
            asked.append(target)
            return ServedItem(bytes(32), b"", target)

        ends = [items.add((TARGET, b"u" * 20), source), items.add((TARGET,), source)]
        self.assertIsNone(items.get(b"v" * 20))
        self.assertEqual(asked, [])
        self.assertIsNotNone(items.get(b"u" * 20))
        self.assertEqual(asked, [b"u" * 20])
        for end in ends:
            end()
        self.assertIsNone(items.get(TARGET))
        self.assertEqual(items._sources, {})

    def test_signed_once(self) -> None:
        """An item is signed once, and the number of those remembered is bounded."""
        items = OwnItems()
        served = [ServedItem(bytes(32), b"", number.to_bytes(2)) for number in range(MAX_SIGNED + 1)]
        items.add([TARGET], lambda _: served[0])
        first = items.get(TARGET)
        self.assertIs(items.get(TARGET), first)
        for _ in range(MAX_SIGNED):
            del served[0]
            items.get(TARGET)
        self.assertEqual(len(items._signed), MAX_SIGNED)

    def test_repr(self) -> None:
        """A served item shows neither its seed nor its value."""
        shown = repr(ServedItem(b"s" * 32, b"salt!", b"value!"))
        for secret in ("ssss", "salt!", "value!"):
            self.assertNotIn(secret, shown)
