"""
Tests for L{dtt.errors}.
"""

from __future__ import annotations

import errno
import os
from copy import copy

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import (
    DTTError,
    EnvelopeRefused,
    ListenError,
    LocalError,
    PublishFailed,
    QueryRefused,
    RecordRefused,
    UsageError,
    WrongType,
)


class ErrorsTests(SynchronousTestCase):
    """
    What the exceptions say and have.
    """

    def test_listen(self) -> None:
        """
        The message says which address can't be bound and why, and what to do if it is taken; the
        reason has no advice.
        """
        where = "UDP 127.0.0.1 port 1"
        taken, denied = (OSError(code, os.strerror(code)) for code in (errno.EADDRINUSE, errno.EACCES))
        for error, port, reason, advice in (
            (taken, "--dht-port", os.strerror(errno.EADDRINUSE), "; choose another --dht-port, or 0 for any"),
            (denied, "port", os.strerror(errno.EACCES), ""),
            ("no such address", "port", "no such address", ""),
            (OSError("odd"), "port", "odd", ""),
        ):
            made = ListenError.of(where, error, port)
            self.assertEqual(made.reason, f"can't listen on {where}: {reason}")
            self.assertEqual(str(made), f"{made.reason}{advice}")
        self.assertEqual(ListenError("words").reason, "words")

    def test_texts(self) -> None:
        """
        An exception with several values says the ones that matter, also when it is copied.
        """
        for error, text in (
            (RecordRefused("decrypt", "length"), "decrypt: length"),
            (EnvelopeRefused("time", b"author", 5.0), "time"),
            (QueryRefused(301, "no"), "301 no"),
            (PublishFailed("newer packet", newer_seq=5), "newer packet"),
        ):
            self.assertEqual((str(error), str(copy(error))), (text, text))
            self.assertEqual(vars(copy(error)), vars(error))

    def test_kinds(self) -> None:
        """
        Wrong arguments are also the exceptions that Python programs expect.
        """
        self.assertTrue(issubclass(UsageError, ValueError))
        self.assertTrue(issubclass(WrongType, TypeError))
        self.assertTrue(issubclass(WrongType, UsageError))
        self.assertTrue(issubclass(UsageError, LocalError))
        self.assertTrue(issubclass(LocalError, DTTError))
