"""
Tests for L{dtt.app.usage}.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.usage import (
    CommandOptions,
    VersionedOptions,
    at_most_one,
    exactly_one,
    path_name,
    seconds,
    terminal_width,
    value_of,
    whole_number,
)
from dtt.errors import UsageError


class Sample(CommandOptions):
    """Sample options."""

    optFlags = [["flag", "f", "A flag."]]
    optParameters = [["value", "v", None, "A value."], ["number", None, 1, "A number.", int]]

    def parseArgs(self, *arguments: str) -> None:
        self.arguments = arguments

    def postOptions(self) -> None:
        if self["value"] == "bad":
            raise UsageError("a bad value")


class Described(CommandOptions):
    """Sample options, with all that their help needs."""

    longdesc = "It does something that is explained in a sentence."
    optFlags = [["flag", "f", "A flag."]]
    optParameters = [
        ["count", "n", 0, "A number."],
        ["timeout", "t", 1.5, "A time."],
        ["letter", None, "b", "A letter."],
        ["extra-file", None, None, "A file."],
        ["other", None, "", "Something else."],
    ]
    placeholders = {"letter": "X", "count": "N"}


class CommandOptionsTests(SynchronousTestCase):
    """
    Tests for L{CommandOptions}.
    """

    def parse(self, *arguments: str) -> Sample:
        """Parse C{arguments}."""
        options = Sample()
        options.parseOptions(list(arguments))
        return options

    def test_options_may_follow(self) -> None:
        """Options are accepted before and after arguments, in all forms; -- ends them."""
        for arguments in (
            ("--value", "x", "--flag", "a", "b"),
            ("a", "b", "--value=x", "--flag"),
            ("a", "-v", "x", "b", "-f"),
            ("a", "-fvx", "b"),
        ):
            options = self.parse(*arguments)
            self.assertEqual(
                (options["value"], options["flag"], options.arguments), ("x", 1, ("a", "b")), arguments
            )
        self.assertEqual(self.parse("a", "--", "--flag").arguments, ("a", "--flag"))
        self.assertEqual(self.parse("--value", "--flag")["value"], "--flag")
        self.assertEqual(self.parse("--value=a=b")["value"], "a=b")
        self.assertEqual(self.parse("--value=")["value"], "")
        self.assertEqual(self.parse("-v", "").__getitem__("value"), "")

    def test_wrong(self) -> None:
        """Errors are usage errors, including those of dtt's own code."""
        for arguments in (
            ("--nonsense",),
            ("a", "--nonsense"),
            ("--fl",),
            ("--val", "x"),
            ("--value",),
            ("--number", "x"),
            ("--value", "bad"),
        ):
            with self.assertRaises(usage.UsageError, msg=str(arguments)):
                self.parse(*arguments)

    def test_version(self) -> None:
        """--version prints the version of dtt."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        with self.assertRaises(SystemExit) as raised:
            VersionedOptions().parseOptions(["--version"])
        self.assertEqual(raised.exception.code, 0)
        self.assertRegex(out.getvalue(), r"^dtt \d+\.\d+")

    def test_help(self) -> None:
        """--help prints the help, wherever it is, and nothing else is done."""
        for words in (["--help"], ["-h"], ["--value", "x", "--help", "a"]):
            out = io.StringIO()
            self.patch(sys, "stdout", out)
            with self.assertRaises(SystemExit) as raised:
                Sample().parseOptions(words)
            self.assertEqual((raised.exception.code, out.getvalue()), (0, str(Sample()).rstrip("\n") + "\n"))

    def test_no_arguments(self) -> None:
        """By default, a command takes no positional arguments; the error shows the start of the first one."""
        with self.assertRaises(usage.UsageError) as raised:
            CommandOptions().parseOptions(["x" * 1000, "y"])
        self.assertEqual(str(raised.exception), f"unexpected argument '{'x' * 80}'; see --help")

    def test_errors(self) -> None:
        """The error names the option as it was typed, with a suggestion if one is similar."""
        for words, error in (
            (["--value"], "option --value requires argument"),
            (["-v"], "option -v requires argument"),
            (["-fv"], "option -v requires argument"),
            (["--flag=1"], "option --flag must not have an argument"),
            (["-z"], "unknown option '-z'; see --help"),
            (["-fz"], "unknown option '-z'; see --help"),
            (["--"], None),
            (["--vlaue", "1"], "unknown option '--vlaue'; did you mean --value or --flag?"),
            (["--v"], "unknown option '--v'; did you mean --value or --version?"),
            (["--" + "x" * 1000], f"unknown option '--{'x' * 78}'; see --help"),
            (["--value", "bad"], "a bad value"),
        ):
            if error is None:
                self.parse(*words)
                continue
            with self.assertRaises(usage.UsageError) as raised:
                self.parse(*words)
            self.assertEqual(str(raised.exception), error)


class HelpTests(SynchronousTestCase):
    """
    Tests for the help of options.
    """

    def test_described(self) -> None:
        """Each option has its letter, a placeholder and its default; those of all commands are the last."""
        shown = [(option.shown, option.text) for option in Described().described()]
        self.assertEqual(
            sorted(shown[:-2]),
            [
                ("--extra-file FILE", "A file."),
                ("--letter X", "A letter. Default: b."),
                ("--other VALUE", "Something else."),
                ("-f, --flag", "A flag."),
                ("-n, --count N", "A number. Default: 0."),
                ("-t, --timeout SECONDS", "A time. Default: 1.5."),
            ],
        )
        self.assertEqual(
            sorted(shown[-2:]),
            [
                ("-V, --version", "Print the version and exit."),
                ("-h, --help", "Print this help and exit."),
            ],
        )

    def test_width(self) -> None:
        """The text has the width that is asked for, at least 20 columns."""
        for width, longest in ((60, 60), (20, 20), (1, 20)):
            lines = Described().getUsage(width).splitlines()
            self.assertLessEqual(max(map(len, lines)), longest)
        self.assertGreater(max(map(len, Described().getUsage(60).splitlines())), 20)

    def test_terminal_width(self) -> None:
        """$COLUMNS has priority, the terminal is next, and then there are 80 columns."""

        def no_terminal(descriptor: int) -> os.terminal_size:
            raise OSError(25, "Inappropriate ioctl for device")

        self.patch(os, "get_terminal_size", lambda descriptor: os.terminal_size((123, 50)))
        for columns, width in (("50", 50), ("", 123), ("x", 123), ("0", 123), ("3", 20)):
            self.patch(os, "environ", {"COLUMNS": columns})
            self.assertEqual(terminal_width(), width, columns)
        self.patch(os, "environ", {})
        self.assertEqual(terminal_width(), 123)
        self.patch(os, "get_terminal_size", no_terminal)
        self.assertEqual(terminal_width(), 80)


class ValueTests(SynchronousTestCase):
    """
    Tests for the functions that parse values of options.
    """

    def assert_refused(self, parse: Callable[[str], Any], *texts: str) -> None:
        """
        Assert that each text is refused, with an error that quotes the start of it.
        """
        for text in texts:
            error = self.assertRaises(ValueError, parse, text)
            self.assertIn(repr(text[:80]), str(error))
            self.assertLess(len(str(error)), 200)

    def test_whole_number(self) -> None:
        """A whole number has only ASCII digits, and is within its limits, which belong to them."""
        parse = whole_number(1, 1000)
        self.assertEqual([parse(text) for text in ("1", "007", "1000")], [1, 7, 1000])
        self.assert_refused(
            parse, "0", "1001", "", "-1", "+1", "1.0", "1_0", " 1", "\u0661", "\u00b2", "9" * 5000, "x"
        )
        self.assertEqual(whole_number(0, 2**63 - 1)("9223372036854775807"), 2**63 - 1)
        self.assert_refused(whole_number(0, 2**63 - 1), "9223372036854775808")

    def test_seconds(self) -> None:
        """Seconds may be a fraction, but nothing without an end."""
        self.assertEqual(
            [seconds(text) for text in ("0", "1.5", "1e3", "1000000000")], [0.0, 1.5, 1000.0, 1e9]
        )
        self.assert_refused(
            seconds, "", "-1", "-0.1", "nan", "inf", "1000000001", "1_0", "\u0661", "1s", "9" * 5000
        )

    def test_path(self) -> None:
        """A path is not empty, and has no NUL."""
        self.assertEqual(path_name(" a b "), " a b ")
        self.assert_refused(path_name, "", " ", "a\0b")

    def test_value_of(self) -> None:
        """The error of a parse function gets the name of its option; other errors pass."""
        self.assertEqual(value_of("count", int)("5"), 5)
        error = self.assertRaises(UsageError, value_of("count", whole_number(0, 5)), "6")
        self.assertEqual(str(error), "--count: '6' is not a number in 0..5")

        def broken(text: str) -> int:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, value_of("count", broken), "6")


class OneArgumentTests(SynchronousTestCase):
    """
    Tests for L{at_most_one} and L{exactly_one}.
    """

    def test_at_most_one(self) -> None:
        """There may be one argument, or none."""
        self.assertEqual(at_most_one("find", "TOPIC", ("a b",)), "a b")
        self.assertIsNone(at_most_one("find", "TOPIC", ()))
        error = self.assertRaises(usage.UsageError, at_most_one, "find", "TOPIC", ("a", "b"))
        self.assertEqual(str(error), "find takes one TOPIC, not 2")

    def test_exactly_one(self) -> None:
        """There must be one argument; the message ends with the hint."""
        self.assertEqual(exactly_one("dht put", "FILE", ("",)), "")
        for given in ((), ("a", "b", "c")):
            error = self.assertRaises(usage.UsageError, exactly_one, "dht put", "FILE", given, "; see --help")
            self.assertEqual(str(error), f"dht put takes one FILE, not {len(given)}; see --help")
