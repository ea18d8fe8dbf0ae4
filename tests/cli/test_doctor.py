"""
Tests for L{dtt.cli.doctor}.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import checks_machine, doctor
from dtt.cli.commands import run
from dtt.cli.doctor import uses_color
from dtt.config import Config
from tests.cli.common import CommandTestCase


class ColorTests(SynchronousTestCase):
    """
    Tests for L{uses_color}.
    """

    def test_color(self) -> None:
        """Only a terminal is coloured, and not if NO_COLOR is set."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.assertTrue(uses_color({"TERM": "xterm"}, Terminal()))
        for environ, stream in (
            ({"TERM": "xterm", "NO_COLOR": "1"}, Terminal()),
            ({"TERM": "dumb"}, Terminal()),
            ({"TERM": ""}, Terminal()),
            ({}, Terminal()),
            ({"TERM": "xterm"}, io.StringIO()),
        ):
            self.assertFalse(uses_color(environ, stream))


class DoctorTests(CommandTestCase):
    """
    Tests for C{dtt doctor}.
    """

    def test_offline(self) -> None:
        """--offline checks the machine; the exit code says whether something is wrong."""
        self.patch(checks_machine, "clock_is_synchronized", lambda: True)
        self.patch(checks_machine, "local_addresses", lambda: ("192.168.0.5",))
        path = Path(self.mktemp())
        self.assertEqual(run(["doctor", "--offline", "--json", "--state-dir", str(path)]), 0)
        checks = [json.loads(line)["check"] for line in self.printed()]
        self.assertEqual(
            checks, ["versions", "clock", "state directory", "ports", "ports", "network", "IPv6"]
        )
        self.assertFalse(os.path.lexists(path))
        path.mkdir(0o755)
        self.assertEqual(run(["doctor", "--offline", "--state-dir", str(path)]), 1)
        self.assertTrue(any(line.startswith("FAIL") for line in self.printed()))

    def test_wrong(self) -> None:
        """Two topics, a blank one, and a secret without a topic are refused."""
        self.assertEqual(run(["doctor", "a", "b"]), 2)
        self.assertEqual(run(["doctor", " ", "--offline"]), 2)
        self.assertEqual(run(["doctor", "--secret-file", "x", "--offline"]), 2)

    def test_own_id(self) -> None:
        """Our own record does not count; without a key there is none."""
        options = doctor.DoctorOptions()
        self.assertEqual(doctor.Checks(options, Config(), [])._own_id(), b"")
        self.assertEqual(doctor.Checks(options, Config(state_dir=Path("nowhere")), [])._own_id(), b"")
