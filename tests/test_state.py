"""
Tests for L{dtt.state}.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from dtt.errors import StateError
from dtt.files import create_private_file
from dtt.state import (
    MAX_JSON_BYTES,
    MAX_SECRET_BYTES,
    StateDirectory,
    StateFile,
    load_or_create_key,
    read_secret,
    read_secret_file,
    unusual_in,
)

_HOLD_LOCK = """
import sys
from dtt.state import StateDirectory
StateDirectory(sys.argv[1]).lock()
print("locked", flush=True)
sys.stdin.read()
"""


class SecretFileTests(SynchronousTestCase):
    """
    Tests for L{read_secret_file}.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def _write(self, data: bytes, mode: int = 0o600) -> None:
        self.path.write_bytes(data)
        self.path.chmod(mode)

    def test_exact_but_one_newline(self) -> None:
        """
        One final newline is dropped; all other bytes are kept.
        """
        for held, secret in (
            (b"secret\n", b"secret"),
            (b"secret", b"secret"),
            (b" secret \n\n", b" secret \n"),
            (b"secret\r\n", b"secret\r"),
            (b"\x00\xff", b"\x00\xff"),
            (b"\n", b""),
            (b"", b""),
        ):
            self._write(held)
            self.assertEqual(read_secret_file(self.path), secret)
            self.assertEqual(read_secret("-", io.BytesIO(held)), secret)
            self.assertEqual(read_secret(str(self.path), io.BytesIO(b"x")), secret)

    def test_lax_mode(self) -> None:
        """
        A secret file that group or others can read is refused, with the chmod to run.
        """
        for mode in (0o640, 0o604, 0o644):
            self._write(b"secret", mode)
            error = self.assertRaises(StateError, read_secret_file, self.path)
            self.assertIn(f"chmod 600 {self.path}", str(error))
            self.assertNotIn("secret\n", str(error))
        self._write(b"secret", 0o400)
        self.assertEqual(read_secret_file(self.path), b"secret")

    def test_command_can_be_pasted(self) -> None:
        """
        A path with spaces is quoted in the chmod.
        """
        self.path = self.path.with_name("a secret")
        self._write(b"secret", 0o644)
        error = self.assertRaises(StateError, read_secret_file, self.path)
        self.assertIn("chmod 600 '", str(error))

    def test_standard_input(self) -> None:
        """
        A standard input that is closed, can't be read or has no data yet is not an empty secret.
        """

        class Input(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise IsADirectoryError(21, "Is a directory")

        class Nothing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return None  # type: ignore[return-value]

        for stdin in (None, Input(), Nothing()):
            error = self.assertRaises(StateError, read_secret, "-", stdin)
            self.assertRegex(str(error), r"\A[^\n]*standard input[^\n]*\Z")

    def test_unusual(self) -> None:
        """
        What an editor may have added is noticed; other bytes are nobody's business.
        """
        for secret, found in (
            (b"\xef\xbb\xbfsecret", "byte order mark"),
            ("secret".encode("utf-16"), "byte order mark"),
            (b"secret\r", "carriage return"),
            (b"secret\n", "newline"),
            (b" secret", "white space"),
            (b"sec ret", None),
            (b"\xe9", None),
            (b"\xff\n", None),
            (b"", None),
        ):
            unusual = unusual_in(secret)
            self.assertEqual(unusual is None, found is None, secret)
            self.assertIn(found or "", unusual or "")
            self.assertNotIn("secret", unusual or "")

    def test_unreadable(self) -> None:
        """
        A missing file and a directory are refused with a message of one line.
        """
        self.assertRaises(StateError, read_secret_file, self.path)
        self.path.mkdir(mode=0o700)
        error = self.assertRaises(StateError, read_secret_file, self.path)
        self.assertNotIn("\n", str(error))

    def test_too_long(self) -> None:
        """
        A file that is too large for a secret is not read into memory.
        """
        self._write(bytes(MAX_SECRET_BYTES))
        self.assertEqual(len(read_secret_file(self.path)), MAX_SECRET_BYTES)
        self._write(bytes(MAX_SECRET_BYTES + 1))
        self.assertRaises(StateError, read_secret_file, self.path)


class CreatePrivateFileTests(SynchronousTestCase):
    """
    Tests for L{create_private_file}.
    """

    def test_first_wins(self) -> None:
        """
        The first call writes the file; the second one changes nothing.
        """
        path = Path(self.mktemp())
        self.assertTrue(create_private_file(path, b"first"))
        self.assertFalse(create_private_file(path, b"second"))
        self.assertEqual(path.read_bytes(), b"first")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)


class StateDirectoryTests(SynchronousTestCase):
    """
    Tests for L{StateDirectory}.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "parent" / "state"

    def test_created(self) -> None:
        """
        The directory is created with mode 0700, with its parents; an existing one is used
        unchanged.
        """
        StateDirectory(self.path)
        StateDirectory(str(self.path))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o700)

    def test_lax_mode(self) -> None:
        """
        A directory that others can enter or read is refused, with the chmod to run.
        """
        StateDirectory(self.path)
        for mode in (0o750, 0o755, 0o701):
            self.path.chmod(mode)
            error = self.assertRaises(StateError, StateDirectory, self.path)
            self.assertIn(f"chmod 700 {self.path}", str(error))
            self.assertEqual(self.path.stat().st_mode & 0o777, mode)

    def test_not_a_directory(self) -> None:
        """
        A file instead of the directory or of one of its parents is refused.
        """
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"")
        self.assertRaises(StateError, StateDirectory, self.path)
        self.assertRaises(StateError, StateDirectory, self.path / "below")

    def test_advice(self) -> None:
        """
        The chmod is shown only for a directory in which there is nothing but our state:
        others may need what else is there.
        """
        StateDirectory(self.path)
        self.path.chmod(0o755)
        for name in ("peer.key", "lock", "dht.json", "dht.json.damaged", ".dht-x.tmp", ".dtt-abcdefgh.tmp"):
            (self.path / name).touch()
            error = self.assertRaises(StateError, StateDirectory, self.path)
            self.assertEqual("chmod 700" in str(error), not (self.path / ".dht-x.tmp").exists(), name)
        self.assertIn("choose a --state-dir that only dtt uses", str(error))

    def test_directories_of_the_system(self) -> None:
        """
        No mode of a directory of the system is to be changed.
        """
        for path in ("/", "/tmp", "/usr", "/etc", "/var", "/home"):
            error = self.assertRaises(StateError, StateDirectory, path)
            self.assertNotIn("chmod", str(error))
        StateDirectory(self.path)
        self.path.chmod(0o1777)
        self.assertNotIn("chmod", str(self.assertRaises(StateError, StateDirectory, self.path)))

    def test_other_owner(self) -> None:
        """
        The directory of another user is refused, also by root.
        """
        StateDirectory(self.path)
        owner = os.geteuid()
        self.patch(os, "geteuid", lambda: owner + 1)
        error = self.assertRaises(StateError, StateDirectory, self.path)
        self.assertRegex(
            str(error), r"\Astate directory \S+ belongs to [^\n]+ and this process runs as [^\n]+\Z"
        )
        self.assertNotIn("chmod", str(error))
        self.assertEqual(os.listdir(self.path), [])

    def test_leftovers(self) -> None:
        """
        Locking the directory deletes temporary files of a killed process.
        """
        state = StateDirectory(self.path)
        state.write_json("node.json", {})

        def killed(source: object, target: object) -> None:
            raise SystemError("as if killed")

        patch = self.patch(os, "replace", killed)
        self.assertRaises(SystemError, state.write_json, "node.json", {"a": 1})
        patch.restore()
        self.assertEqual(len(os.listdir(self.path)), 2)
        state.lock()
        state.unlock()
        self.assertEqual(sorted(os.listdir(self.path)), ["lock", "node.json"])

    def test_files_of_others_stay(self) -> None:
        """
        Nothing else is deleted: the directory may be the home directory of the user.
        """
        state = StateDirectory(self.path)
        others = [".x.tmp", ".abc.tmp", ".dtt-notes.tmp", "x.tmp", ".dtt-abcdefgh.tmp~", ".dtt-ABCDEFGH.tmp"]
        for name in others:
            (self.path / name).touch()
        (self.path / ".dtt-12345678.tmp").mkdir()
        (self.path / ".dtt-87654321.tmp").symlink_to("x.tmp")
        state.lock()
        state.unlock()
        links = [".dtt-12345678.tmp", ".dtt-87654321.tmp"]
        self.assertEqual(sorted(os.listdir(self.path)), sorted([*others, *links, "lock"]))

    def test_special_files(self) -> None:
        """
        A FIFO, a directory or a device in place of a file is refused at once, in one line.
        """
        state = StateDirectory(self.path)
        file = self.path / "node.json"
        makers: list[tuple[str, Callable[[], object]]] = [
            ("is a FIFO", lambda: os.mkfifo(file)),
            ("is a directory", file.mkdir),
            ("is a device", lambda: file.symlink_to("/dev/zero")),
            ("symbolic links", lambda: file.symlink_to("node.json")),
        ]
        for kind, make in makers:
            make()
            error = self.assertRaises(StateError, state.read_json, "node.json")
            self.assertRegex(str(error), rf"\A[^\n]*{kind}[^\n]*\Z")
            (file.rmdir if kind == "is a directory" else file.unlink)()

    def test_special_lock(self) -> None:
        """
        So is the lock; the target of a symbolic link is neither created nor locked.
        """
        state = StateDirectory(self.path)
        lock = self.path / "lock"
        makers: list[tuple[str, Callable[[], object]]] = [
            ("is a FIFO", lambda: os.mkfifo(lock)),
            ("directory", lock.mkdir),
            ("symbolic link", lambda: lock.symlink_to("elsewhere")),
        ]
        for kind, make in makers:
            make()
            self.assertRegex(str(self.assertRaises(StateError, state.lock)), rf"\A[^\n]*{kind}[^\n]*\Z")
            (lock.rmdir if kind == "directory" else lock.unlink)()
        self.assertEqual(os.listdir(self.path), [])
        state.lock()
        state.unlock()

    def test_no_locks(self) -> None:
        """
        A file system without locks, as some network file systems, is named as the reason.
        """
        state = StateDirectory(self.path)
        for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):

            def refuse(descriptor: int, operation: int, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            self.patch(fcntl, "flock", refuse)
            error = self.assertRaises(StateError, state.lock)
            self.assertRegex(
                str(error), r"\Acan't lock [^\n]+; choose a --state-dir on a local file system\Z"
            )

    def test_unwritable(self) -> None:
        """
        A directory that can't be written, and a full disk, are reported in one line.
        """
        state = StateDirectory(self.path)
        for number in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):

            def refuse(*arguments: object, number: int = number) -> int:
                raise OSError(number, os.strerror(number))

            patch = self.patch(os, "open", refuse)
            errors = [
                self.assertRaises(StateError, state.lock),
                self.assertRaises(StateError, state.write_json, "node.json", {}),
                self.assertRaises(StateError, load_or_create_key, self.path / "peer.key"),
            ]
            patch.restore()
            for error in errors:
                self.assertRegex(str(error), rf"\A[^\n]+{re.escape(os.strerror(number))}[^\n]*\Z")
        self.assertEqual(os.listdir(self.path), [])

    def test_large_file(self) -> None:
        """
        A file that is too large is moved aside without being decoded.
        """
        state = StateDirectory(self.path)
        decoded: list[object] = []
        self.patch(json, "loads", decoded.append)
        (self.path / "node.json").write_bytes(b'{"nodes": [' + b"1," * MAX_JSON_BYTES + b"1]}")
        self.assertIsNone(state.read_json("node.json"))
        self.assertEqual(decoded, [])
        self.assertEqual(os.listdir(self.path), ["node.json.damaged"])

    def test_lock_excludes(self) -> None:
        """
        A second user is refused with a clear message until the first one unlocks.
        """
        first, second = StateDirectory(self.path), StateDirectory(self.path)
        self.addCleanup(second.unlock)
        first.lock()
        first.lock()
        error = self.assertRaises(StateError, second.lock)
        self.assertIn("in use by another process", str(error))
        self.assertIn(str(self.path), str(error))
        first.unlock()
        first.unlock()
        second.lock()

    def test_kill_releases(self) -> None:
        """
        A lock of another process counts too, and C{kill -9} releases it.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLD_LOCK, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"locked\n")
            directory = StateDirectory(self.path)
            self.assertRaises(StateError, directory.lock)
            process.send_signal(signal.SIGKILL)
            process.wait()
            directory.lock()
            directory.unlock()
        finally:
            process.kill()
            process.communicate()

    def test_json_round_trip(self) -> None:
        """
        The last written value is read, also by the next user; no temporary file remains.
        """
        directory = StateDirectory(self.path)
        self.assertIsNone(directory.read_json("ports.json"))
        directory.write_json("ports.json", {"dht": 1})
        directory.write_json("ports.json", {"dht": 2, "name": "\N{SNOWMAN}"})
        self.assertEqual(StateDirectory(self.path).read_json("ports.json"), {"dht": 2, "name": "\N{SNOWMAN}"})
        self.assertEqual(os.listdir(self.path), ["ports.json"])

    def test_failed_write_keeps_the_old(self) -> None:
        """
        If the new state can't be written, the old one is kept.
        """
        directory = StateDirectory(self.path)
        directory.write_json("ports.json", {"dht": 1})

        def fail(source: object, target: object) -> None:
            raise OSError(28, "No space left on device")

        patch = self.patch(os, "replace", fail)
        error = self.assertRaises(StateError, directory.write_json, "ports.json", {"dht": 2})
        patch.restore()
        self.assertIn("No space left", str(error))
        self.assertEqual(directory.read_json("ports.json"), {"dht": 1})
        self.assertEqual(os.listdir(self.path), ["ports.json"])

    def test_damaged(self) -> None:
        """
        A damaged file is renamed with a warning and treated as missing; a value written
        afterwards is read.
        """
        directory = StateDirectory(self.path)
        events: list[object] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_level"] is LogLevel.warn:
                events.append(event["path"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        file = self.path / "nodes.json"
        for damage in (b"", b"{", b"[1]", b"\xff\xfe\xfd", b'{"a": "\xff"}', b"[" * 100000, b"null"):
            events.clear()
            file.write_bytes(damage)
            self.assertIsNone(directory.read_json("nodes.json"), damage[:20])
            self.assertEqual(events, [file])
            self.assertFalse(file.exists())
            self.assertEqual((self.path / "nodes.json.damaged").read_bytes(), damage)
        directory.write_json("nodes.json", {"nodes": []})
        self.assertEqual(directory.read_json("nodes.json"), {"nodes": []})


class StateFileTests(SynchronousTestCase):
    """
    Tests for L{StateFile}.
    """

    def setUp(self) -> None:
        """
        Create a directory, and a file that holds a number.
        """
        self.path = Path(self.mktemp())
        self.directory = StateDirectory(self.path)
        self.file = self.make(self.directory)

    def make(self, directory: StateDirectory | None) -> StateFile[int]:
        """
        The file with a number.
        """

        def decode(value: Mapping[str, Any]) -> int:
            if type(value.get("number")) is not int:
                raise ValueError("not a number")
            return int(value["number"])

        return StateFile(directory, "number.json", decode, lambda number: {"number": number})

    def test_round_trip(self) -> None:
        """
        There is no value at first; what was saved is loaded, also by the next process.
        """
        self.assertIsNone(self.file.load())
        self.file.save(5)
        self.file.save(6)
        self.assertEqual((self.file.load(), self.make(StateDirectory(self.path)).load()), (6, 6))

    def test_unusable(self) -> None:
        """
        An unusable value is moved aside: a later write does not destroy it.
        """
        for content in ("{", '{"number": "five"}', "[]"):
            (self.path / "number.json").write_text(content)
            self.assertIsNone(self.file.load())
            self.file.save(7)
            self.assertEqual((self.path / "number.json.damaged").read_text(), content)
            self.assertEqual(self.file.load(), 7)

    def test_full_disk(self) -> None:
        """
        A value that can't be written is logged; the one before stays.
        """
        self.file.save(5)
        self.patch(StateDirectory, "write_json", self.refuse)
        logged: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_level"] is LogLevel.error:
                logged.append(str(event["error"]))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.file.save(6)
        self.assertEqual((logged, self.file.load()), (["no space"], 5))

    def refuse(self, name: str, value: object) -> None:
        """
        As a full disk.
        """
        raise StateError("no space")

    def test_no_directory(self) -> None:
        """
        Without a directory nothing is kept.
        """
        file = self.make(None)
        file.save(5)
        self.assertIsNone(file.load())
