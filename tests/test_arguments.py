"""
Tests for L{dtt.arguments}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.arguments import (
    check_bytes,
    check_function,
    check_id,
    check_ids,
    check_integer,
    check_methods,
    check_number,
    check_type,
)
from dtt.errors import UsageError, WrongType

PEER = bytes(range(32))


async def coroutine() -> None:
    """Do nothing."""


async def iterator() -> AsyncIterator[int]:
    """Yield one number."""
    yield 1


class Asynchronous:
    """Instances are asynchronous functions."""

    async def __call__(self) -> None:
        """Do nothing."""


class ArgumentsTests(SynchronousTestCase):
    """
    What is accepted; and of what is not, which error and what it says.
    """

    def refused(self, kind: type[Exception], check: Any, *arguments: Any) -> str:
        """Return the message of the error, which must be exactly of this type."""
        error = self.assertRaises(kind, check, *arguments)
        self.assertIs(type(error), kind)
        return str(error)

    def test_type(self) -> None:
        """The message names the argument, what it must be, and the type that it has."""
        check_type("size", 5, (int, float), "a number")
        message = self.refused(WrongType, check_type, "size", None, int, "a number")
        self.assertEqual(message, "size must be a number, not None")

    def test_bytes(self) -> None:
        """Text is to be encoded; neither text nor another secret is in the message."""
        check_bytes("secret", b"")
        message = self.refused(WrongType, check_bytes, "secret", "hunter2")
        self.assertEqual(message, "secret must be bytes, not str; encode it")
        self.assertNotIn("hunter2", self.refused(WrongType, check_bytes, "secret", ["hunter2"]))
        self.refused(WrongType, check_bytes, "secret", bytearray(b"x"))

    def test_numbers(self) -> None:
        """True is not a number."""
        check_number("size", 1)
        check_number("size", 1.5)
        check_integer("size", 1)
        for wrong in (True, "1", None):
            self.assertIn("size must be a number", self.refused(WrongType, check_number, "size", wrong))
            self.assertIn("size must be an integer", self.refused(WrongType, check_integer, "size", wrong))
        self.refused(WrongType, check_integer, "size", 1.5)

    def test_methods(self) -> None:
        """An object must have the methods; its class is not the object."""
        check_methods("size", 1, ("bit_length",), "an integer")
        message = self.refused(WrongType, check_methods, "size", "1", ("bit_length",), "an integer")
        self.assertEqual(message, "size must be an integer, not str of length 1")
        message = self.refused(WrongType, check_methods, "size", int, ("bit_length",), "an integer")
        self.assertEqual(message, "size must be an integer, not the class int")

    def test_id(self) -> None:
        """A peer id is 32 bytes."""
        check_id("peer", PEER)
        for wrong in (b"", PEER[1:], PEER + b"x"):
            message = self.refused(UsageError, check_id, "peer", wrong)
            self.assertEqual(message, f"peer must be a peer id of 32 bytes, not bytes of length {len(wrong)}")
        self.refused(WrongType, check_id, "peer", PEER.hex())

    def test_ids(self) -> None:
        """Sequences and sets of ids become tuples; a single id is no sequence of ids."""
        for good in ([PEER], (PEER,), {PEER}, frozenset({PEER})):
            self.assertEqual(check_ids("peers", good), (PEER,))
        self.assertEqual(check_ids("peers", []), ())
        for wrong in (PEER, "text", None, 5, iter([PEER])):
            self.assertIn("a sequence of peer ids", self.refused(WrongType, check_ids, "peers", wrong))
        self.assertIn("peers[1]", self.refused(UsageError, check_ids, "peers", [PEER, b"short"]))
        self.assertIn("peers[0]", self.refused(WrongType, check_ids, "peers", ["x" * 32]))

    def test_function(self) -> None:
        """Plain functions of any kind are accepted, and None only if it is optional."""
        for good in (print, lambda: None, "".join, partial(print, 1), dict):
            check_function("observer", good)
        check_function("observer", None, optional=True)
        self.refused(WrongType, check_function, "observer", None)
        self.refused(WrongType, check_function, "observer", "print", True)

    def test_asynchronous_function(self) -> None:
        """What makes a coroutine or an asynchronous iterator is refused in each form."""
        for wrong in (coroutine, iterator, Asynchronous(), Asynchronous().__call__, partial(coroutine)):
            message = self.refused(WrongType, check_function, "observer", wrong)
            self.assertIn("observer is a coroutine function", message)
