"""
The results of C{dtt doctor}, and their layout.  Pure.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from dtt.app.helptext import wrap


class Verdict(Enum):
    """
    The verdict of a check.
    """

    GOOD = "ok"
    #: Worth knowing; nothing to do.
    NOTE = "note"
    #: It works, but not as well as it could.
    WARNING = "warn"
    #: It does not work.
    BAD = "FAIL"


@frozen(slots=True)
class Finding:
    """
    The result of one check.

    @ivar check: what was checked, for example C{"state directory"}.
    @ivar verdict: the result.
    @ivar text: the details.
    @ivar advice: what to do; empty: nothing.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """
        Return the finding as JSON values.
        """
        return {
            "check": self.check,
            "result": self.verdict.value.lower(),
            "text": self.text,
            "advice": self.advice,
        }

    def lines(self, width: int, *, colored: bool = False) -> list[str]:
        """
        Return the finding as lines of text.

        @param width: the width in columns.
        @param colored: whether the terminal shows colours.
        """
        sign = f"{self.verdict.value:4}"
        if colored:
            sign = f"\x1b[{_COLORS[self.verdict]}m{sign}\x1b[0m"
        first, *rest = wrap(f"{self.check}: {self.text}", max(width - 6, 1))
        lines = [f"{sign}  {first}", *(f"      {line}" for line in rest)]
        if self.advice:
            begin, *more = wrap(self.advice, max(width - 9, 1))
            lines += [f"      -> {begin}", *(f"         {line}" for line in more)]
        return lines


#: ECMA-48 "select graphic rendition": green, default, yellow, bold red.
_COLORS = {Verdict.GOOD: "32", Verdict.NOTE: "0", Verdict.WARNING: "33", Verdict.BAD: "1;31"}
