"""
Tests that the documents cited in the code exist and contain the cited parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent

_RULES = r"(?:writer )?(?:rules?|items?) \d+(?:(?:, | and |-)\d+)*"
_QUIRKS = r"Q\d+(?:(?:, | and )Q\d+)*"
_QUOTATIONS = r"\"[^\"]+\"(?: and \"[^\"]+\")*"
_PLACE = rf"(?:{_RULES}|{_QUIRKS}|[A-H]\b|{_QUOTATIONS})"
_NUMBERS = r"\d+(?:\.\d+)?(?:(?:, | and | to )\d+(?:\.\d+)?)*"

#: A page, optionally with sections, optionally with a place in them.
CITATION = re.compile(rf"docs/([\w/-]+\.md)(?:,? sections? ({_NUMBERS}))?(?:,? ({_PLACE}))?")


def sources() -> Iterator[tuple[str, str]]:
    """
    Yield the files with citations, and their text without line breaks and comment signs.
    """
    paths = [path for folder in ("dtt", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    for path in sorted((*paths, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md")):
        if path != Path(__file__):
            text = re.sub(r"\s*\n\s*(?:#:? ?)?", " ", path.read_text("utf-8"))
            yield path.relative_to(ROOT).as_posix(), text


@cache
def sections(page: str) -> dict[str, str]:
    """
    Return the numbered sections of a page, with their subsections; C{""} is the whole page.
    """
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = {"": text}
    headings = list(re.finditer(r"^(#+) (\d+(?:\.\d+)?)\.? .*$", text, re.MULTILINE))
    for heading in headings:
        rest = text[heading.end() :]
        end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
        found[heading[2]] = rest[: end.start()] if end else rest
    return found


def missing(page: str, numbers: str | None, place: str | None) -> str | None:
    """
    Return which part of a citation can't be found.
    """
    if not (ROOT / "docs" / page).is_file():
        return f"no page docs/{page}"
    cited = re.findall(r"\d+(?:\.\d+)?", numbers or "")
    for number in cited:
        if number not in sections(page):
            return f"no section {number} in docs/{page}"
    where = "\n".join(sections(page)[number] for number in cited or [""])
    if place is None:
        return None
    if place.startswith('"'):
        wanted = [re.escape(words) for words in re.findall(r'"([^"]+)"', place)]
    elif place.startswith("Q"):
        wanted = [rf"\*\*{each}\*\*" for each in re.findall(r"Q\d+", place)]
    elif place in "ABCDEFGH":
        wanted = [rf"^- \*\*{place}\. "]
    else:
        wanted = [f"^{each}[.] " for each in re.findall(r"\d+", place)]
    lost = [each for each in wanted if not re.search(each, where, re.MULTILINE)]
    return f"not in docs/{page} section {numbers}: {lost}" if lost else None


class CitationsTests(SynchronousTestCase):
    """
    Tests for all citations.
    """

    def test_all_resolve(self) -> None:
        """
        Each cited page, section, rule, item and quotation exists.
        """
        wrong, count = [], 0
        for name, text in sources():
            for match in CITATION.finditer(text):
                count += 1
                problem = missing(*match.groups())
                if problem is not None:
                    wrong.append(f"{name}: {match[0]!r}: {problem}")
        self.assertEqual(wrong, [])
        self.assertGreater(count, 150)

    def test_what_is_missing_is_named(self) -> None:
        """
        A missing page, section, rule and quotation are reported.
        """
        page = "docs/protocol/dht.md section 4"
        for text, problem in (
            (f"{page}, rules 2 and 3", None),
            ("docs/protocol/gossip.md sections 4 and 11, Q3 and Q10", None),
            ("docs/protocol/nothing.md", "no page docs/protocol/nothing.md"),
            ("docs/protocol/dht.md section 99", "no section 99 in docs/protocol/dht.md"),
            (f"{page}, rule 99", f"not in {page}: [{'^99[.] '!r}]"),
            (f'{page}, "nonsense"', f"not in {page}: ['nonsense']"),
        ):
            match = CITATION.fullmatch(text)
            assert match is not None, text
            self.assertEqual(missing(*match.groups()), problem)

    def test_nothing_outside(self) -> None:
        """
        No document outside the repository is cited.
        """
        outside = re.compile(r"\bspecs/\w|\bcure of Q\d|\bhabit \d")
        wrong = [f"{name}: {found[0]}" for name, text in sources() for found in outside.finditer(text)]
        self.assertEqual(wrong, [])
