"""
Support for a service that C{twistd} starts: its user, its log file, and the report of why it can't start.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

from attrs import frozen
from twisted.python.logfile import LogFile

from dtt.errors import LocalError
from dtt.files import reason_of, shown

#: The size at which a log file is rotated, bytes, and how many old ones are kept (guesses: weeks
#: of a busy member, and 60 MB).
LOG_BYTES: Final = 10_000_000
LOG_FILES: Final = 5


@frozen(slots=True)
class FinalUser:
    """
    The user to whom C{twistd} switches after the privileged start.

    @ivar uid: the user id; C{None}: that of this process.
    @ivar gid: the group id; C{None}: that of the user, or of this process.
    """

    uid: int | None = None
    gid: int | None = None

    def home(self) -> str | None:
        """
        Return the home directory of the user; C{None} if it is the user of this
        process.

        @raise LocalError: there is no such user.
        """
        return None if self.uid is None or self.uid == os.geteuid() else self._entry(self.uid).pw_dir

    @contextmanager
    def effective(self) -> Iterator[None]:
        """
        Return a context manager that switches to this user and its groups, and back.

        @raise LocalError: there is no such user, or this process may not become it.
        """
        with ExitStack() as restore:
            try:
                self._become(restore)
            except OSError as error:
                raise LocalError(f"can't become the user of --uid and --gid: {reason_of(error)}") from error
            yield

    def _become(self, restore: ExitStack) -> None:
        gid, name = self.gid, None
        if self.uid is not None and self.uid != os.geteuid():
            entry = self._entry(self.uid)
            gid, name = entry.pw_gid if gid is None else gid, entry.pw_name
        if gid is not None:
            before = os.getegid()
            os.setegid(gid)
            restore.callback(os.setegid, before)
        if self.uid is not None and name is not None and gid is not None:
            groups, user = os.getgroups(), os.geteuid()
            os.initgroups(name, gid)
            restore.callback(os.setgroups, groups)
            os.seteuid(self.uid)
            restore.callback(os.seteuid, user)

    def _entry(self, uid: int) -> pwd.struct_passwd:
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            raise LocalError(
                f"there is no user with the id {uid}; give the name of a user as --uid"
            ) from None


def check_paths(twistd: Mapping[str, Any]) -> None:
    """
    Check the paths among the options of C{twistd}, for which twistd itself would show a traceback.

    @param twistd: the options of C{twistd}.
    @raise LocalError: a directory is missing, or the PID file can't be written.
    """
    for option in ("rundir", "chroot"):
        path = twistd.get(option)
        if path is not None and not os.path.isdir(path):
            raise LocalError(f"--{option}: {shown(path)} is not a directory")
    pidfile = twistd.get("pidfile")
    if pidfile and not _may_write(pidfile):
        raise LocalError(
            f"--pidfile: can't write {shown(pidfile)}; give another path, or --pidfile= for none"
        )


def _may_write(path: str) -> bool:
    if os.path.lexists(path):
        return os.path.isfile(path) and os.access(path, os.R_OK | os.W_OK)
    directory = os.path.dirname(os.path.abspath(path))
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


class KeptStandardError:
    """
    The standard error of this process, kept while C{twistd} makes it part of the log and
    goes to the background.  Until the service has started, the user waits for its output.

    @ivar is_log: whether the log is shown there as well.
    """

    def __init__(self, is_log: bool) -> None:
        """
        @param is_log: whether the log is shown there as well.
        """
        self.is_log = is_log
        self._descriptor: int | None = None
        with suppress(OSError):  # it is closed
            self._descriptor = os.dup(2)

    def write(self, line: str) -> None:
        """
        Write one line.  An error is ignored: the line is also logged.

        @param line: the line, without its end.
        """
        if self._descriptor is not None:
            with suppress(OSError):
                os.write(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """
        Close the descriptor, so that its reader sees the end.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class RotatedLogFile(LogFile):
    """
    A log file that only its owner can read, whatever the umask is, and whose predecessors
    are bounded in number and size.
    """

    @classmethod
    def at(cls, name: str) -> RotatedLogFile:
        """
        Open a log file.

        @param name: its path.
        @raise OSError: it can't be written.
        """
        return cls(
            os.path.basename(name),
            os.path.dirname(os.path.abspath(name)),
            rotateLength=LOG_BYTES,
            defaultMode=0o600,
            maxRotatedFiles=LOG_FILES,
        )
