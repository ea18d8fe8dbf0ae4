"""
Tests for L{dtt.dht.arguments}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.arguments import check_immutable, check_key, check_port, check_target, item_to_put
from dtt.errors import WrongType
from dtt.interfaces import MutableRead
from dtt.krpc.items import MAX_SALT_SIZE, MAX_SEQ, MAX_VALUE_SIZE
from tests.dht.network import PUBLIC_KEY, SALT, SEED


def string(size: int) -> bytes:
    """
    A bencoded string of C{size} bytes in total.
    """
    return b"%d:" % (size - 4) + bytes(size - 4)


class ArgumentTests(SynchronousTestCase):
    """
    The last valid and the first invalid argument.
    """

    def assertLimits(self, good: list[Callable[[], object]], bad: list[Callable[[], object]]) -> None:
        for call in good:
            call()
        for call in bad:
            self.assertRaises(ValueError, call)

    def test_target(self) -> None:
        """
        A target has 20 bytes.
        """
        self.assertLimits(
            [lambda: check_target(bytes(20))],
            [lambda: check_target(bytes(19)), lambda: check_target(bytes(21))],
        )

    def test_key(self) -> None:
        """
        A public key has 32 bytes; a salt may be empty.
        """
        self.assertLimits(
            [lambda: check_key(bytes(32), b""), lambda: check_key(bytes(32), bytes(MAX_SALT_SIZE))],
            [
                lambda: check_key(bytes(31), b""),
                lambda: check_key(bytes(33), b""),
                lambda: check_key(bytes(32), bytes(MAX_SALT_SIZE + 1)),
            ],
        )

    def test_port(self) -> None:
        """
        A port is 1..65535, or 0 where that has a meaning; the message says which.
        """
        self.assertLimits(
            [lambda: check_port(1), lambda: check_port(65535), lambda: check_port(0, 0)],
            [lambda: check_port(-1, 0), lambda: check_port(65536)],
        )
        self.assertEqual(
            str(self.assertRaises(ValueError, check_port, 0)), "a port must be within 1..65535, not 0"
        )

    def test_immutable(self) -> None:
        """
        An immutable value is bencoded and not too long.
        """
        self.assertLimits(
            [lambda: check_immutable(b"i0e"), lambda: check_immutable(string(MAX_VALUE_SIZE))],
            [
                lambda: check_immutable(b""),
                lambda: check_immutable(b"i0ei0e"),
                lambda: check_immutable(string(MAX_VALUE_SIZE + 1)),
            ],
        )

    def test_item(self) -> None:
        """
        C{cas} is a sequence number, and a read is one of the same item.
        """
        read = MutableRead(PUBLIC_KEY, SALT, ())
        for cas in (None, 0, MAX_SEQ):
            item = item_to_put(SEED, SALT, 1, b"value", cas, read)
            self.assertEqual((item.public_key, item.salt, item.seq), (PUBLIC_KEY, SALT, 1))
        self.assertLimits(
            [],
            [
                lambda: item_to_put(SEED, SALT, 1, b"value", -1, None),
                lambda: item_to_put(SEED, SALT, 1, b"value", MAX_SEQ + 1, None),
                lambda: item_to_put(SEED, b"", 1, b"value", None, read),
                lambda: item_to_put(bytes(32), SALT, 1, b"value", None, read),
                lambda: item_to_put(bytes(31), SALT, 1, b"value", None, None),
            ],
        )

    def test_wrong_types(self) -> None:
        """
        A wrong type is refused as such.  Text with as many characters as bytes are expected is one, too.
        """
        wrong: Any
        for wrong in (None, 5, "x" * 20, "x" * 32, ["x"] * 20, bytearray(20)):
            self.assertRaises(WrongType, check_target, wrong)
            self.assertRaises(WrongType, check_key, wrong, b"")
            self.assertRaises(WrongType, check_key, bytes(32), wrong)
            self.assertRaises(WrongType, check_immutable, wrong)
            self.assertRaises(WrongType, item_to_put, wrong, SALT, 1, b"value", None, None)
            self.assertRaises(WrongType, item_to_put, SEED, wrong, 1, b"value", None, None)
            self.assertRaises(WrongType, item_to_put, SEED, SALT, 1, wrong, None, None)
        for wrong in ("6881", 6881.0, None, True):
            self.assertRaises(WrongType, check_port, wrong)
            self.assertRaises(WrongType, item_to_put, SEED, SALT, wrong, b"value", None, None)
        for wrong in ("1", 1.0, True):
            self.assertRaises(WrongType, item_to_put, SEED, SALT, 1, b"value", wrong, None)
        wrong = b"value"
        self.assertRaises(WrongType, item_to_put, SEED, SALT, 1, b"value", None, wrong)
