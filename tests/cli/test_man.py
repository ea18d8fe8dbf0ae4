"""
Tests for L{dtt.cli.man}.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from dtt.cli import man
from dtt.cli.commands import options_of, run
from dtt.cli.table import COMMANDS, EXIT_CODES, GROUPS, SUMMARIES
from tests.cli.common import CommandTestCase


class ManTests(CommandTestCase):
    """
    Tests for C{dtt man}.
    """

    def test_pages(self) -> None:
        """Each command has a page with its summary, options and exit codes."""
        for name in COMMANDS:
            text = man.page(name)
            self.assertTrue(text.startswith(f'.TH "{man.page_name(name).upper()}" "1"'))
            self.assertEqual(
                [line.removeprefix(".SH ") for line in text.splitlines() if line.startswith(".SH ")],
                ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"],
            )
            self.assertIn(man.escaped(SUMMARIES[name].rstrip(".")), text)
            for option in options_of(name).described():
                self.assertIn(f".B {man.escaped(option.shown)}\n", text)
            for code, meaning in EXIT_CODES:
                self.assertIn(f".B {code}\n{man.escaped(meaning)}\n", text)

    def test_written(self) -> None:
        """--output writes all pages."""
        folder = Path(self.mktemp())
        self.assertEqual(run(["man", "--output", str(folder)]), 0)
        names = {f"{man.page_name(name)}.1" for name in ("", *COMMANDS)}
        self.assertEqual(set(os.listdir(folder)), names)
        self.assertEqual(self.printed(), [f"{len(names)} pages in {folder}"])
        self.assertEqual(run(["man", "nonsense"]), 2)
        self.printed()
        self.assertEqual(run(["man", "dht", "get"]), 0)
        self.assertEqual("\n".join(self.printed()) + "\n", man.page("dht get"))

    def test_groff(self) -> None:
        """groff has no warnings about them."""
        if shutil.which("groff") is None:
            raise SkipTest("groff is not installed")
        for text in (man.overview(), man.page("chat"), man.page("dht get")):
            done = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", "-z"],
                input=text.encode(),
                stderr=subprocess.PIPE,
                timeout=60,
                check=True,
            )
            self.assertEqual(done.stderr, b"")

    def test_escaped(self) -> None:
        """What has a meaning to roff is escaped."""
        self.assertEqual(man.escaped(".a-b\\c"), "\\&.a\\-b\\ec")

    def test_escaped_lines(self) -> None:
        """Only at its beginning are a dot and an apostrophe escaped, and a text may be empty."""
        for text, expected in (
            ("", ""),
            ("a.b'c", "a.b'c"),
            ("'a", "\\&'a"),
            ("--json", "\\-\\-json"),
            ("\\-", "\\e\\-"),
        ):
            self.assertEqual(man.escaped(text), expected)

    def test_overview(self) -> None:
        """The page of dtt lists all commands, exit codes and variables, and refers to all other pages."""
        self.assertEqual(run(["man"]), 0)
        text = "\n".join(self.printed()) + "\n"
        self.assertEqual(text, man.overview())
        for name in COMMANDS:
            self.assertIn(f".B {man.escaped(f'dtt {name}')}\n{man.escaped(SUMMARIES[name])}\n", text)
            self.assertIn(f".BR {man.escaped(man.page_name(name))} (1)", text)
        headings = [line.removeprefix(".SH ") for line in text.splitlines() if line.startswith(".SH ")]
        self.assertEqual(headings[:3], ["NAME", "SYNOPSIS", "DESCRIPTION"])
        self.assertEqual(headings[3:-4], [heading.upper() for heading, _ in GROUPS])
        self.assertEqual(headings[-4:], ["EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"])
        for word in ("DTT_STATE_DIR", "NO_COLOR", "dtt.toml"):
            self.assertIn(f".B {word}\n", text)
        references = text[text.index(".SH SEE ALSO") :].splitlines()[1:]
        self.assertEqual(
            [line.endswith(",") for line in references], [True] * (len(references) - 1) + [False]
        )

    def test_no_text_is_a_request(self) -> None:
        """No line of a text begins like a request to roff."""
        known = re.compile(r"\.(TH|SH|TP|BR?)( |$)")
        for text in (man.overview(), *map(man.page, COMMANDS)):
            for line in text.splitlines():
                self.assertTrue(known.match(line) or line[:1] not in ".'", line)

    def test_errors(self) -> None:
        """A directory that can't be written, and a name that is none, are one line."""
        file = Path(self.mktemp())
        file.touch()
        for words, code in (
            (["--output", str(file)], 1),
            (["--output", str(file / "below")], 1),
            (["--output", ""], 2),
            (["help"], 2),
            (["\x1b[2J" + "x" * 1000], 2),
            (["dht", "get", "more"], 2),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(["man", *words]), code, words)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [ -~]{1,200}\n\Z")
