"""
Tests for L{dtt.app.sample}.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from attrs import asdict, evolve, frozen
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.sample import as_toml, described, sample
from dtt.config import Config, DHTConfig, load_toml


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
            (False, "false"),
            (5, "5"),
            (("a", 5), '"a:5"'),
            ([("a", "b"), 1], '[["a", "b"], 1]'),
            ("\U0001f44b\x7f\n", '"\U0001f44b\\u007f\\n"'),
            (Path('/a "b"\\c'), '"/a \\"b\\"\\\\c"'),
        ):
            self.assertEqual(as_toml(value), written)

    def test_read_again(self) -> None:
        """Every character of a text is read as it was."""
        text = "".join(map(chr, (*range(0x300), *range(0x2000, 0x2100), 0x1F44B, 0x10FFFF)))
        self.assertEqual(tomllib.loads(f"text = {as_toml(text)}"), {"text": text})

    def test_described(self) -> None:
        """The documentation of a class is plain text."""
        self.assertEqual(described(DHTConfig)["get_timeout"], "The timeout of one read of a slot (records).")

    def test_described_values(self) -> None:
        """A text that begins with a value keeps it, and C{None} is called not set."""

        @frozen
        class Settings:
            """
            @ivar one: C{lan} or C{dht}, see L{Config<dtt.config.Config>}.

                More.
            @ivar two: a number; C{None}: any.
            """

            one: str = ""
            two: int | None = None

        self.assertEqual(
            described(Settings), {"one": "lan or dht, see Config.", "two": "A number; not set: any."}
        )
