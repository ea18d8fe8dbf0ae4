"""
Messages for people. Pure.
"""

from __future__ import annotations

#: The maximum length of an error message in characters (guess: an argument of any
#: length may be quoted in it).
MAX_MESSAGE = 2000


def one_line(message: str) -> str:
    """
    Return C{message} as one line of bounded length, without characters that control
    a terminal: they are shown as escapes.
    """
    line = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in message[: 2 * MAX_MESSAGE]
    )
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "..."
