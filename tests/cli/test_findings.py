"""
Tests for L{dtt.cli.findings}.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.findings import Finding, Verdict


class FindingTests(SynchronousTestCase):
    """
    Tests for L{Finding}.
    """

    def test_lines(self) -> None:
        """A finding begins with its verdict; the advice is below."""
        finding = Finding("clock", Verdict.BAD, "it is wrong", "set it")
        self.assertEqual(finding.lines(80), ["FAIL  clock: it is wrong", "      -> set it"])
        self.assertEqual(
            finding.as_json(), {"check": "clock", "result": "fail", "text": "it is wrong", "advice": "set it"}
        )
        self.assertTrue(finding.lines(80, colored=True)[0].startswith("\x1b[1;31mFAIL\x1b[0m"))
        for width in range(20, 40):
            self.assertLessEqual(max(map(len, finding.lines(width))), width)

    def test_color_takes_no_room(self) -> None:
        """Colours change neither the layout nor the text."""
        for verdict in Verdict:
            finding = Finding("network", verdict, "words " * 20, "advice " * 20)
            plain = finding.lines(40)
            colored = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in finding.lines(40, colored=True)]
            self.assertEqual(colored, plain)
            self.assertIn(max(map(len, plain)), range(30, 41))
            self.assertEqual(plain[0][:15], f"{verdict.value:4}  network: ")

    def test_no_advice(self) -> None:
        """Without advice there is only the text; JSON has all keys."""
        finding = Finding("clock", Verdict.GOOD, "synchronized")
        self.assertEqual(finding.lines(80), ["ok    clock: synchronized"])
        self.assertEqual(
            finding.as_json(), {"check": "clock", "result": "ok", "text": "synchronized", "advice": ""}
        )

    def test_narrow(self) -> None:
        """Any width gives a result, and loses no word."""
        finding = Finding("clock", Verdict.NOTE, "one two", "three four")
        for width in (0, 1, 6, 9, 12):
            self.assertEqual(
                "".join(re.findall(r"\w", "".join(finding.lines(width)))), "noteclockonetwothreefour"
            )
