"""
Tests for L{dtt.cli.init} and L{dtt.app.sample}.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.sample import as_toml, described, sample
from dtt.cli.commands import run
from dtt.config import Config, DHTConfig, load_toml
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


class SampleTests(SynchronousTestCase):
    """
    Tests for L{sample}.
    """

    def test_complete(self) -> None:
        """Every setting is there with its default and what it means; all are comments."""
        text = sample(Path("/s"))
        path = Path(self.mktemp())
        path.write_text(text)
        self.assertEqual(load_toml(path), (Config(state_dir=Path("/s")), ()))
        lines = [line.removeprefix("# ") for line in text.splitlines()]
        for name, value in asdict(Config()).items():
            for key in value if isinstance(value, dict) else [name]:
                place = next(n for n, line in enumerate(lines) if line.startswith(f"{key} ="))
                if name != "state_dir":
                    self.assertRegex(lines[place - 1], r"[.:)]$", key)
        self.assertNotIn("{", re.sub(r'".*?"', "", text))

    def test_values(self) -> None:
        """Without the signs of comments, it has the defaults."""
        text = sample(Path("/s")).split("# The topics")[0]
        path = Path(self.mktemp())
        path.write_text(re.sub(r"(?m)^# (\w+ = .*)$", r"\1", text))
        self.assertEqual(load_toml(path)[0], evolve(Config(), state_dir=Path("/s")))

    def test_as_toml(self) -> None:
        """Values are written as TOML."""
        for value, written in (
            (True, "true"),
            (1.5, "1.5"),
            (("::1", 5), '"[::1]:5"'),
            ((("a", 1), ("b", 2)), '["a:1", "b:2"]'),
            ((), "[]"),
            (Path('/a "b"\\c'), '"/a \\"b\\"\\\\c"'),
        ):
            self.assertEqual(as_toml(value), written)

    def test_described(self) -> None:
        """The documentation of a class is plain text."""
        self.assertEqual(described(DHTConfig)["get_timeout"], "The timeout of one read of a slot (records).")
