"""
Tests for L{dtt.files}.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from dtt import files
from dtt.errors import StateError
from dtt.files import (
    change_mode_command,
    may_change_mode,
    read_bounded,
    read_private_file,
    replace_file,
    shown,
)

LIMIT = 100


class FilesTestCase(SynchronousTestCase):
    """
    Has a folder, and makes files in it.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def file(self, name: str = "file", data: bytes = b"data", mode: int = 0o600) -> Path:
        """
        Write a file.
        """
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def special(self) -> dict[str, str]:
        """
        Create all kinds of files that are not regular; return the paths and their kinds.
        """
        os.mkfifo(self.folder / "fifo", 0o600)
        (self.folder / "directory").mkdir()
        (self.folder / "loop").symlink_to("loop")
        (self.folder / "dangling").symlink_to("nowhere")
        (self.folder / "link").symlink_to("fifo")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        # The length of the path of a socket is limited.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        listening.bind("socket")
        kinds = {
            "fifo": "is a FIFO",
            "link": "is a FIFO",
            "directory": "is a directory",
            "socket": "is a socket",
            "loop": "symbolic links",
            "dangling": "No such file",
        }
        found = {str(self.folder / name): kind for name, kind in kinds.items()}
        return {**found, "/dev/zero": "is a device", "/dev/null": "is a device", "": "No such file"}


class ReadTests(FilesTestCase):
    """
    Tests for L{read_bounded} and L{read_private_file}.
    """

    def test_bounded(self) -> None:
        """
        At most one byte more than the limit is read.
        """
        for size in (0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 100000):
            path = self.file(data=bytes(size))
            self.assertEqual(len(read_bounded(path, LIMIT)), min(size, LIMIT + 1))
            if size <= LIMIT:
                self.assertEqual(read_private_file(path, LIMIT), bytes(size))
            else:
                error = self.assertRaises(StateError, read_private_file, path, LIMIT)
                self.assertIn(f"larger than {LIMIT} bytes", str(error))

    def test_special(self) -> None:
        """
        A file that is not regular is refused at once, with one line that names its kind.
        """
        for path, kind in self.special().items():
            error = self.assertRaises(StateError, read_private_file, path, LIMIT)
            self.assertRegex(str(error), rf"\A[^\n]*{kind}[^\n]*\Z", path)
            self.assertNotIn("chmod", str(error))

    def test_devices_are_not_opened(self) -> None:
        """
        A device is not even opened: opening it may have effects.
        """
        opened: list[object] = []
        self.patch(os, "open", lambda path, *rest: opened.append(path))
        self.assertRaises(StateError, read_bounded, "/dev/zero", LIMIT)
        self.assertEqual(opened, [])

    def test_no_race(self) -> None:
        """
        A FIFO that takes the place of a file in between is refused, too.
        """
        os.mkfifo(self.folder / "fifo", 0o600)
        regular = os.stat(self.file())
        self.patch(os, "stat", lambda path: regular)
        self.assertRaises(StateError, read_bounded, self.folder / "fifo", LIMIT)

    def test_process_substitution(self) -> None:
        """
        A pipe that the shell has opened for us is read to its end.
        """
        reader, writer = os.pipe()
        os.write(writer, b"secret")
        os.close(writer)
        self.addCleanup(os.close, reader)
        self.assertEqual(read_private_file(f"/dev/fd/{reader}", LIMIT), b"secret")
        zero = os.open("/dev/zero", os.O_RDONLY)
        self.addCleanup(os.close, zero)
        self.assertRaises(StateError, read_private_file, f"/dev/fd/{zero}", LIMIT)

    def test_nothing_left_open(self) -> None:
        """
        No descriptor stays open, whether the file is read or refused.
        """
        before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
        read_private_file(self.file(), LIMIT)
        for path in self.special():
            self.assertRaises(StateError, read_private_file, path, LIMIT)
        self.assertRaises(StateError, read_private_file, self.file(mode=0o644), LIMIT)
        after = os.listdir("/proc/self/fd") if before else []
        self.assertEqual(len(after), len(before) + bool(before))  # the socket of C{special}


class AdviceTests(FilesTestCase):
    """
    Advice to change a mode is never dangerous.
    """

    def status(self, uid: int, gid: int = 0) -> os.stat_result:
        """
        Return the status of a file of this owner.
        """
        return cast(os.stat_result, SimpleNamespace(st_uid=uid, st_gid=gid))

    def be(self, uid: int) -> None:
        """
        Be the user with this id.
        """
        self.patch(os, "geteuid", lambda: uid)
        self.patch(os, "getegid", lambda: uid)

    def test_own_files_only(self) -> None:
        """
        The mode of the file of another user is not ours to change, not even as root.
        """
        for uid, owner, may in ((7, 7, True), (7, 8, False), (7, 0, False), (0, 7, False), (0, 0, True)):
            self.be(uid)
            self.assertIs(may_change_mode("/srv/dtt/secret", self.status(owner, uid)), may)

    def test_not_the_system(self) -> None:
        """
        As root, the files of the system are our own, but are not to be changed; nor are
        files that are shared with a group.
        """
        self.be(0)
        for path in (
            "/",
            "/tmp",
            "/srv",
            "/etc",
            "/etc/passwd",
            "/etc/ssl/key",
            "/usr/bin/env",
            "/dev/../etc/x",
        ):
            self.assertFalse(may_change_mode(path, self.status(0)), path)
        link = self.folder / "link"
        link.symlink_to("/etc/hostname")
        self.assertFalse(may_change_mode(link, self.status(0)))
        self.assertFalse(may_change_mode("/root/secret", self.status(0, 42)))
        self.assertTrue(may_change_mode("/root/secret", self.status(0)))

    def test_secret_of_another(self) -> None:
        """
        A file that others can read is refused with the command to run if it is our own,
        and otherwise with advice that harms nobody.
        """
        path = self.file(mode=0o644)
        error = self.assertRaises(StateError, read_private_file, path, LIMIT)
        self.assertIn(f"(mode 0644); run: chmod 600 {path}", str(error))
        self.patch(files, "may_change_mode", lambda path, status: False)
        error = self.assertRaises(StateError, read_private_file, path, LIMIT)
        self.assertNotIn("chmod", str(error))
        self.assertIn("use a copy", str(error))

    def test_etc_shadow(self) -> None:
        """
        The file with the passwords of the system stays unchanged.
        """
        if not os.access("/etc/shadow", os.R_OK) or not os.stat("/etc/shadow").st_mode & 0o077:
            return
        error = self.assertRaises(StateError, read_private_file, "/etc/shadow", LIMIT)
        self.assertNotIn("chmod", str(error))

    def test_command(self) -> None:
        """
        The command can be pasted into a shell.
        """
        for path, command in (
            ("/a b", "chmod 600 '/a b'"),
            ("-x", "chmod 600 ./-x"),
            ("$(id)", "chmod 600 '$(id)'"),
            ("a\nb", None),
            ("a\x1b[2J", None),
        ):
            self.assertEqual(change_mode_command(path, 0o600), command)

    def test_one_line(self) -> None:
        """
        A path with control characters is shown in one line, as text.
        """
        self.assertEqual(shown("/a b"), "/a b")
        self.assertEqual(shown("a\nb\x1b\udcff"), r"'a\nb\x1b\udcff'")
        error = self.assertRaises(StateError, read_private_file, "no\nfile", LIMIT)
        self.assertNotIn("\n", str(error))


class CredentialTests(FilesTestCase):
    """
    Files that systemd passes to a service (C{LoadCredential=}).
    """

    def read(self, path: Path, directory: str) -> bytes | None:
        """
        Read a file as a service with a directory of credentials; None if it is refused.
        """
        self.patch(os, "environ", {"CREDENTIALS_DIRECTORY": directory})
        try:
            return read_private_file(path, LIMIT)
        except StateError:
            return None

    def test_accepted(self) -> None:
        """
        systemd grants access by an ACL, which shows as access of the group: these files
        are accepted.
        """
        path = self.file("credentials/secret", mode=0o440)
        directory = str(self.folder / "credentials")
        self.assertEqual(self.read(path, directory), b"data")
        self.assertEqual(self.read(path, f"{directory}/"), b"data")
        (self.folder / "link").symlink_to(path)
        self.assertEqual(self.read(self.folder / "link", directory), b"data")

    def test_only_these(self) -> None:
        """
        Files elsewhere are as private as without systemd, by whatever path they are named.
        """
        inside = self.file("credentials/secret", mode=0o440)
        directory = str(self.folder / "credentials")
        outside = self.file("credentials-of-others/secret", mode=0o440)
        (self.folder / "credentials" / "link").symlink_to(outside)
        for path in (
            outside,
            self.folder / "credentials" / ".." / "credentials-of-others" / "secret",
            self.folder / "credentials" / "link",
        ):
            self.assertIsNone(self.read(path, directory), str(path))
        for unset in ("", ".", "credentials"):
            self.assertIsNone(self.read(inside, unset), unset)

    def test_still_a_file(self) -> None:
        """
        A credential is a regular file of bounded size, too.
        """
        directory = self.folder / "credentials"
        directory.mkdir()
        os.mkfifo(directory / "fifo", 0o440)
        self.assertIsNone(self.read(directory / "fifo", str(directory)))
        self.assertIsNone(self.read(self.file("credentials/large", bytes(LIMIT + 1)), str(directory)))


class WriteTests(FilesTestCase):
    """
    Tests for L{replace_file}.
    """

    def test_replaced(self) -> None:
        """
        The file is private, has the new content, and there is no other file.
        """
        path = self.folder / "file"
        replace_file(path, b"one")
        replace_file(path, b"two")
        self.assertEqual(path.read_bytes(), b"two")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_unwritable(self) -> None:
        """
        A directory that is missing, or a full disk, is reported in one line.
        """
        error = self.assertRaises(StateError, replace_file, self.folder / "missing" / "file", b"")
        self.assertIn("No such file", str(error))

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        error = self.assertRaises(StateError, replace_file, self.folder / "file", b"")
        self.assertRegex(str(error), r"\Acan't write [^\n]*: No space left on device\Z")
        self.assertEqual(os.listdir(self.folder), [])
