"""
The entry point of the command C{dtt}: prepares the process, then runs the command.

It imports very little before the process is prepared: an interrupt during the imports of the command must end
the process without a traceback.
"""

import _signal  # type: ignore[import-not-found]  # that of signal, which is slow to import
import os
import sys


def interrupt_silently() -> None:
    """
    Let SIGINT end the process at once, as in other programs, instead of raising C{KeyboardInterrupt} at an
    arbitrary line.  A command that runs the reactor stops it instead (L{dtt.app.signals}).  An ignored SIGINT
    stays ignored.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def fill_standard_descriptors() -> None:
    """
    Open standard input, output and error if they are closed.  Otherwise the
    next file or socket would get their descriptor, and be mistaken for them.

    Each is opened on /dev/null in the unused direction, so that using it is an error, and not
    an empty secret or an apparent success.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor else os.O_WRONLY)
        if getattr(sys, name) is None:
            stream = open(descriptor, "w" if descriptor else "r", closefd=False, errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)
        elif descriptor and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # printing works in any locale


def main() -> None:
    """
    Run C{dtt}: the entry point of the console script.
    """
    interrupt_silently()
    fill_standard_descriptors()
    from dtt.cli.commands import run

    sys.exit(run(sys.argv[1:]))
