"""
Writes the help of the commands to the file from which C{--help} reads it
(L{dtt.cli.prepared}): C{python -m tools.command_help}, in a checkout.  A test says when that
is needed.
"""

from __future__ import annotations

import json
from typing import Any

from dtt.cli.commands import options_of
from dtt.cli.prepared import PATH
from dtt.cli.table import COMMANDS


def current() -> dict[str, Any]:
    """
    Return what the file must contain.
    """
    found = {}
    for name in COMMANDS:
        options = options_of(name)
        rows = [list(row) for row in options.rows()]
        found[name] = {"usage": options.getSynopsis(), "about": options.about, "options": rows}
    return found


if __name__ == "__main__":
    with open(PATH, "w", encoding="utf-8") as file:
        json.dump(current(), file, indent=1)
        file.write("\n")
