"""
Tests for L{dtt.cli.checks_machine}.
"""

from __future__ import annotations

import ctypes
import json
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import checks_machine
from dtt.cli.findings import Finding, Verdict
from dtt.config import Config, DHTConfig
from dtt.state import StateDirectory

MINUTE = 30_000_000


class MachineTests(SynchronousTestCase):
    """
    Tests for the checks that need no network.
    """

    def only(self, findings: Any) -> Finding:
        """Return the only finding."""
        (finding,) = findings
        assert isinstance(finding, Finding)
        return finding

    def test_versions(self) -> None:
        """The versions are those of dtt, Python and what it uses."""
        text = self.only(checks_machine.versions()).text
        for part in ("dtt ", "Python 3.", "twisted ", "pynacl "):
            self.assertIn(part, text)

    def test_clock(self) -> None:
        """A clock that nothing keeps right is a warning."""
        for state, verdict in ((True, Verdict.GOOD), (False, Verdict.WARNING), (None, Verdict.NOTE)):
            self.patch(checks_machine, "clock_is_synchronized", lambda state=state: state)
            finding = self.only(checks_machine.clock(MINUTE))
            self.assertEqual(finding.verdict, verdict)
            self.assertIn(str(MINUTE), finding.text)

    def test_state_directory(self) -> None:
        """Its mode and those of its files are checked, and whether it is used."""
        path = Path(self.mktemp())
        self.assertEqual(self.only(checks_machine.state_directory(None)).verdict, Verdict.NOTE)
        self.assertIn("does not exist", self.only(checks_machine.state_directory(path)).text)
        self.assertFalse(path.exists())
        directory = StateDirectory(path)
        self.assertIn("not in use", self.only(checks_machine.state_directory(path)).text)
        directory.lock()
        self.assertIn("in use by a running", self.only(checks_machine.state_directory(path)).text)
        self.assertTrue(checks_machine.is_in_use(path))
        directory.unlock()
        self.assertFalse(checks_machine.is_in_use(path))
        (path / "peer.key").touch()
        (path / "peer.key").chmod(0o644)
        finding = self.only(checks_machine.state_directory(path))
        self.assertEqual(finding.verdict, Verdict.BAD)
        self.assertIn("chmod 600 peer.key", finding.advice)
        path.chmod(0o755)
        self.assertEqual(self.only(checks_machine.state_directory(path)).verdict, Verdict.BAD)

    def test_ports(self) -> None:
        """Ports that are taken are found, also those that the state directory keeps."""
        path = Path(self.mktemp())
        StateDirectory(path)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            bad = Config(dht=DHTConfig(port=port, bind="127.0.0.1"))
            first, second = checks_machine.ports(bad, path)
            self.assertEqual((first.verdict, second.verdict), (Verdict.BAD, Verdict.NOTE))
            (path / "ports.json").write_text(json.dumps({"version": 1, "dht": port}))
            first, _ = checks_machine.ports(Config(dht=DHTConfig(bind="127.0.0.1")), path)
            self.assertEqual(first.verdict, Verdict.BAD)
        first, _ = checks_machine.ports(bad, path)
        self.assertEqual(first.verdict, Verdict.GOOD)
        for text in ("[]", "nonsense", '{"dht": "x"}'):
            (path / "ports.json").write_text(text)
            first, _ = checks_machine.ports(Config(), path)
            self.assertEqual(first.verdict, Verdict.NOTE)

    def test_addresses(self) -> None:
        """A machine without an address, and one without IPv6."""
        for hosts, verdicts in (
            ((), [Verdict.BAD]),
            (("192.168.0.5",), [Verdict.GOOD, Verdict.NOTE]),
            (("192.168.0.5", "2001:4860::1"), [Verdict.GOOD, Verdict.GOOD]),
        ):
            self.patch(checks_machine, "local_addresses", lambda hosts=hosts: hosts)
            self.assertEqual([each.verdict for each in checks_machine.addresses()], verdicts)

    def test_path(self) -> None:
        """A path that can't be a directory is wrong, and is not said to be absent; nothing is created."""
        file = Path(self.mktemp())
        file.touch()
        for path, text in (
            (file / "state", "Not a directory"),
            (Path("x" * 300), "File name too long"),
            (file, "is not a directory"),
        ):
            finding = self.only(checks_machine.state_directory(path))
            self.assertEqual(finding.verdict, Verdict.BAD)
            self.assertIn(text, finding.text)
            self.assertFalse(checks_machine.is_in_use(path))
            first, _ = checks_machine.ports(Config(), path)
            self.assertEqual(first.verdict, Verdict.NOTE)

    def test_other_files(self) -> None:
        """
        The modes of directories and of what symbolic links point to do not matter; several files
        are named in order.
        """
        path = Path(self.mktemp())
        directory = StateDirectory(path)
        lax = Path(self.mktemp())
        lax.touch(0o644)
        (path / "link").symlink_to(lax.absolute())
        (path / "broken").symlink_to("nowhere")
        (path / "folder").mkdir(0o755)
        self.assertEqual(self.only(checks_machine.state_directory(path)).verdict, Verdict.GOOD)
        for name in ("b", "a\x1b"):
            (path / name).touch()
            (path / name).chmod(0o640)
        finding = self.only(checks_machine.state_directory(path))
        self.assertTrue(finding.text.endswith("can access 'a\\x1b', b"), finding.text)
        directory.lock()
        self.assertEqual(self.only(checks_machine.state_directory(path)).verdict, Verdict.BAD)
        directory.unlock()

    def test_file_that_vanishes(self) -> None:
        """A running service may replace a file between the listing and the look at its mode."""
        path = Path(self.mktemp())
        StateDirectory(path)
        self.patch(Path, "iterdir", lambda each: iter([each / "gone"]))
        self.assertEqual(self.only(checks_machine.state_directory(path)).verdict, Verdict.GOOD)

    def test_ports_in_use(self) -> None:
        """The ports of a running service are not checked: they are taken, by it."""
        path = Path(self.mktemp())
        directory = StateDirectory(path)
        directory.lock()
        self.addCleanup(directory.unlock)
        finding = self.only(checks_machine.ports(Config(), path))
        self.assertEqual(finding.verdict, Verdict.NOTE)
        self.assertIn("the running service uses them", finding.text)

    def test_tcp(self) -> None:
        """The TCP port of the streams is checked too, at its own address."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            config = Config(listen=("127.0.0.1", port))
            first, second = checks_machine.ports(config, None)
        self.assertEqual((first.verdict, second.verdict), (Verdict.NOTE, Verdict.BAD))
        self.assertIn(f"streams: can't listen on TCP port {port}: Address already in use", second.text)
        _, second = checks_machine.ports(config, None)
        self.assertEqual(second.verdict, Verdict.GOOD)

    def test_damaged_ports(self) -> None:
        """Ports in a damaged file do not count, however it is damaged."""
        path = Path(self.mktemp())
        StateDirectory(path)
        for value in (
            b"[" * 65536,
            b"\xff",
            b'{"dht": true}',
            b'{"dht": 65536}',
            b'{"dht": -1, "streams": 1.5}',
        ):
            (path / "ports.json").write_bytes(value)
            self.assertEqual(
                [each.text for each in checks_machine.ports(Config(), path)],
                ["DHT: any free UDP port", "streams: any free TCP port"],
                value[:20],
            )

    def test_kernel_clock(self) -> None:
        """What the kernel does not say is unknown; only one of its states is not synchronized."""

        class Library:
            state = 0

            def adjtimex(self, buffer: object) -> int:
                return self.state

        library = Library()
        self.patch(ctypes, "CDLL", lambda name: library)
        for state, expected in ((-1, None), (0, True), (1, True), (4, True), (5, False)):
            library.state = state
            self.assertIs(checks_machine.clock_is_synchronized(), expected)
        self.patch(ctypes, "CDLL", lambda name: object())
        self.assertIsNone(checks_machine.clock_is_synchronized())
