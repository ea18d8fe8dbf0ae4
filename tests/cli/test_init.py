"""
Tests for L{dtt.cli.init}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.commands import run
from dtt.config import Config, load_toml
from dtt.state import StateDirectory, load_key


class InitTests(SynchronousTestCase):
    """
    Tests for C{dtt init}.
    """

    def setUp(self) -> None:
        """Capture the output."""
        self.folder = Path(self.mktemp()).absolute()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def test_new(self) -> None:
        """It makes the directory, a key and a configuration file, and prints the peer id."""
        self.assertEqual(run(["init", str(self.folder)]), 0)
        self.assertEqual(sorted(os.listdir(self.folder)), ["dtt.toml", "lock", "peer.key"])
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        for name in os.listdir(self.folder):
            self.assertEqual((self.folder / name).stat().st_mode & 0o777, 0o600)
        peer_id = load_key(self.folder / "peer.key").peer_id.hex()
        self.assertEqual(self.out.getvalue().splitlines()[0], peer_id)
        config, topics = load_toml(self.folder / "dtt.toml")
        self.assertEqual((config, topics), (Config(state_dir=self.folder), ()))

    def test_again(self) -> None:
        """Existing files stay unchanged."""
        run(["init", str(self.folder)])
        (self.folder / "dtt.toml").write_text("# mine")
        key = (self.folder / "peer.key").read_bytes()
        self.assertEqual(run(["init", str(self.folder)]), 0)
        self.assertEqual((self.folder / "dtt.toml").read_text(), "# mine")
        self.assertEqual((self.folder / "peer.key").read_bytes(), key)
        self.assertIn("existed already", self.out.getvalue())

    def test_default(self) -> None:
        """The default is the state directory of the service."""
        self.patch(os, "environ", {**os.environ, "DTT_STATE_DIR": str(self.folder)})
        self.assertEqual(run(["init", "--json"]), 0)
        shown = json.loads(self.out.getvalue())
        self.assertEqual(shown["state_dir"], str(self.folder))
        self.assertEqual(shown["config"], str(self.folder / "dtt.toml"))

    def test_unusual_path(self) -> None:
        """The configuration file can be read, whatever characters the path has."""
        for name in ("\U0001f44b gr\u00fc\u00df", "a\x7f\x1b\n\t'\"\\"):
            folder = self.folder / name
            self.assertEqual(run(["init", str(folder)]), 0)
            self.assertEqual(load_toml(folder / "dtt.toml")[0].state_dir, folder)

    def test_path_that_is_no_text(self) -> None:
        """A path that TOML can't express is refused before anything is created."""
        self.assertEqual(run(["init", f"{self.folder}\udcff"]), 1)
        self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+ not UTF-8[^\n]+\n\Z")
        self.assertFalse(os.path.lexists(f"{self.folder}\udcff"))

    def test_errors(self) -> None:
        """A directory in use, of others, or that is none: one line."""
        run(["init", str(self.folder)])
        directory = StateDirectory(self.folder)
        directory.lock()
        file = Path(self.mktemp())
        file.touch()
        lax = Path(self.mktemp())
        lax.mkdir(mode=0o755)
        for path, code in ((self.folder, 1), (file, 1), (lax, 1), ("", 2)):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(["init", str(path)]), code)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+\n\Z")
        directory.unlock()
        self.assertEqual(os.listdir(lax), [])
