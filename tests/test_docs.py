"""
Tests that the documentation is complete, and that its code works.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any
from unittest import TestResult

from attrs import asdict
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt import errors
from dtt.config import Config, load_toml
from dtt.events import EVENTS
from tests.sweeps import sized
from tests.tracker.common import fixed_chance

DOCS = Path(dtt.__file__).parents[1] / "docs"


def page(name: str) -> str:
    """
    Return the text of a page.
    """
    if not DOCS.exists():
        raise SkipTest("the documentation is not beside an installed package")
    return (DOCS / name).read_text("utf-8")


def keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    """
    Return the dotted names of all settings in C{table}.
    """
    found: set[str] = set()
    for key, value in table.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


class DocsTests(SynchronousTestCase):
    """
    Tests for lists and code in docs/.
    """

    def test_errors(self) -> None:
        """Every exception is in the table of errors or in the text below it."""
        text = page("reference/errors.md")
        for name, value in vars(errors).items():
            if inspect.isclass(value) and issubclass(value, errors.DTTError):
                self.assertIn(f"`{name}`", text)

    def test_events(self) -> None:
        """Every event is in the table of events, with its JSON fields."""
        section = page("reference/events.md")
        rows = [row for row in section.splitlines() if row.startswith("| `")]
        for event in EVENTS:
            row = next(row for row in rows if f"`{event.name}`" in row.split("|")[1])
            for field in event.__attrs_attrs__:
                self.assertIn(f"`{field.name}`", row.split("|")[2], event.name)

    def test_settings(self) -> None:
        """The configuration file shows every setting with its default."""
        (shown,) = re.findall(r"```toml\n(.*?)```", page("reference/configuration.md"), re.DOTALL)
        path = Path(self.mktemp())
        path.write_text(shown)
        config, topics = load_toml(path)
        self.assertEqual(config, Config())
        self.assertEqual(len(topics), 1)
        # Settings without a default are in comments, in their table.
        commented, prefix = [], ""
        for line in shown.splitlines():
            if line.startswith("["):
                prefix = line.partition("]")[0].strip("[") + "."
            elif match := re.match(r"# (\w+) = ", line):
                commented.append(prefix + match[1])
        table = tomllib.loads(shown)
        del table["topic"]
        self.assertEqual(keys(table) | set(commented), keys(asdict(config)))

    def test_embedding(self) -> None:
        """The test without a network passes as shown."""
        fixed_chance(self)
        code = re.findall(r"```python\n(.*?)```", page("how-to/testing.md"), re.DOTALL)[-1]
        names: dict[str, Any] = {"__name__": "shown"}
        exec(compile(code, "how-to/testing.md", "exec"), names)
        result = TestResult()
        names["MeetingTests"]("test_meeting").run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))

    def test_simulate(self) -> None:
        """The simulation passes as shown."""
        (code,) = re.findall(r"```python\n(.*?)```", page("how-to/simulate.md"), re.DOTALL)
        names: dict[str, Any] = {"__name__": "shown"}
        exec(compile(code, "how-to/simulate.md", "exec"), names)
        result = TestResult()
        names["JamTests"]("test_jam").run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))

    def test_testing(self) -> None:
        """The tests on a full-size DHT pass as shown; the first one if the test is to be quick."""
        fixed_chance(self)
        (code,) = re.findall(r"```python\n(.*?)```", page("how-to/testing-at-scale.md"), re.DOTALL)
        names: dict[str, Any] = {"__name__": "shown"}
        exec(compile(code, "how-to/testing-at-scale.md", "exec"), names)
        result = TestResult()
        shown = ("test_strangers", "test_newcomer", "test_recall")[: sized(1, 3)]
        for name in shown:
            names["ColdStartTests"](name).run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (len(shown), [], []))

    def test_docstrings(self) -> None:
        """A field of a docstring begins a line: anywhere else it is text."""
        for path in Path(dtt.__file__).parent.rglob("*.py"):
            found = re.search(r"\S +@(?:ivar|param|return|raise) ?\w*:", path.read_text("utf-8"))
            self.assertIsNone(found, f"{path}: {found}")
