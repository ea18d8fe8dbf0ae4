"""
C{dtt man}: manual pages, generated from the help of the commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.python import usage

from dtt.app.usage import CommandOptions, path_name, value_of
from dtt.cli.commands import options_of
from dtt.cli.complaints import print_line
from dtt.cli.table import COMMANDS, EXIT_CODES, GROUPS, SUMMARIES
from dtt.errors import StateError
from dtt.files import reason_of, shown

#: The text at the top of each page.
_TITLE = "Distributed Topic Tracker"

_FILES = (
    (
        "~/.local/state/dtt",
        "The state directory, unless $DTT_STATE_DIR, $STATE_DIRECTORY or --state-dir names one.",
    ),
    ("dtt.toml", "The configuration file in the state directory, which dtt init creates."),
)

_ENVIRONMENT = (
    ("DTT_STATE_DIR", "The state directory."),
    ("STATE_DIRECTORY", "The same, set by systemd."),
    ("XDG_STATE_HOME", "The directory that contains the default state directory, dtt."),
    ("NO_COLOR", "If set, turns colours off."),
    ("COLUMNS", "The width of the terminal; overrides the actual width."),
)


def escaped(text: str) -> str:
    """
    Escape a text for roff, in which backslashes, hyphens, and dots and apostrophes at the beginning of a line
    have a special meaning.
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def page_name(name: str) -> str:
    """
    Return the name of the page of a command, or of the list of commands if C{name} is empty.
    """
    return "-".join(["dtt", *name.split()])


def _header(name: str, summary: str) -> Iterator[str]:
    from dtt._version import __version__

    version = f"dtt {__version__.public()}"
    yield f'.TH "{page_name(name).upper()}" "1" "" "{version}" "{_TITLE}"'
    yield ".SH NAME"
    yield f"{escaped(page_name(name))} \\- {escaped(summary.rstrip('.'))}"
    yield ".SH SYNOPSIS"


def _entries(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield ".TP"
        yield f".B {escaped(name)}"
        yield escaped(text)


def page(name: str) -> str:
    """
    Return the page of a command, as roff.
    """
    options = options_of(name)
    lines = [*_header(name, SUMMARIES[name])]
    synopsis = options.getSynopsis().removeprefix("Usage: ")
    lines += [f".B {escaped(synopsis)}", ".SH DESCRIPTION", escaped(getattr(options, "longdesc", ""))]
    lines.append(".SH OPTIONS")
    lines += _entries((option.shown, option.text) for option in options.described())
    lines.append(".SH EXIT STATUS")
    lines += _entries(iter(EXIT_CODES))
    lines += [".SH SEE ALSO", ".BR dtt (1)"]
    return "\n".join(lines) + "\n"


def overview() -> str:
    """
    Return the page of C{dtt} itself, as roff.
    """
    lines = [*_header("", "find the members of a topic through the BitTorrent DHT")]
    lines += [".B dtt COMMAND [options]", ".SH DESCRIPTION"]
    lines.append("Programs that share a topic find each other through the BitTorrent DHT, without a server.")
    for heading, rows in GROUPS:
        lines.append(f".SH {heading.upper()}")
        lines += _entries((f"dtt {name}", text) for name, _, _, text in rows)
    for title, entries in (
        ("EXIT STATUS", EXIT_CODES),
        ("FILES", _FILES),
        ("ENVIRONMENT", _ENVIRONMENT),
    ):
        lines.append(f".SH {title}")
        lines += _entries(iter(entries))
    lines.append(".SH SEE ALSO")
    names = [page_name(name) for name in COMMANDS]
    lines += [f".BR {escaped(name)} (1){',' if name != names[-1] else ''}" for name in names]
    return "\n".join(lines) + "\n"


class ManOptions(CommandOptions):
    """
    The options of C{dtt man}.
    """

    synopsis = "[--output DIR] [COMMAND]"
    longdesc = (
        "Prints the manual page of COMMAND, or of dtt itself, for man -l -. With --output, it writes "
        "the pages of all "
        "commands to DIR, for example ~/.local/share/man/man1."
    )
    optParameters = [
        ["output", "o", None, "Directory for the pages of all commands.", value_of("output", path_name)]
    ]
    placeholders = {"output": "DIR"}

    def parseArgs(self, *words: str) -> None:
        """
        Take the name of a command.

        @raise usage.UsageError: there is no such command.
        """
        self["command"] = " ".join(words)
        if words and self["command"] not in COMMANDS:
            name = re.sub(r"[^ -~]", "?", self["command"][:80])
            raise usage.UsageError(f"there is no command {name!r}; dtt --help lists the commands")

    def run(self) -> int:
        """
        Print a page, or write all.

        @return: the exit code.
        @raise StateError: a page can't be written.
        """
        if self["output"] is None:
            print_line((page(self["command"]) if self["command"] else overview()).rstrip("\n"))
            return 0
        folder = Path(self["output"])
        pages = {"": overview(), **{name: page(name) for name in COMMANDS}}
        try:
            os.makedirs(folder, exist_ok=True)
            for name, text in pages.items():
                (folder / f"{page_name(name)}.1").write_text(text, "utf-8")
        except OSError as error:
            raise StateError(f"can't write to {shown(folder)}: {reason_of(error)}") from None
        print_line(f"{len(pages)} pages in {shown(folder)}")
        return 0
