"""
The Unix socket of the daemon in the state directory.

Rules: the path of a Unix socket may have 107 bytes on Linux, fewer elsewhere.  For a longer
one, the directory is opened, and the socket is addressed through the descriptor
(C{/proc/self/fd}), so no other path is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dtt.errors import StateError
from dtt.files import reason_of, shown

#: The file in the state directory.
SOCKET_FILE: Final = "dtt.sock"

#: The longest path, bytes: C{sun_path} of Linux without the final zero byte is 107 bytes, that
#: of macOS and the BSDs 103 (C{sys/un.h}).
MAX_PATH: Final = 103

_DESCRIPTORS: Final = "/proc/self/fd"


class ShortPath:
    """
    A path to the socket that the system accepts.

    @ivar path: the path; valid until L{close}.
    """

    def __init__(self, state_dir: Path) -> None:
        """
        @param state_dir: the state directory.
        @raise StateError: the path is too long and can't be shortened here, or the directory
            can't be opened.
        """
        self._descriptor: int | None = None
        self.path = os.fspath(state_dir / SOCKET_FILE)
        if len(os.fsencode(self.path)) <= MAX_PATH:
            return
        if not os.path.isdir(_DESCRIPTORS):
            raise StateError(
                f"the path of the socket {shown(self.path)} is longer than {MAX_PATH} bytes; choose a "
                "--state-dir with a shorter path"
            )
        try:
            self._descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(f"can't open {shown(state_dir)}: {reason_of(error)}") from None
        self.path = f"{_DESCRIPTORS}/{self._descriptor}/{SOCKET_FILE}"

    def close(self) -> None:
        """
        Close the directory.  May be called again.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remove_stale(path: str) -> None:
    """
    Remove the socket of a process that was killed.  The caller has locked the state
    directory, so nobody listens there.

    @raise StateError: there is something else, or it can't be removed.
    """
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISSOCK(mode):
            raise StateError(f"{shown(path)} is not a socket; move it away")
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StateError(f"can't remove {shown(path)}: {reason_of(error)}") from None


@contextmanager
def private_umask() -> Iterator[None]:
    """
    Make new files and sockets accessible to their owner only.
    """
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
