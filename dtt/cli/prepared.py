"""
The help of each command, prepared in C{help.json}, so C{--help} is fast: importing the modules of a command
takes up to a second.

C{python -m tools.command_help}, in a checkout, updates the file; a test fails if that is needed.
"""

from __future__ import annotations

import json
import os

from dtt.app.helptext import command_help

#: The file.
PATH = os.path.join(os.path.dirname(__file__), "help.json")


def prepared_help(name: str, width: int) -> str:
    """
    Return the help of a command.

    @param name: its name, one or two words.
    @param width: the width in columns.
    """
    with open(PATH, encoding="utf-8") as file:
        command = json.load(file)[name]
    return command_help(command["usage"], command["about"], command["options"], width)
