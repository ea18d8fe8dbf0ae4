"""
The base classes of all options: their help, and how they are parsed.

It imports little, because short commands use nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, TypeVar

from attrs import frozen
from twisted.python import usage

from dtt.app.helptext import columns_of, command_help, options_help
from dtt.errors import DTTError, UsageError
from dtt.files import is_path

T = TypeVar("T")

#: The placeholder for the value of an option in the help, by the end of the option's name.
_PLACEHOLDERS: Mapping[str, str] = {
    "file": "FILE",
    "config": "FILE",
    "content": "FILE",
    "output": "FILE",
    "dir": "DIR",
    "port": "PORT",
    "bootstrap": "HOST:PORT",
    "listen": "ADDRESS",
    "bind": "HOST",
    "relay": "URL",
    "topic": "TOPIC",
    "timeout": "SECONDS",
    "minute": "N",
    "members": "N",
    "nodes": "N",
}


@frozen(slots=True)
class OptionHelp:
    """
    An option, for its documentation.

    @ivar long: its name.
    @ivar short: its letter; empty: none.
    @ivar value: the placeholder for its value, for example C{FILE}; empty: it is a flag.
    @ivar text: its explanation.
    """

    long: str
    short: str
    value: str
    text: str

    @property
    def shown(self) -> str:
        """
        The option in its typed form.
        """
        name = f"--{self.long} {self.value}".rstrip()
        return f"-{self.short}, {name}" if self.short else name


def options_first(parser: usage.Options, arguments: list[str]) -> list[str]:
    """
    Return C{arguments} with all options first.  C{usage.Options} itself accepts no
    options after a positional argument, and takes the beginning of an option's name for
    the option: here names are written in full, so that a new option changes the meaning of no
    command line.

    @raise usage.UsageError: an option is unknown, or lacks its value.
    """
    short = zip(parser.shortOpt, f"{parser.shortOpt} "[1:], strict=True)
    takes_value = {f"-{letter}": after == ":" for letter, after in short if letter != ":"}
    takes_value |= {f"--{name.removesuffix('=')}": name.endswith("=") for name in parser.longOpt}
    words = iter(arguments)

    def value_or_next(name: str, value: str | None) -> str:
        """
        Return the value of an option, perhaps the next word.
        """
        if value is None and (value := next(words, None)) is None:
            raise usage.UsageError(f"option {name} requires argument")
        return value

    first: list[str] = []
    rest: list[str] = []
    for word in words:
        if word == "--":
            rest += words
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            if name not in takes_value:
                raise _unknown(name, takes_value)
            if takes_value[name]:
                first.append(f"{name}={value_or_next(name, value if equals else None)}")
            elif equals:
                raise usage.UsageError(f"option {name} must not have an argument")
            else:
                first.append(name)
        elif word.startswith("-") and word != "-":
            for at, letter in enumerate(word[1:], 2):
                name = f"-{letter}"
                if name not in takes_value:
                    raise _unknown(name, takes_value)
                first.append(name)
                if takes_value[name]:
                    first.append(value_or_next(name, word[at:] or None))
                    break
        else:
            rest.append(word)
    return [*first, "--", *rest]


def _unknown(name: str, known: Collection[str]) -> usage.UsageError:
    """
    Return the error for an unknown option, with suggestions.
    """
    from difflib import get_close_matches

    longer = [each for each in known if each.startswith(name) and name.startswith("--")]
    near = longer or get_close_matches(name, known, 2)
    hint = f"did you mean {' or '.join(near)}?" if near else "see --help"
    return usage.UsageError(f"unknown option {name[:80]!r}; {hint}")


def terminal_width() -> int:
    """
    Return the width of the terminal in columns: as C{$COLUMNS} says, else as the
    terminal at standard output does, else 80; at least
    L{MIN_WIDTH<dtt.app.helptext.MIN_WIDTH>}.
    """
    try:
        terminal = os.get_terminal_size(1).columns
    except OSError:
        terminal = None
    return columns_of(os.environ.get("COLUMNS", ""), terminal)


class VersionedOptions(usage.Options):
    """
    Base class of all options: C{--version} prints the version of dtt, and C{--help}
    shows the docstring of each option's method as one paragraph.

    @cvar placeholders: the placeholders for values of options in the help, if the end of the name does not
        determine them.
    @ivar name: the name of the command after C{dtt}; empty: not a command of dtt.
    """

    placeholders: ClassVar[Mapping[str, str]] = {}
    name = ""

    def opt_help(self) -> None:
        """Print this help and exit."""
        print(str(self).rstrip("\n"))
        raise SystemExit(0)

    def opt_version(self) -> None:
        """Print the version and exit."""
        from dtt._version import __version__

        print(f"dtt {__version__.public()}")
        raise SystemExit(0)

    opt_h = opt_help
    opt_V = opt_version

    def described(self) -> list[OptionHelp]:
        """
        Return the options, with those that all commands have at the end.
        """
        shorts = {long: short for short, long in self.synonyms.items() if len(short) == 1}
        found = []
        for option in self.longOpt:
            long = option.removesuffix("=")
            value = ""
            if option.endswith("="):
                value = self.placeholders.get(long) or _PLACEHOLDERS.get(long.rpartition("-")[2], "VALUE")
            text = " ".join((self.docs.get(long) or "").split())
            default = self.defaults.get(long)
            if value and isinstance(default, (int, float, str)) and default != "":
                text += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
            found.append(OptionHelp(long, shorts.get(long, ""), value, text))
        return sorted(found, key=lambda option: option.long in ("help", "version"))

    def getSynopsis(self) -> str:
        """
        Return how the command is typed.
        """
        if self.parent is not None or not self.name:
            return super().getSynopsis()
        return f"Usage: dtt {self.name} {getattr(self, 'synopsis', '[options]')}".rstrip()

    def getUsage(self, width: int | None = None) -> str:
        """
        Return the help text, without the synopsis.

        @param width: its width in columns; C{None}: that of the terminal.
        """
        width = terminal_width() if width is None else columns_of(str(width), None)
        return options_help(self.about, self.rows(), width)

    @property
    def about(self) -> str:
        """
        The description of the command.
        """
        return getattr(self, "longdesc", "")

    def rows(self) -> list[tuple[str, str]]:
        """
        Return each option as it is typed, and its text.
        """
        return [(option.shown, option.text) for option in self.described()]

    def __str__(self) -> str:
        return command_help(self.getSynopsis(), self.about, self.rows(), terminal_width())


class CommandOptions(VersionedOptions):
    """
    Options of a command: may follow the positional arguments, and all their errors
    are usage errors.
    """

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse the options.

        @raise usage.UsageError: an option is invalid.
        """
        try:
            super().parseOptions(None if options is None else options_first(self, options))
        except DTTError as error:
            raise usage.UsageError(str(error)) from None
        except usage.UsageError as error:
            # Twisted prefixes the message of our parse functions with this.
            message = str(error).removeprefix("Parameter type enforcement failed: ")
            raise usage.UsageError(message) from None

    def parseArgs(self, *arguments: str) -> None:
        """
        Reject positional arguments.  Commands that take some override this.

        @raise usage.UsageError: there is a positional argument.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0][:80]!r}; see --help")


def value_of(option: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """
    Wrap a parse function so that its errors name the option.

    @param option: the name of the option, without dashes.
    @param parse: parses the value, or raises ValueError.
    @return: a function that parses the value, or raises UsageError.
    """

    def parse_value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise UsageError(f"--{option}: {error}") from None

    return parse_value


def path_name(text: str) -> str:
    """
    Parse the path of a file or directory.

    @raise ValueError: it is empty.
    """
    if not is_path(text):
        raise ValueError(f"expected a path, not {text[:80]!r}")
    return text


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """
    Return a parse function for a whole number.

    @param minimum: the smallest allowed one.
    @param maximum: the largest allowed one.
    @return: a function that parses it, or raises ValueError.
    """

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum):
            raise ValueError(f"{text[:80]!r} is not a number in {minimum}..{maximum}")
        return int(text)

    return parse


def at_most_one(command: str, name: str, arguments: Sequence[str], hint: str = "") -> str | None:
    """
    Return the only argument of a command; C{None} if there is none.

    @param name: what the argument is, as in the synopsis.
    @param hint: added to the message.
    @raise usage.UsageError: there is more than one.
    """
    if len(arguments) > 1:
        raise usage.UsageError(f"{command} takes one {name}, not {len(arguments)}{hint}")
    return arguments[0] if arguments else None


def exactly_one(command: str, name: str, arguments: Sequence[str], hint: str = "") -> str:
    """
    Return the only argument of a command.

    @param name: what the argument is, as in the synopsis.
    @param hint: added to the message.
    @raise usage.UsageError: there is none, or more than one.
    """
    if len(arguments) != 1:
        raise usage.UsageError(f"{command} takes one {name}, not {len(arguments)}{hint}")
    return arguments[0]


def seconds(text: str) -> float:
    """
    Parse a number of seconds.

    @raise ValueError: it is not a number, negative, or more than 1000000000.
    """
    try:
        value = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise ValueError(f"{text[:80]!r} is not a number of seconds, 0..1000000000")
    return value
