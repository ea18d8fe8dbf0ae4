"""
Messages on standard error: one line for each error.
"""

from __future__ import annotations

import os
import stat
import sys
import traceback
from contextlib import suppress
from typing import TextIO

from dtt.app.messages import one_line
from dtt.errors import DTTError, LocalError


class OutputLost(LocalError):
    """
    The output could not be written.

    @ivar cause: the reason.
    """

    def __init__(self, cause: OSError) -> None:
        """
        @param cause: the reason.
        """
        super().__init__(cause)
        self.cause = cause


def print_line(text: str) -> None:
    """
    Print one line of output, now.

    @raise OutputLost: it can't be written.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise OutputLost(error) from None


def complain(message: str) -> None:
    """
    Print an error message as one line on standard error.
    """
    remark(f"dtt: {message}")


def remark(text: str) -> None:
    """
    Print C{text} as one line on standard error.  Errors are ignored.
    """
    try:
        print(one_line(text), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def describe_error(error: BaseException) -> str:
    """
    Return one line about C{error}.  For an unexpected exception, it includes the source line, which a bug
    report needs, but no values of variables.
    """
    if isinstance(error, DTTError):
        return str(error)
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror or error}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"unexpected error (a bug): {type(error).__name__}: {error}{where}"


def report(error: BaseException) -> None:
    """
    Report the error that ended the command on standard error.
    """
    if isinstance(error, OutputLost):
        output_lost(error.cause)
    else:
        complain(describe_error(error))


def output_lost(error: OSError) -> None:
    """
    Report that the output could not be written, and drop buffered output, which would otherwise fail again at
    exit.

    @param error: the cause.  If the reader of a pipe has gone, nothing is reported.
    """
    if not isinstance(error, BrokenPipeError):
        complain(f"the output could not be written: {error.strerror or error}")
    _discard(sys.stdout)


def output_closed() -> None:
    """
    Report that the output can no longer be written, unless it is a pipe or a socket, whose reader has gone.
    """
    with suppress(OSError):
        mode = os.fstat(1).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            complain("the output could not be written")


def _discard(stream: TextIO) -> None:
    """
    Drop the buffered and future output of C{stream}.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
