"""
The command C{dtt}: dispatches to its subcommands, which have a module each.

Exit codes: 0 success, 1 failure, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from twisted.python import usage

from dtt.app.options import VersionedOptions
from dtt.errors import DTTError, UsageError


class _Lazily:
    """
    An options class that is imported on use of its subcommand.
    """

    def __init__(self, module: str, name: str) -> None:
        """
        @param module: the module.
        @param name: the name of the class in it.
        """
        self._module = module
        self._name = name

    def __call__(self) -> Any:
        return getattr(import_module(self._module), self._name)()


class MainOptions(VersionedOptions):
    """
    The options of C{dtt COMMAND ...}.
    """

    longdesc = "The Distributed Topic Tracker. See dtt COMMAND --help, and for the service twistd dtt --help."
    subCommands = [
        [
            "demo",
            None,
            _Lazily("dtt.cli.demo", "DemoOptions"),
            "Show how members find each other in a closed DHT on this machine.",
        ],
        ["chat", None, _Lazily("dtt.cli.chat", "ChatOptions"), "Join a topic and chat with its members."],
        ["node", None, _Lazily("dtt.cli.node", "NodeOptions"), "Run a DHT node without topics."],
        ["slot", None, _Lazily("dtt.cli.wire", "SlotOptions"), "Show the slot of a topic and a minute."],
        ["open", None, _Lazily("dtt.cli.wire", "OpenOptions"), "Decrypt and verify a record."],
        ["seal", None, _Lazily("dtt.cli.wire", "SealOptions"), "Sign and encrypt a record."],
    ]

    def getSynopsis(self) -> str:
        """
        Return the synopsis, which is also the prefix of the commands' synopses.
        """
        return "Usage: dtt" if self.subCommand else "Usage: dtt COMMAND [options]"

    def postOptions(self) -> None:
        """
        Check that there is a command.

        @raise usage.UsageError: there is none.
        """
        if self.subCommand is None:
            raise usage.UsageError("no command; dtt --help lists the commands")


def run(arguments: Sequence[str]) -> int:
    """
    Run a command.

    @param arguments: the command line, without the program name.
    @return: the exit code.
    """
    options = MainOptions()
    try:
        options.parseOptions(list(arguments))
        code: int = options.subOptions.run()
        return code
    except (usage.UsageError, UsageError) as error:
        print(f"dtt: {error}", file=sys.stderr)
        return 2
    except DTTError as error:
        print(f"dtt: {error}", file=sys.stderr)
        return 1


def fill_standard_descriptors() -> None:
    """
    Open those of standard input, output and error that are closed on /dev/null.
    Otherwise the next file or socket would get their descriptor, and be mistaken
    for them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """
    Run C{dtt}: the entry point of the console script.
    """
    fill_standard_descriptors()
    sys.exit(run(sys.argv[1:]))
