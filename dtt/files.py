"""
Reading and writing single files.

Rules: a file is opened without waiting, and anything that is not a regular file is refused at once.  At most
a given number of bytes is read.  Every write is atomic: a temporary file in the same directory, fsync, then
one rename or link.  Files with secrets have mode 0600 at most.  More permissive modes are refused; they are
not corrected silently, because other users may already have read the files.
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from dtt.errors import StateError

StrPath: TypeAlias = str | os.PathLike[str]

#: The beginning and the end of the names of temporary files; between them are
#: L{TEMPORARY_RANDOM} characters that C{tempfile} chooses.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".dtt-", ".tmp"
TEMPORARY_RANDOM = 8

#: As root, changing the mode of a file below these directories, or of one that is
#: directly below the root directory, may break the system.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr")

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def shown(path: StrPath) -> str:
    """
    Return a path as text of one line, without terminal control characters.
    """
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def is_path(text: str) -> bool:
    """
    Return whether a text can be the path of a file.  An empty one would be the working
    directory, but is most likely an unset shell variable.  No file system allows a NUL.
    """
    return bool(text.strip()) and "\0" not in text


def reason_of(error: OSError) -> str:
    """
    Return the reason of an error as text.
    """
    return error.strerror or str(error)


def home_directory(environ: Mapping[str, str]) -> Path | None:
    """
    Return the home directory of our user: C{$HOME}, or as the user database says if that
    is not set.

    @param environ: the environment variables.
    @return: the directory; C{None} if C{$HOME} is empty or relative, or if there is
        neither.
    """
    try:
        home = Path(environ["HOME"]) if "HOME" in environ else Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None


def refuse_special(path: StrPath, mode: int) -> None:
    """
    Check that a file is a regular file.

    @param mode: its C{st_mode}.
    @raise StateError: it is a directory, a FIFO, a socket or a device.
    """
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise StateError(f"{shown(path)} is {kind}, not a regular file")


def _is_descriptor(path: StrPath) -> bool:
    """
    Return whether a path names an open descriptor of this process, as the shell's process substitution does.
    The parent process has opened it for us, like standard input.
    """
    directory, name = os.path.split(os.fspath(path))
    return directory in ("/dev/fd", "/proc/self/fd") or (directory, name) == ("/dev", "stdin")


def read_bounded(
    path: StrPath, limit: int, check: Callable[[os.stat_result], None] = lambda status: None
) -> bytes:
    """
    Read a regular file, or a pipe that is an open descriptor of this process
    (C{/dev/fd/N}).

    @param limit: the maximum size in bytes.
    @param check: called with the status of the open file before it is read; may
        raise.
    @return: the content; of a larger file the first C{limit} + 1 bytes.
    @raise StateError: it is something else.
    @raise OSError: it can't be opened or read.
    """
    inherited = _is_descriptor(path)
    if not inherited:
        # Opening a device can have effects.
        refuse_special(path, os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if inherited and stat.S_ISFIFO(status.st_mode):
            os.set_blocking(descriptor, True)
        else:
            refuse_special(path, status.st_mode)
        check(status)
        data = b""
        while len(data) <= limit and (more := os.read(descriptor, limit + 1 - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def may_change_mode(path: StrPath, status: os.stat_result) -> bool:
    """
    Return whether it is safe to advise the user to change the mode of a file or
    directory: it is our own and, if we are root, not a part of the system.
    """
    user = os.geteuid()
    if status.st_uid != user:
        return False
    below_root = Path(os.path.realpath(path)).parts[1:]
    of_system = len(below_root) < 2 or below_root[0] in _SYSTEM or status.st_gid != os.getegid()
    return user != 0 or not of_system


def change_mode_command(path: StrPath, mode: int) -> str | None:
    """
    Return the command that changes the mode of a file; C{None} if its path can't be
    shown in one line.
    """
    text = os.fspath(path)
    if not text.isprintable():
        return None
    return f"chmod {mode:o} {shlex.quote(os.path.join('.', text) if text.startswith('-') else text)}"


def _is_credential(path: StrPath) -> bool:
    """
    Return whether a file is in the directory in which systemd passes credentials to
    this service.  systemd protects them: other users can't access the directory, and an ACL grants access to
    our user, which appears as group access in the mode.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return os.path.isabs(directory) and Path(os.path.realpath(path)).is_relative_to(
        os.path.realpath(directory)
    )


def _refuse_lax_file(path: StrPath, status: os.stat_result) -> None:
    if not status.st_mode & 0o077 or _is_credential(path):
        return
    command = None
    if stat.S_ISREG(status.st_mode) and may_change_mode(path, status):
        command = change_mode_command(path, 0o600)
    advice = f"run: {command}" if command else "use a copy that only its owner can access (mode 0600)"
    mode = stat.S_IMODE(status.st_mode)
    raise StateError(f"{shown(path)} is accessible to other users (mode {mode:04o}); {advice}")


def read_private_file(path: StrPath, limit: int) -> bytes:
    """
    Read a file that only its owner may access, or a credential that systemd passes
    to this service.

    @param limit: the maximum size in bytes.
    @raise StateError: the file can't be read, is not a regular file, group or
        others have access to it, or it is larger than C{limit}.
    """
    try:
        data = read_bounded(path, limit, lambda status: _refuse_lax_file(path, status))
    except OSError as error:
        raise StateError(f"can't read {shown(path)}: {reason_of(error)}") from error
    if len(data) > limit:
        raise StateError(f"{shown(path)} is larger than {limit} bytes; this is not a secret file")
    return data


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_temporary(directory: Path, data: bytes) -> str:
    """
    Write C{data} to a new file with mode 0600 in C{directory}, and sync it.

    @return: the path of the file.
    """
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=TEMPORARY_SUFFIX, dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def replace_file(path: Path, data: bytes) -> None:
    """
    Replace the content of a file, or create it with mode 0600.  After a crash it
    has either the old or the new content.

    @raise StateError: the file can't be written.
    """
    try:
        temporary = _write_temporary(path.parent, data)
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise StateError(f"can't write {shown(path)}: {reason_of(error)}") from error


def create_private_file(path: StrPath, data: bytes) -> bool:
    """
    Create a file with mode 0600 that contains C{data}, unless it exists.

    If several processes do this concurrently, exactly one creates the file, and
    the file never has partial content.

    @return: whether this call created the file.
    @raise StateError: the file can't be written.
    """
    target = Path(path)
    try:
        temporary = _write_temporary(target.parent, data)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        _sync_directory(target.parent)
    except OSError as error:
        raise StateError(f"can't create {shown(path)}: {reason_of(error)}") from error
    return True
