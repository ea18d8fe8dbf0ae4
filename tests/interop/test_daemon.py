"""
C{twistd dtt} in the background, with other users and other directories.
"""

from __future__ import annotations

import os
import pwd
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import LOOPBACK, NO_INTEROP

ROOT = Path(__file__).parents[2]

#: A user that is not us; only root may become it.
OTHER = next(
    each for each in pwd.getpwall() if each.pw_name == "nobody" or each.pw_uid not in (os.geteuid(), 0)
)

not_root = skipIf(os.geteuid() != 0, "only root may become another user")


READ_SECRET = """
import os, sys
from dtt.errors import StateError
from dtt.state import read_secret_file
path, uid, gid = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
try:
    print(read_secret_file(path))
except StateError as error:
    print(error)
"""


def acl(uid: int) -> bytes:
    """
    Return an access control list as Linux stores it: the owner and user C{uid} may read.
    """
    owner, user, group, mask, other, nobody = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF
    entries = [(owner, 4, nobody), (user, 4, uid), (group, 0, nobody), (mask, 4, nobody), (other, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class DaemonTests(SynchronousTestCase):
    """
    Real daemons, which know no DHT node.
    """

    skip = NO_INTEROP
    timeout = 180

    def setUp(self) -> None:
        """
        Make a folder that every user can reach.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)
        self.pids = 0

    def directory(self, name: str, owner: int | None = None, mode: int = 0o700) -> Path:
        """
        Make a directory.
        """
        path = self.folder / name
        path.mkdir()
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner, -1)
        return path

    def run_twistd(
        self,
        *options: str,
        of_twistd: tuple[str, ...] = (),
        path: Path | None = None,
    ) -> tuple[int, str, int | None]:
        """
        Start a daemon.

        @param options: options of C{dtt}.
        @param of_twistd: options of C{twistd}.
        @param path: the working directory.
        @return: the exit code, standard error, and the process id of the daemon if it runs.
        """
        self.pids += 1
        pidfile = self.directory(f"pid{self.pids}") / "pid"
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += [f"--pidfile={pidfile}", f"--logfile={self.log}", *of_twistd, "dtt", "--topic", "x"]
        command += ["--transport", "streams", "--bootstrap", f"{LOOPBACK}:1", *options]
        if "--listen" not in options:
            command += ["--listen", f"{LOOPBACK}:0"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, cwd=path or self.folder, env=environ, timeout=30)
        try:
            pid = int(pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return done.returncode, done.stderr.decode(), None
        self.addCleanup(self.end, pid)
        return done.returncode, done.stderr.decode(), pid

    @property
    def log(self) -> Path:
        """
        The log file of the daemon that was started last.
        """
        return self.folder / f"pid{self.pids}" / "log"

    def started(self, *options: str, **how: object) -> int:
        """
        Start a daemon that must start; return its process id.
        """
        code, said, pid = self.run_twistd(*options, **how)  # type: ignore[arg-type]
        self.assertEqual((code, said), (0, ""), self.log.read_text() if self.log.exists() else "")
        assert pid is not None
        return pid

    def end(self, pid: int) -> None:
        """
        Stop a daemon and wait for its end.
        """
        try:
            os.kill(pid, signal.SIGTERM)
            self.until(lambda: not Path(f"/proc/{pid}").exists())
        except ProcessLookupError:
            pass

    def until(self, condition: Callable[[], bool]) -> None:
        """
        Wait at most 10 s.
        """
        end = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), end, "waited for too long")
            time.sleep(0.05)

    @not_root
    def test_final_user(self) -> None:
        """
        With C{--uid}, every file belongs to the final user, and privileged ports are bound.
        """
        state = self.directory("state", OTHER.pw_uid)
        ports = ("--listen", f"{LOOPBACK}:871", "--dht-port", "872")
        pid = self.started("--state-dir", str(state), *ports, of_twistd=("--uid", OTHER.pw_name))
        self.assertEqual(os.stat(f"/proc/{pid}").st_uid, OTHER.pw_uid)
        self.until(lambda: (state / "dht.json").exists())
        owners = {path.name: path.stat().st_uid for path in state.iterdir()}
        self.assertLessEqual({"peer.key", "lock", "dht.json", "ports.json"}, set(owners))
        self.assertEqual(set(owners.values()), {OTHER.pw_uid}, owners)
        self.assertIn("UDP port 872, members on streams:127.0.0.1:871", self.log.read_text())
        self.end(pid)
        self.assertNotIn("Traceback", self.log.read_text())

    @not_root
    def test_state_of_root(self) -> None:
        """
        With C{--uid}, the directory of root is refused in one line, and not touched.
        """
        state = self.directory("state")
        code, said, _ = self.run_twistd("--state-dir", str(state), of_twistd=("--uid", OTHER.pw_name))
        self.assertEqual((code, os.listdir(state)), (1, []))
        self.assertIn(f"belongs to root, and this process runs as {OTHER.pw_name}; ", said)

    @not_root
    def test_credential(self) -> None:
        """
        A credential as systemd passes it is accepted: it belongs to root, and an ACL lets the
        user of the service read it.  A copy elsewhere is refused, with advice that this user
        can follow.
        """
        credentials = self.directory("credentials", OTHER.pw_uid, 0o500)
        said = []
        for folder in (credentials, self.folder):
            secret = folder / "secret"
            secret.write_bytes(b"secret")
            secret.chmod(0o400)
            os.setxattr(secret, "system.posix_acl_access", acl(OTHER.pw_uid))
            self.assertEqual((secret.stat().st_uid, secret.stat().st_mode & 0o777), (0, 0o440))
            # The user may not be allowed to run this interpreter.
            command = [sys.executable, "-c", READ_SECRET, str(secret), str(OTHER.pw_uid), str(OTHER.pw_gid)]
            environ = {**os.environ, "PYTHONPATH": str(ROOT), "CREDENTIALS_DIRECTORY": str(credentials)}
            done = subprocess.run(command, capture_output=True, env=environ, timeout=30)
            said.append(done.stdout.decode())
        self.assertEqual(said[0], "b'secret'\n")
        self.assertIn("is accessible to other users (mode 0440); use a copy", said[1])

    def test_rundir(self) -> None:
        """
        A relative state directory is in the directory of C{--rundir}.
        """
        run, start = self.directory("run"), self.directory("start")
        pid = self.started("--state-dir", "state", of_twistd=("--rundir", str(run)), path=start)
        self.until(lambda: (run / "state" / "dht.json").exists())
        self.end(pid)
        self.assertEqual((os.listdir(run), os.listdir(start)), (["state"], []))
        self.assertNotIn("could not be saved", self.log.read_text())

    def test_long_error(self) -> None:
        """
        What keeps a daemon from starting reaches standard error and the log in full.
        """
        state = self.directory("state" + "x" * 200, mode=0o755)
        code, said, _ = self.run_twistd("--state-dir", str(state))
        line = f"twistd dtt: {state} is accessible to other users (mode 0755); run: chmod 700 {state}"
        self.assertEqual((code, said.splitlines()[0]), (1, line))
        self.assertEqual([line in each for each in self.log.read_text().splitlines()].count(True), 1)
        self.assertNotIn("Traceback", said + self.log.read_text())

    def test_second_instance(self) -> None:
        """
        A second instance on the same directory touches nothing in it.
        """
        state = self.folder / "state"
        self.started("--state-dir", str(state))
        self.until(lambda: (state / "dht.json").exists())
        (state / "dht.json").write_text("{")
        before = {path: path.read_bytes() for path in state.iterdir() if path.is_file()}
        code, said, _ = self.run_twistd("--state-dir", str(state))
        self.assertEqual(code, 1)
        self.assertIn("is in use by another process; ", said.splitlines()[0])
        self.assertEqual({path: path.read_bytes() for path in state.iterdir() if path.is_file()}, before)

    def test_mode_of_the_log(self) -> None:
        """
        A new log file is for its owner only, whatever the mode of the old one is.
        """
        pid = self.started("--state-dir", str(self.folder / "state"))
        self.log.chmod(0o640)
        os.kill(pid, signal.SIGUSR1)
        old = Path(f"{self.log}.1")
        self.until(lambda: old.exists() and self.log.exists())
        self.assertEqual([path.stat().st_mode & 0o777 for path in (self.log, old)], [0o600, 0o640])
