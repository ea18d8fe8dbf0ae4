"""
Files that outlive the process: the state directory, key files and secret files.

Rules: the directory has mode 0700, and files with secrets at most 0600.  More
permissive modes are refused, with the C{chmod} to run; they are not repaired
silently, because other users may already have read the files.  Every write is
atomic: a temporary file in the same directory, fsync, then one rename or link.
One process at a time uses a directory.  A key file contains the 32-byte seed as
64 hexadecimal digits and a newline.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Generic, TypeAlias, TypeVar

from twisted.logger import Logger

from dtt.errors import StateError
from dtt.identity import KEY_BYTES, PeerKey

T = TypeVar("T")

StrPath: TypeAlias = str | os.PathLike[str]

#: The maximum size of a secret in bytes (guess: a secret is hashed as a whole, and
#: reading a device file must not exhaust the memory).
MAX_SECRET_BYTES = 65536

_LOCK_NAME = "lock"


def _refuse_lax_mode(path: StrPath, mode: int, wanted: int) -> None:
    if mode & 0o077:
        raise StateError(
            f"{path} is accessible to other users (mode {mode & 0o7777:04o}); "
            f"run: chmod {wanted:o} {shlex.quote(os.fspath(path))}"
        )


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
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def read_private_file(path: StrPath) -> bytes:
    """
    Read a file that only its owner may access.

    @raise StateError: the file can't be read, group or others have access to
        it, or it is larger than L{MAX_SECRET_BYTES}.
    """
    try:
        with open(path, "rb") as file:
            _refuse_lax_mode(path, os.fstat(file.fileno()).st_mode, 0o600)
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise StateError(f"can't read {path}: {error.strerror}") from error
    if len(data) > MAX_SECRET_BYTES:
        raise StateError(f"{path} is larger than {MAX_SECRET_BYTES} bytes; this is not a secret file")
    return data


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
        raise StateError(f"can't create {path}: {error.strerror}") from error
    return True


def read_secret_file(path: StrPath) -> bytes:
    """
    Read the initial secret from a file: its bytes, without I{one} final line
    feed if there is one.

    @raise StateError: as L{read_private_file}.
    """
    return read_private_file(path).removesuffix(b"\n")


def read_secret(name: str, stdin: IO[bytes]) -> bytes:
    """
    Read the secret from the file that an option names, without I{one} final
    line feed.

    @param name: a path, or C{-} for C{stdin}.
    @param stdin: the standard input, binary.
    @raise StateError: the file can't be read, group or others have access to
        it, or the secret is larger than L{MAX_SECRET_BYTES}.
    """
    if name != "-":
        return read_secret_file(name)
    secret = stdin.read(MAX_SECRET_BYTES + 1)
    if len(secret) > MAX_SECRET_BYTES:
        raise StateError(f"standard input is larger than {MAX_SECRET_BYTES} bytes; this is not a secret")
    return secret.removesuffix(b"\n")


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
            mode = self.path.stat().st_mode
        except FileExistsError:
            raise StateError(f"{self.path} is not a directory; choose another --state-dir") from None
        except OSError as error:
            raise StateError(f"can't use state directory {self.path}: {error.strerror}") from error
        _refuse_lax_mode(self.path, mode, 0o700)

    def lock(self) -> None:
        """
        Lock the directory until L{unlock} or the end of the process.  A second
        call has no effect.

        @raise StateError: another L{StateDirectory}, in this process or another
            one, holds the lock.
        """
        if self._lock is not None:
            return
        try:
            descriptor = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"can't use state directory {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise StateError(f"can't lock state directory {self.path}: {error.strerror}") from error
            raise StateError(
                f"state directory {self.path} is in use by another process; "
                "stop that process, or choose another --state-dir"
            ) from None
        self._lock = descriptor
        # Temporary files of a process that was killed: nothing else writes here now.
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

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
        as missing: none of these files is needed to start.

        @return: the object; C{None} if there is no file.
        @raise StateError: the file can't be read.
        """
        path = self.path / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"can't read {path}: {error.strerror}") from error
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
        @param reason: what is wrong with it, for the warning.
        @raise StateError: it can't be renamed.
        """
        path, aside = self.path / name, self.path / f"{name}.damaged"
        try:
            os.replace(path, aside)
        except OSError as error:
            raise StateError(
                f"{path} is damaged and can't be renamed: {error.strerror}; move it away"
            ) from error
        self._log.warn(
            "{path} is damaged ({reason}). Renamed it to {aside}; starting without it.",
            path=path,
            reason=reason,
            aside=aside,
        )

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """
        Replace the content of the file C{name} by C{value} as JSON.  After a
        crash the file contains either the old or the new value.

        @raise StateError: the file can't be written.
        """
        path = self.path / name
        data = json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n"
        try:
            temporary = _write_temporary(self.path, data)
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
            _sync_directory(self.path)
        except OSError as error:
            raise StateError(f"can't write {path}: {error.strerror}") from error


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
        @param directory: the state directory; C{None}: nothing is kept.
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
        Write C{value}.  A failure is logged: what was written before stays.
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
    text = read_private_file(path).strip()
    try:
        seed = binascii.unhexlify(text)
    except ValueError:
        seed = b""
    if len(seed) != KEY_BYTES:
        raise StateError(
            f"{path} is not a key file (64 hexadecimal digits); "
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
