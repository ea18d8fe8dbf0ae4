"""
Tests for L{dtt.wire.values}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.wire.values import GossipMessage, frozen


@frozen(slots=True)
class Value:
    """
    A value.
    """

    number: int


class FrozenTests(SynchronousTestCase):
    """
    Tests for L{frozen}.
    """

    def test_value(self) -> None:
        """
        Equal values are equal, and have one place in a set; there is no other attribute.
        """
        self.assertEqual(Value(1), Value(1))
        self.assertNotEqual(Value(1), Value(2))
        self.assertEqual(len({Value(1), Value(1), Value(2)}), 2)
        value: Any = Value(1)
        with self.assertRaises(AttributeError):
            value.other = 5


class GossipMessageTests(SynchronousTestCase):
    """
    Tests for L{GossipMessage}.
    """

    def test_immutable(self) -> None:
        """
        An application can't change a message.
        """
        message: Any = GossipMessage(b"text", "swarm", b"a" * 32)
        with self.assertRaises(AttributeError):
            message.content = b"other"
        self.assertEqual(message.round, 0)

    def test_repr(self) -> None:
        """
        The content does not appear, only its size; a peer id is in hex.
        """
        shown = repr(GossipMessage(b"private", "neighbors", b"a" * 32, 3))
        self.assertNotIn("private", shown)
        self.assertTrue(shown.startswith("GossipMessage(content=<7 bytes>, scope='neighbors'"), shown)
        self.assertTrue(shown.endswith(f"delivered_from={'61' * 32}, round=3)"), shown)
