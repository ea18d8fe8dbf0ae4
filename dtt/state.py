"""
Files that outlive the process: the state directory and files with secrets.

Rules: the directory is 0700 and files with
secrets are at most 0600; laxer modes are refused with the C{chmod} to run,
never repaired silently, because whoever could read them may have done so.
Every write is atomic: a temporary file in the same directory, fsync, then one
rename or link.  One process at a time uses a directory.  A key file is the
32-byte seed as 64 hexadecimal digits and a newline.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

from twisted.logger import Logger

from dtt.errors import StateError
from dtt.identity import KEY_BYTES, PeerKey

StrPath: TypeAlias = str | os.PathLike[str]

#: The most that is read from a file with a secret (guess: a secret is hashed
#: at once, and a device file must not fill the memory).
MAX_SECRET_BYTES = 65536

_LOCK_NAME = "lock"


def _refuse_lax_mode(path: StrPath, mode: int, wanted: int) -> None:
    if mode & 0o077:
        raise StateError(
            f"{path} can be used by others (mode {mode & 0o7777:04o}); "
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
    A new 0600 file in C{directory} that holds C{data} on the disk.
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
    The content of a file that only its owner may use.

    @raise StateError: it can't be read, is readable or writable by group or
        others, or holds more than L{MAX_SECRET_BYTES}.
    """
    try:
        with open(path, "rb") as file:
            _refuse_lax_mode(path, os.fstat(file.fileno()).st_mode, 0o600)
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise StateError(f"can't read {path}: {error.strerror}") from error
    if len(data) > MAX_SECRET_BYTES:
        raise StateError(f"{path} holds more than {MAX_SECRET_BYTES} bytes: this is no file with a secret")
    return data


def create_private_file(path: StrPath, data: bytes) -> bool:
    """
    Make a 0600 file with all of C{data}, unless there is one already.

    Of several processes that do this at once exactly one wins.

    @return: whether this call made it.
    @raise StateError: it can't be written.
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
    The initial secret in a file: exact, but for I{one} final line feed.

    @raise StateError: as L{read_private_file}.
    """
    return read_private_file(path).removesuffix(b"\n")


def read_secret(name: str, stdin: IO[bytes]) -> bytes:
    """
    The secret in the file that an option names, C{-} being C{stdin}; as
    L{read_secret_file}.

    @raise StateError: it can't be read, others can read it, or it is more than
        L{MAX_SECRET_BYTES}.
    """
    if name != "-":
        return read_secret_file(name)
    secret = stdin.read(MAX_SECRET_BYTES + 1)
    if len(secret) > MAX_SECRET_BYTES:
        raise StateError(f"standard input holds more than {MAX_SECRET_BYTES} bytes: this is no secret")
    return secret.removesuffix(b"\n")


class StateDirectory:
    """
    A directory for one process's state, made with mode 0700 if need be
    (parents with the default mode).

    @ivar path: where it is.
    """

    _log = Logger()

    def __init__(self, path: StrPath) -> None:
        """
        @raise StateError: it can't be made, is no directory, or its mode is
            laxer than 0700.
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
        Claim the directory until L{unlock} or the end of the process, however
        it ends; again has no effect.

        @raise StateError: somebody else has it, in this process or another.
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
                "stop that one, or choose another --state-dir"
            ) from None
        self._lock = descriptor
        # What a killed writer left; nobody else writes here now.
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def unlock(self) -> None:
        """
        Give the directory up; without a lock it has no effect.
        """
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """
        The JSON object in the file C{name}; L{None} if there is none.

        A damaged file is put aside as C{name.damaged}, with a warning, and
        counts as none: nothing in it is worth not starting for.

        @raise StateError: it can't be read.
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
        self.put_aside(name, "no JSON object")
        return None

    def put_aside(self, name: str, reason: str) -> None:
        """
        The file C{name} is damaged: rename it to C{name.damaged}, with a warning.

        @raise StateError: that is not possible.
        """
        path, aside = self.path / name, self.path / f"{name}.damaged"
        try:
            os.replace(path, aside)
        except OSError as error:
            raise StateError(f"{path} is damaged and can't be put aside: {error.strerror}") from error
        self._log.warn(
            "{path} is damaged ({reason}): starting without it, it is now {aside}",
            path=path,
            reason=reason,
            aside=aside,
        )

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """
        Replace the file C{name} by C{value} as JSON: after a crash it holds
        all of the old or all of the new.

        @raise StateError: it can't be written.
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


def load_key(path: StrPath) -> PeerKey:
    """
    The key in a key file.

    @raise StateError: it is missing, can be used by others, or holds
        something else.
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
    The key in a key file, which is made with a new key if there is none; of
    several processes that do this at once all get the same key.

    @raise StateError: as L{load_key}, or it can't be created.
    """
    if not os.path.lexists(path):
        key = PeerKey.generate()
        if create_private_file(path, key.seed.hex().encode("ascii") + b"\n"):
            return key
    return load_key(path)
