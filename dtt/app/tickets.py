"""
Reads tickets for a command: from a file, from a terminal or from standard input.

A ticket is a secret, so it is never an argument of a process, and is not shown while it is typed.
"""

from __future__ import annotations

import getpass
import os
import signal
from contextlib import suppress
from typing import Any

from dtt.errors import StateError, UsageError
from dtt.files import StrPath, read_private_file, reason_of, shown
from dtt.records.ticket import MAX_TICKET, Ticket, parse_tickets

#: The maximum number of tickets in a file: the current one, and earlier ones for a time (guess).
MAX_TICKETS = 16

#: The maximum size of a file with tickets in bytes, comments included (guess).
MAX_FILE_BYTES = 65536

#: The maximum size of a line of standard input in bytes.
MAX_LINE = 2 * MAX_TICKET


class _Signalled(BaseException):
    """
    A signal arrived while the user was typing.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def read_tickets(name: StrPath) -> tuple[Ticket, ...]:
    """
    Read the tickets that C{--ticket-file} names.

    @param name: a file, mode 0600, with one ticket per line. With C{-}, the user is asked for a ticket on the
        terminal, which is not shown. If standard input is not a terminal, its first line is read; the rest is
        left for the command.
    @raise StateError: the file can't be read, or is accessible to other users.
    @raise UsageError: there is no ticket, or it is damaged.
    """
    if os.fspath(name) != "-":
        text = read_private_file(name, MAX_FILE_BYTES).decode("utf-8", "replace")
        where = f"{shown(name)}: "
    else:
        text = _typed() if _is_terminal() else _first_line()
        where = ""
    try:
        return parse_tickets(text, MAX_TICKETS)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None


def _is_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def _first_line() -> str:
    # One byte at a time: the rest is for the command.
    line = b""
    try:
        while len(line) <= MAX_LINE and (byte := os.read(0, 1)) not in (b"", b"\n"):
            line += byte
    except BlockingIOError:
        raise StateError("standard input has no ticket yet; give a file") from None
    except OSError as error:
        raise StateError(f"can't read the ticket from standard input: {reason_of(error)}") from None
    return line.decode("utf-8", "replace")


def _typed() -> str:
    """
    Ask for a ticket on the terminal, without showing it.  A signal that ends the process does so only after
    the terminal echo is restored.
    """

    def stop(number: int, frame: Any) -> None:
        raise _Signalled(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        return getpass.getpass("Ticket (it is not shown): ")
    except EOFError:
        raise StateError("no ticket was typed") from None
    except _Signalled as received:
        signal.signal(received.number, signal.SIG_DFL)
        os.kill(os.getpid(), received.number)
        raise StateError("interrupted") from None
    finally:
        for number, handler in before.items():
            with suppress(TypeError, ValueError):
                signal.signal(number, handler)
