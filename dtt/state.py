"""
Persistent files: the state directory, key files and secret files.

Rules: the directory belongs to the user of the process and has mode 0700.  One
process at a time uses it, and locks it before it reads anything.  A key file contains
the 32-byte seed as 64 hexadecimal digits and a newline.  L{dtt.files} has the rules
for single files.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import pwd
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from twisted.logger import Logger

from dtt.errors import StateError
from dtt.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_RANDOM,
    TEMPORARY_SUFFIX,
    StrPath,
    change_mode_command,
    create_private_file,
    may_change_mode,
    read_bounded,
    read_private_file,
    reason_of,
    refuse_special,
    replace_file,
    shown,
)
from dtt.identity import KEY_BYTES, PeerKey

T = TypeVar("T")

#: The maximum size of a secret in bytes (guess: a secret is hashed as a whole, and
#: reading a device file must not exhaust the memory).
MAX_SECRET_BYTES = 65536

#: The maximum size of a JSON file in bytes (guess: three times the largest that dtt
#: writes, which has 256 peers with nine addresses each).
MAX_JSON_BYTES = 1024 * 1024

_LOCK_NAME = "lock"

_TEMPORARY = re.compile(
    f"{re.escape(TEMPORARY_PREFIX)}[a-z0-9_]{{{TEMPORARY_RANDOM}}}{re.escape(TEMPORARY_SUFFIX)}"
)

#: The files in a state directory.
_OURS = re.compile(rf"{_LOCK_NAME}|[a-z]+\.(json|json\.damaged|key|sock|token|toml)|{_TEMPORARY.pattern}")

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def read_secret_file(path: StrPath) -> bytes:
    """
    Read the initial secret from a file: its bytes, without I{one} final line
    feed if there is one.

    @raise StateError: as L{read_private_file<dtt.files.read_private_file>}.
    """
    return read_private_file(path, MAX_SECRET_BYTES).removesuffix(b"\n")


def read_secret(name: str, stdin: IO[bytes] | None) -> bytes:
    """
    Read the secret from the file that an option names, without I{one} final
    line feed.

    @param name: a path, or C{-} for C{stdin}.
    @param stdin: the standard input, binary; C{None}: it is closed.
    @raise StateError: the file can't be read, group or others have access to
        it, or the secret is larger than L{MAX_SECRET_BYTES}.
    """
    if name != "-":
        return read_secret_file(name)
    if stdin is None:
        raise StateError("standard input is closed; give a file")
    try:
        secret = stdin.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise StateError(f"can't read the secret from standard input: {reason_of(error)}") from error
    if secret is None:  # it does not block
        raise StateError("standard input has no secret yet; give a file")
    if len(secret) > MAX_SECRET_BYTES:
        raise StateError(f"standard input is larger than {MAX_SECRET_BYTES} bytes; this is not a secret")
    return secret.removesuffix(b"\n")


def unusual_in(secret: bytes) -> str | None:
    """
    Return a description of bytes that an editor may have added to a secret; C{None} if there are none.
    """
    if secret.startswith(_BYTE_ORDER_MARKS):
        return "begins with a byte order mark"
    try:
        text = secret.decode("utf-8")
    except UnicodeDecodeError:  # not text
        return None
    if text.endswith("\r"):
        return "ends with a carriage return (a line end of Windows)"
    if text != text.strip():
        return "begins or ends with white space or a further newline"
    return None


def absolute(path: Path) -> Path:
    """
    Return the path of a state directory independently of the working directory, which
    may change later.

    @raise StateError: the working directory no longer exists.
    """
    try:
        return path.absolute()
    except OSError as error:
        raise StateError(f"can't use state directory {shown(path)}: {reason_of(error)}") from error


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class StateDirectory:
    """
    The state directory of one process.

    @ivar path: its path.
    """

    _log = Logger()

    def __init__(self, path: StrPath) -> None:
        """
        Create the directory with mode 0700, and its parents with the default
        mode, if they don't exist.

        @param path: its path.
        @raise StateError: it can't be created, is not a directory, or is
            accessible to group or others.
        """
        self.path = Path(path)
        self._lock: int | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            status = self.path.stat()
        except FileExistsError:
            raise StateError(f"{shown(path)} is not a directory; choose another --state-dir") from None
        except OSError as error:
            raise self._unusable(error) from error
        if status.st_uid != os.geteuid():
            raise StateError(
                f"state directory {shown(path)} belongs to {_name_of_user(status.st_uid)}, and this process "
                f"runs as {_name_of_user(os.geteuid())}; run it as that user, or choose another --state-dir"
            )
        self._refuse_lax_mode(status)

    def _unusable(self, error: OSError) -> StateError:
        return StateError(
            f"can't use state directory {shown(self.path)}: {reason_of(error)}; choose another --state-dir"
        )

    def _refuse_lax_mode(self, status: os.stat_result) -> None:
        if not status.st_mode & 0o077:
            return
        mode, command = stat.S_IMODE(status.st_mode), None
        # Others may need a directory with other files in it, or a sticky one.
        if not mode & stat.S_ISVTX and may_change_mode(self.path, status):
            try:
                only_ours = all(_OURS.fullmatch(name) for name in os.listdir(self.path))
            except OSError as error:
                raise self._unusable(error) from error
            command = change_mode_command(self.path, 0o700) if only_ours else None
        advice = f"run: {command}" if command else "choose a --state-dir that only dtt uses"
        raise StateError(f"{shown(self.path)} is accessible to other users (mode {mode:04o}); {advice}")

    def lock(self) -> None:
        """
        Lock the directory until L{unlock} or the end of the process.  A second
        call has no effect.

        @raise StateError: another L{StateDirectory}, in this process or another
            one, holds the lock, or the directory can't be locked.
        """
        if self._lock is not None:
            return
        path = self.path / _LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            refuse_special(path, os.fstat(descriptor).st_mode)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise StateError(
                    f"can't lock state directory {shown(self.path)}: {reason_of(error)}; "
                    "choose a --state-dir on a local file system"
                ) from error
            raise StateError(
                f"state directory {shown(self.path)} is in use by another process; "
                "stop that process, or choose another --state-dir"
            ) from None
        except StateError as error:
            os.close(descriptor)
            raise StateError(f"{error}; move it away") from None
        self._lock = descriptor
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """
        Remove the temporary files of a process that was killed; nothing else writes here
        now.  If this fails, they do no harm.
        """
        with suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if (
                    _TEMPORARY.fullmatch(entry.name)
                    and entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                ):
                    os.unlink(entry)

    def unlock(self) -> None:
        """
        Release the lock, if it is held.
        """
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """
        Read the JSON object in the file C{name}.

        A damaged file is renamed to C{name.damaged}, with a warning, and treated
        as missing: none of these files is needed to start.  Lock the directory first: the file may belong to
        a running process.

        @return: the object; C{None} if there is no file.
        @raise StateError: the file can't be read, or is not a regular file.
        """
        path = self.path / name
        try:
            data = read_bounded(path, MAX_JSON_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"can't read {shown(path)}: {reason_of(error)}") from error
        except StateError as error:
            raise StateError(f"{error}; move it away") from None
        if len(data) > MAX_JSON_BYTES:
            self.put_aside(name, f"larger than {MAX_JSON_BYTES} bytes")
            return None
        try:
            value = json.loads(data)
            if isinstance(value, dict):
                return value
        except (ValueError, RecursionError):
            pass
        self.put_aside(name, "not a JSON object")
        return None

    def put_aside(self, name: str, reason: str) -> None:
        """
        Rename the damaged file C{name} to C{name.damaged}, with a warning.

        @param name: the name of the file in this directory.
        @param reason: the problem, for the warning.
        @raise StateError: it can't be renamed.
        """
        path, aside = self.path / name, self.path / f"{name}.damaged"
        try:
            os.replace(path, aside)
        except OSError as error:
            raise StateError(
                f"{shown(path)} is damaged and can't be renamed: {reason_of(error)}; move it away"
            ) from error
        self._log.warn(
            "{path} is damaged ({reason}). Renamed it to {aside}; starting without it.",
            path=path,
            reason=reason[:200],
            aside=aside,
        )

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """
        Replace the content of the file C{name} by C{value} as JSON.  After a
        crash the file contains either the old or the new value.

        @raise StateError: the file can't be written.
        """
        data = json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n"
        replace_file(self.path / name, data)


class StateFile(Generic[T]):
    """
    One JSON file in a state directory, and the value in it.

    A file with an unusable value is renamed, as by L{StateDirectory.read_json}, so
    that the next write does not destroy it.
    """

    _log = Logger()

    def __init__(
        self,
        directory: StateDirectory | None,
        name: str,
        decode: Callable[[Mapping[str, Any]], T],
        encode: Callable[[T], Mapping[str, Any]],
    ) -> None:
        """
        @param directory: the state directory; C{None}: nothing is stored.
        @param name: the name of the file.
        @param decode: returns the value in a JSON object; raises C{ValueError} if
            it is unusable.
        @param encode: returns the JSON object for a value.
        """
        self._directory = directory
        self._name = name
        self._decode = decode
        self._encode = encode

    def load(self) -> T | None:
        """
        Return the value; C{None} if there is none, or none that is usable.

        @raise StateError: the file can't be read.
        """
        if self._directory is None or (value := self._directory.read_json(self._name)) is None:
            return None
        try:
            return self._decode(value)
        except ValueError as error:
            self._directory.put_aside(self._name, str(error))
            return None

    def save(self, value: T) -> None:
        """
        Write C{value}.  A failure is logged, and the previous content stays.
        """
        if self._directory is None:
            return
        try:
            self._directory.write_json(self._name, self._encode(value))
        except StateError as error:
            self._log.error("The state could not be saved: {error}", error=error)


def load_key(path: StrPath) -> PeerKey:
    """
    Read the key from a key file.

    @raise StateError: the file is missing, accessible to group or others, or
        does not contain a key.
    """
    text = read_private_file(path, MAX_SECRET_BYTES).strip()
    try:
        seed = binascii.unhexlify(text)
    except ValueError:
        seed = b""
    if len(seed) != KEY_BYTES:
        raise StateError(
            f"{shown(path)} is not a key file (64 hexadecimal digits); "
            "restore it, or move it away to start with a new identity"
        )
    return PeerKey(seed)


def load_or_create_key(path: StrPath) -> PeerKey:
    """
    Read the key from a key file; create the file with a new key if it is
    missing.  If several processes do this concurrently, all get the same key.

    @raise StateError: as L{load_key}, or the file can't be created.
    """
    if not os.path.lexists(path):
        key = PeerKey.generate()
        if create_private_file(path, key.seed.hex().encode("ascii") + b"\n"):
            return key
    return load_key(path)
