"""
Finds and runs the commands of C{dtt}: every error is one line, and lost output is an
error.

It imports very little before it knows the command, and then only the modules that the command needs: short
commands spend most of their time starting Python and Twisted.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 nothing found, 4 no service is running.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dtt.app.helptext import columns_of, entries, paragraph
from dtt.cli.table import COMMANDS, EXIT_CODES, GROUPS, SUMMARIES
from dtt.errors import UsageError

# Defined here, because C{typing} is slow to import; type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

#: Exit codes.
FAILED, WRONG_USAGE, NOT_FOUND, NO_SERVICE = 1, 2, 3, 4

_INTRODUCTION = (
    "dtt, the Distributed Topic Tracker: programs that share a topic find each other through the BitTorrent "
    "DHT, without a server."
)


def _width() -> int:
    try:
        terminal = os.get_terminal_size(1).columns
    except OSError:
        terminal = None
    return columns_of(os.environ.get("COLUMNS", ""), terminal)


def overview(width: int, prefix: str = "") -> str:
    """
    Return the list of the commands.

    @param width: the width in columns.
    @param prefix: only the commands that begin with this word; empty: all.
    """
    shown = paragraph(f"Usage: dtt {prefix or 'COMMAND'} {'COMMAND ' if prefix else ''}[options]", width)
    if not prefix:
        shown += "\n" + paragraph(_INTRODUCTION, width)
    for heading, rows in GROUPS:
        chosen = [(name, text) for name, _, _, text in rows if not prefix or name.split()[0] == prefix]
        if chosen:
            shown += f"\n{heading}:\n" + entries(chosen, width)
    if prefix:
        return shown
    shown += "\nOptions:\n" + entries(
        [("-h, --help", "Show this list."), ("-V, --version", "Print the version.")], width
    )
    shown += "\nExit codes:\n" + entries(list(EXIT_CODES), width)
    return (
        shown
        + "\n"
        + paragraph(
            "To get started, run dtt new-topic, then dtt chat --ticket-file FILE on each machine. dtt help "
            "COMMAND, or dtt "
            "COMMAND --help, explains a command; twistd dtt --help explains the service.",
            width,
        )
    )


def _unknown(word: str) -> UsageError:
    names = sorted({name.split()[0] for name in SUMMARIES})
    near = [name for name in names if name.startswith(word[:3]) and word[:3]]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(f"unknown command {word[:80]!r}; {hint}the commands are {', '.join(names)}")


def split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """
    Split a command line into the command and its arguments.

    @param arguments: the words after C{dtt}.
    @return: the name of the command, and the rest.  C{help} is returned for a request
        of a list: its arguments are the first word of the commands to list, or nothing.
    @raise UsageError: there is no command, or an unknown one.
    """
    words = list(arguments)
    if words[:1] == ["help"]:
        words = [*words[1:3], "--help"] if " ".join(words[1:3]) in COMMANDS else [*words[1:2], "--help"]
    if not words:
        raise UsageError("no command; dtt --help lists the commands")
    if words[0] in ("help", "-h", "--help"):
        return "help", []
    if words[0] in ("-V", "--version"):
        return "version", []
    if words[0].startswith("-"):
        raise UsageError(f"unknown option {words[0][:80]!r}; dtt --help lists the commands")
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            return name, words[count:]
    inner = sorted(name.split()[1] for name in COMMANDS if name.startswith(f"{words[0]} "))
    if not inner:
        raise _unknown(words[0])
    if words[1:2] in (["-h"], ["--help"]):
        return "help", [words[0]]
    given = f"not {words[1][:80]!r}" if words[1:] else "and none was given"
    raise UsageError(f"dtt {words[0]} takes one of {', '.join(inner)}, {given}")


def options_of(name: str) -> Any:
    """
    Create the options of a command.

    @param name: its name, one or two words.
    """
    from importlib import import_module

    module, options_class = COMMANDS[name]
    options = getattr(import_module(module), options_class)()
    options.name = name
    return options


def parse(arguments: Sequence[str]) -> Any:
    """
    Parse a command line.

    @param arguments: the words after C{dtt}.
    @return: the options of the command, whose C{run} runs it; C{None} if the help or the
        version was printed.
    @raise UsageError: the command or one of its options is wrong; commands also raise
        Twisted's C{UsageError}.
    """
    name, rest = split(arguments)
    if name == "help":
        sys.stdout.write(overview(_width(), *rest))
        return None
    if name == "version":
        from dtt._version import __version__

        sys.stdout.write(f"dtt {__version__.public()}\n")
        return None
    if rest in (["-h"], ["--help"]):
        from dtt.cli.prepared import prepared_help

        sys.stdout.write(prepared_help(name, _width()))
        return None
    options = options_of(name)
    try:
        options.parseOptions(rest)
    except SystemExit:  # --help and --version
        return None
    return options


def run(arguments: Sequence[str]) -> int:
    """
    Run a command.  All errors are reported as one line on standard error.

    @param arguments: the command line, without the program name.
    @return: the exit code; 1 also if some of the output could not be written.
    """
    try:
        options = parse(arguments)
        code: int = 0 if options is None else options.run()
        sys.stdout.flush()
        return code
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    """
    Report an error.

    @return: the exit code.
    """
    from twisted.python import usage

    from dtt.cli.complaints import OutputLost, complain, report

    if isinstance(error, (usage.UsageError, UsageError)):
        complain(str(error))
        return WRONG_USAGE
    report(OutputLost(error) if isinstance(error, OSError) and error.filename is None else error)
    return getattr(error, "exit_code", FAILED)
