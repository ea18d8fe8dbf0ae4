"""
The layout of help texts and tables for terminals of any width.  Pure.

It imports nothing, so C{dtt --help} answers at once.
"""

from __future__ import annotations

#: The minimum width of a text in columns.
MIN_WIDTH = 20

#: From this width on, the text of an entry is beside its name (guess).
_BESIDE = 56

#: The maximum width of the column of names (guess).
_NAMES = 26


def wrap(text: str, width: int) -> list[str]:
    """
    Break a text into lines.

    @param text: words; all white space counts as one blank.
    @param width: the maximum number of characters of a line, at least 1.  Longer words
        are broken.
    @return: the lines, without their ends; none of an empty text.
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        while len(word) > width:
            lines.append(word[:width])
            word = word[width:]
        line = word
    return [*lines, line] if line else lines


def paragraph(text: str, width: int, indent: int = 0) -> str:
    """
    Return a text as lines, each with its end.

    @param text: words.
    @param width: the width in columns.
    @param indent: blanks before each line.
    """
    return "".join(f"{'':{indent}}{line}\n" for line in wrap(text, max(width - indent, 1)))


def entries(rows: list[tuple[str, str]], width: int) -> str:
    """
    Return names and their explanations, side by side if the width suffices.

    @param rows: pairs of name and text.
    @param width: the width in columns.
    """
    if width < _BESIDE:
        return "".join(paragraph(name, width, 2) + paragraph(text, width, 6) for name, text in rows)
    column = min(max((len(name) for name, _ in rows), default=0), _NAMES)
    shown = []
    for name, text in rows:
        lines = wrap(text, width - column - 4) or [""]
        if len(name) > column:
            shown.append(f"  {name}\n")
            name = ""
        for line in lines:
            shown.append(f"  {name:{column}}  {line}".rstrip() + "\n")
            name = ""
    return "".join(shown)


def command_help(usage: str, about: str, options: list[tuple[str, str]], width: int) -> str:
    """
    Return the help of a command.

    @param usage: how it is typed.
    @param about: what it does.
    @param options: each option as it is typed, and its text.
    @param width: the width in columns.
    """
    return f"{paragraph(usage, width)}\n{options_help(about, options, width)}"


def options_help(about: str, options: list[tuple[str, str]], width: int) -> str:
    """
    Return the help of a command without how it is typed; the parameters are those of
    L{command_help}.
    """
    return f"{paragraph(about, width)}\nOptions:\n{entries(options, width)}"


def is_dumb(term: str | None) -> bool:
    """
    Return whether a terminal understands no control sequences: it is C{dumb}, or nothing is known of it.

    @param term: the value of C{$TERM}; C{None}: it is not set.
    """
    return term in (None, "", "dumb")


def columns_of(environ_columns: str, terminal: int | None) -> int:
    """
    Return the width to use.

    @param environ_columns: the value of C{$COLUMNS}; unusable ones are ignored.
    @param terminal: the width of the terminal; C{None}: there is none.
    """
    text = environ_columns
    if text.isascii() and text.isdigit() and len(text) < 5 and int(text):
        return max(int(text), MIN_WIDTH)
    return max(terminal or 80, MIN_WIDTH)
