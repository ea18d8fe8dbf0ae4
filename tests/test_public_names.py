"""
Tests for the public names of C{dtt}, and for the cost of importing it.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt import errors


class PublicNamesTests(SynchronousTestCase):
    """
    Tests for the names in C{dtt} itself.
    """

    def test_pinned(self) -> None:
        """The public names are those of this list."""
        self.assertEqual(
            dtt.__all__,
            [
                "Config",
                "DHTNode",
                "DiscoveryService",
                "Found",
                "GossipMessage",
                "GossipObserver",
                "PeerKey",
                "TopicId",
                "TopicService",
                "Tracker",
                "__version__",
            ],
        )

    def test_bound(self) -> None:
        """Each public name exists, is listed by dir(), and has a docstring."""
        for name in dtt.__all__:
            value = getattr(dtt, name)
            self.assertIn(name, dir(dtt))
            if name != "__version__":
                self.assertEqual(value.__name__, name)
                self.assertTrue(inspect.getdoc(value), name)

    def test_others(self) -> None:
        """An unknown name raises AttributeError."""
        with self.assertRaises(AttributeError):
            dtt.Nonsense  # noqa: B018

    def test_lazy(self) -> None:
        """
        Importing C{dtt} imports neither Twisted nor treq; using a name imports Twisted, but
        neither treq nor the reactor.
        """
        script = (
            "import sys, dtt\n"
            "loaded = lambda: [n for n in ('twisted', 'treq', 'nacl', 'attrs', 'twisted.internet.reactor')"
            " if n in sys.modules]\n"
            "print(loaded()); dtt.Tracker; print(loaded())\n"
        )
        output = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(dtt.__file__).parents[1])},
        ).stdout
        self.assertEqual(output, "[]\n['twisted', 'nacl', 'attrs']\n")


class ErrorsTests(SynchronousTestCase):
    """
    Tests for the exception hierarchy.
    """

    def test_documented(self) -> None:
        """Every exception has its own docstring, and is a DTTError."""
        found = [
            value
            for value in vars(errors).values()
            if inspect.isclass(value) and value.__module__ == errors.__name__
        ]
        self.assertGreater(len(found), 10)
        for error in found:
            self.assertTrue(issubclass(error, errors.DTTError), error)
            self.assertTrue(error.__dict__.get("__doc__"), error)

    def test_branches(self) -> None:
        """
        Each exception but the root is either a local or a remote error; errors of the
        caller are ValueErrors.
        """
        for error in vars(errors).values():
            if (
                inspect.isclass(error)
                and error is not errors.DTTError
                and error.__module__ == errors.__name__
            ):
                self.assertNotEqual(
                    issubclass(error, errors.LocalError), issubclass(error, errors.RemoteError), error
                )
        for error in (
            errors.UsageError,
            errors.ContentTooLarge,
            errors.DuplicateContent,
            errors.AlreadyJoined,
        ):
            self.assertTrue(issubclass(error, ValueError))
