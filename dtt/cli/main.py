"""
The command C{dtt}: picks the subcommand; one file each.

Exit codes: 0 done, 1 it did not work, 2 wrong usage.
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
    An options class that is imported when its subcommand is used.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self) -> Any:
        return getattr(import_module(self._module), self._name)()


class MainOptions(VersionedOptions):
    """
    C{dtt COMMAND ...}.
    """

    longdesc = (
        "The Distributed Topic Tracker. dtt COMMAND --help tells more. As a service: twistd dtt --help."
    )
    subCommands = [
        [
            "demo",
            None,
            _Lazily("dtt.cli.demo", "DemoOptions"),
            "Members meet over a DHT of their own, here and now.",
        ],
        ["chat", None, _Lazily("dtt.cli.chat", "ChatOptions"), "Join a topic, talk to its members."],
        ["node", None, _Lazily("dtt.cli.node", "NodeOptions"), "A DHT node without topics."],
        ["slot", None, _Lazily("dtt.cli.wire", "SlotOptions"), "Where a topic's records of a minute lie."],
        ["open", None, _Lazily("dtt.cli.wire", "OpenOptions"), "Decrypt and verify a record."],
        ["seal", None, _Lazily("dtt.cli.wire", "SealOptions"), "Sign and encrypt a record."],
    ]

    def getSynopsis(self) -> str:
        """
        Also what the synopsis of a command begins with.
        """
        return "Usage: dtt" if self.subCommand else "Usage: dtt COMMAND [options]"

    def postOptions(self) -> None:
        """
        There must be a command.
        """
        if self.subCommand is None:
            raise usage.UsageError("a command is needed; dtt --help lists them")


def run(arguments: Sequence[str]) -> int:
    """
    Run the command that C{arguments} ask for.

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
    Open what is closed of standard input, output and error: the next file or
    socket would become it, and be taken for it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """
    The console script.
    """
    fill_standard_descriptors()
    sys.exit(run(sys.argv[1:]))
