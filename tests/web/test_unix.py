"""
Tests for L{dtt.web.unix}.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import StateError
from dtt.web import unix
from dtt.web.unix import MAX_PATH, SOCKET_FILE, ShortPath, private_umask, remove_stale


class PathTests(SynchronousTestCase):
    """
    Tests for L{ShortPath} and L{remove_stale}.
    """

    def bind(self, directory: Path) -> None:
        """Bind the socket of a directory, and connect to it."""
        directory.mkdir(parents=True)
        ours, theirs = ShortPath(directory), ShortPath(directory)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(ours.path)
            server.listen()
            client.connect(theirs.path)
        self.assertTrue(stat.S_ISSOCK((directory / SOCKET_FILE).stat().st_mode))
        for each in (ours, theirs):
            each.close()
            each.close()

    def test_short(self) -> None:
        """A path that the system accepts is used unchanged."""
        self.assertEqual(ShortPath(Path("/x")).path, "/x/dtt.sock")

    def test_long(self) -> None:
        """A directory whose path is too long for a socket works, and leaves no descriptor open."""
        before = len(os.listdir("/proc/self/fd"))
        directory = Path(self.mktemp()).absolute() / ("d" * 200) / ("e" * 200)
        self.bind(directory)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_limit(self) -> None:
        """The longest path is used unchanged, a longer one is not."""
        name = "x" * (MAX_PATH - len("//dtt.sock"))
        self.assertEqual(len(ShortPath(Path(f"/{name}")).path), MAX_PATH)
        error = self.assertRaises(StateError, ShortPath, Path(f"/{name}x"))
        self.assertIn("can't open", str(error))

    def test_stale(self) -> None:
        """The socket of a process that was killed is removed; anything else is left, with advice."""
        path = self.mktemp()
        remove_stale(path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        remove_stale(path)
        self.assertFalse(os.path.lexists(path))
        Path(path).touch()
        self.assertIn("move it away", str(self.assertRaises(StateError, remove_stale, path)))
        self.assertTrue(os.path.exists(path))

    def test_stale_link(self) -> None:
        """A symbolic link is not followed, and not removed."""
        target, link = self.mktemp(), self.mktemp()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(target)
        os.symlink(os.path.abspath(target), link)
        self.assertIn("is not a socket", str(self.assertRaises(StateError, remove_stale, link)))
        self.assertTrue(os.path.lexists(link) and os.path.exists(target))

    def test_stale_cannot_be_removed(self) -> None:
        """A directory that does not exist is no error; one that is a file is."""
        remove_stale(f"{self.mktemp()}/{SOCKET_FILE}")
        file = self.mktemp()
        Path(file).touch()
        error = self.assertRaises(StateError, remove_stale, f"{file}/{SOCKET_FILE}")
        self.assertIn("can't remove", str(error))

    def test_no_descriptors(self) -> None:
        """Where a path can't be shortened, the error says what to choose."""
        self.patch(unix, "_DESCRIPTORS", self.mktemp())
        error = self.assertRaises(StateError, ShortPath, Path("/" + "x" * MAX_PATH))
        self.assertIn("choose a --state-dir with a shorter path", str(error))

    def test_umask(self) -> None:
        """New files are their owner's alone, and afterwards everything is as before, even after an error."""
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        path = Path(self.mktemp())

        def fail() -> None:
            with private_umask():
                path.touch()
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.umask(0o022), 0o022)
