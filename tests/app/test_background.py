"""
Tests for L{dtt.app.background}.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.background import FinalUser, KeptStandardError, check_paths
from dtt.errors import LocalError

#: A user that is not us.
OTHER = next(each for each in pwd.getpwall() if each.pw_uid not in (os.geteuid(), 0))


def identity() -> tuple[int, int, list[int]]:
    """
    Return the effective user, the effective group, and the groups of this process.
    """
    return os.geteuid(), os.getegid(), sorted(os.getgroups())


class FinalUserTests(SynchronousTestCase):
    """
    Tests for L{FinalUser}.
    """

    def test_same(self) -> None:
        """
        Without an id, or with our own, nothing changes.
        """
        before = identity()
        for user in (FinalUser(), FinalUser(os.geteuid()), FinalUser(os.geteuid(), os.getegid())):
            with user.effective():
                self.assertEqual(identity(), before)
            self.assertEqual((identity(), user.home()), (before, None))

    @skipIf(os.geteuid() != 0, "only root may become another user")
    def test_other(self) -> None:
        """
        The effective user, its group and its groups are those of the user, also if the
        work fails, and for a file that is made meanwhile.
        """
        before = identity()
        folder = Path(self.mktemp())
        folder.mkdir()
        folder.chmod(0o777)
        for gid in (None, OTHER.pw_gid + 1):
            group = OTHER.pw_gid if gid is None else gid
            with FinalUser(OTHER.pw_uid, gid).effective():
                self.assertEqual(identity()[:2], (OTHER.pw_uid, group))
                self.assertEqual(identity()[2], sorted(os.getgrouplist(OTHER.pw_name, group)))
            self.assertEqual(identity(), before)

        def fail() -> None:
            with FinalUser(OTHER.pw_uid).effective():
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(identity(), before)
        with FinalUser(None, OTHER.pw_gid).effective():
            self.assertEqual(identity(), (before[0], OTHER.pw_gid, before[2]))
        self.assertEqual(identity(), before)

    def test_not_allowed(self) -> None:
        """
        A process that may not become the user gets an error, and keeps its user.
        """
        before = identity()

        def refuse(number: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        for name in ("setegid", "seteuid"):
            self.patch(os, name, refuse)
        error = self.assertRaises(LocalError, FinalUser(OTHER.pw_uid).effective().__enter__)
        self.assertIn("--uid and --gid: Operation not permitted", str(error))
        self.assertEqual(identity(), before)

    def test_home(self) -> None:
        """
        The home directory is that of the user; one that does not exist is refused.
        """
        self.assertEqual(FinalUser(OTHER.pw_uid).home(), OTHER.pw_dir)
        missing = 1 + max(each.pw_uid for each in pwd.getpwall() if each.pw_uid < 60000)
        error = self.assertRaises(LocalError, FinalUser(missing).home)
        self.assertIn(str(missing), str(error))


class PathTests(SynchronousTestCase):
    """
    Tests for L{check_paths}.
    """

    def test_paths(self) -> None:
        """
        Directories that are missing, and a PID file that can't be written, are refused by name.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "file"
        file.touch()
        os.mkfifo(folder / "fifo")
        good: list[dict[str, object]] = [
            {},
            {"rundir": ".", "chroot": None, "pidfile": "twistd.pid"},
            {"rundir": str(folder), "chroot": str(folder), "pidfile": ""},
            {"pidfile": str(file)},
            {"pidfile": str(folder / "new")},
        ]
        for options in good:
            check_paths(options)
        for option, name in (
            ("rundir", "file"),
            ("rundir", "missing"),
            ("chroot", "missing"),
            ("pidfile", "missing/pid"),
            ("pidfile", "file/pid"),
            ("pidfile", "fifo"),
            ("pidfile", ""),
        ):
            path = str(folder / name)
            error = self.assertRaises(LocalError, check_paths, {option: path})
            self.assertRegex(str(error), rf"\A--{option}: [^\n]*{path}[^\n]*\Z")


class KeptStandardErrorTests(SynchronousTestCase):
    """
    Tests for L{KeptStandardError}.
    """

    def test_closed(self) -> None:
        """
        A standard error that is closed, or whose reader is gone, disturbs nothing.
        """
        reader, writer = os.pipe()
        before = os.dup(2)
        os.dup2(writer, 2)
        os.close(writer)
        try:
            gone = KeptStandardError(False)
            os.close(reader)
            os.close(2)
            closed = KeptStandardError(False)
        finally:
            os.dup2(before, 2)
            os.close(before)
        for each in (gone, closed):
            each.write("line")
            each.close()
            each.write("line")
            each.close()
