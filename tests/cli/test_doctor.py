"""
Tests for L{dtt.cli.doctor} and its checks.
"""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import checks_machine, checks_network, doctor
from dtt.cli.commands import run
from dtt.cli.doctor import uses_color
from dtt.cli.findings import Finding, Verdict
from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.identity import PeerKey
from dtt.records import topic as topic_module
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash
from dtt.state import StateDirectory
from tests.cli.common import FIRST, CommandTestCase, DHTTestCase

TOPIC = TopicId.from_name("garden party")
MINUTE = 30_000_000


class FindingTests(SynchronousTestCase):
    """
    Tests for L{Finding}.
    """

    def test_lines(self) -> None:
        """A finding begins with its verdict; the advice is below."""
        finding = Finding("clock", Verdict.BAD, "it is wrong", "set it")
        self.assertEqual(finding.lines(80), ["FAIL  clock: it is wrong", "      -> set it"])
        self.assertEqual(
            finding.as_json(), {"check": "clock", "result": "fail", "text": "it is wrong", "advice": "set it"}
        )
        self.assertTrue(finding.lines(80, colored=True)[0].startswith("\x1b[1;31mFAIL\x1b[0m"))
        for width in range(20, 40):
            self.assertLessEqual(max(map(len, finding.lines(width))), width)

    def test_color(self) -> None:
        """Only a terminal is coloured, and not if NO_COLOR is set."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.assertTrue(uses_color({"TERM": "xterm"}, Terminal()))
        for environ, stream in (
            ({"TERM": "xterm", "NO_COLOR": "1"}, Terminal()),
            ({"TERM": "dumb"}, Terminal()),
            ({}, Terminal()),
            ({"TERM": "xterm"}, io.StringIO()),
        ):
            self.assertFalse(uses_color(environ, stream))


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


class NetworkTests(DHTTestCase):
    """
    Tests for the checks on a DHT in memory.
    """

    def test_bootstrap_hosts(self) -> None:
        """Each host is asked: one that answers, one that is silent, and one without an address."""
        self.network.udp.names["good.example"] = [FIRST]
        found = self.result(
            checks_network.bootstrap_hosts(
                self.reactor, self.node, [("good.example", 6881), ("10.0.0.77", 1), ("nowhere.example", 1)]
            )
        )
        self.assertEqual([each.verdict for each in found], [Verdict.GOOD, Verdict.WARNING, Verdict.WARNING])
        self.assertFalse(checks_network.all_silent(found))
        self.assertTrue(checks_network.all_silent(found[1:]))

    def test_dht(self) -> None:
        """A DHT that answers, and one that does not."""
        for host, verdict in ((FIRST, Verdict.GOOD), ("10.0.0.77", Verdict.BAD)):
            node = DHTNode(
                self.network.reactor(f"10.2.{verdict is Verdict.BAD:d}.1"), bootstrap=[(host, 6881)]
            )
            (finding,) = self.result(checks_network.dht(self.reactor, node, silent=True), 15)
            self.assertEqual(finding.verdict, verdict)
            node.stopService()
            self.flushLoggedErrors()

    def test_item(self) -> None:
        """An item is stored and read back."""
        (finding,) = self.result(checks_network.stored_and_read(self.reactor, self.node))
        self.assertEqual(finding.verdict, Verdict.GOOD)
        self.assertIn("stored on 8 nodes", finding.text)

    def test_external_address(self) -> None:
        """What other nodes say is reported."""
        nat, udp_in = self.result(checks_network.external_address(self.reactor, self.node, ["10.1.1.1"]))
        self.assertEqual(nat.verdict, Verdict.GOOD)
        self.assertIn("this machine is 10.1.1.1", nat.text)
        self.assertIn(udp_in.verdict, (Verdict.GOOD, Verdict.NOTE))
        nat, _ = self.result(checks_network.external_address(self.reactor, self.node, ["192.168.0.1"]))
        self.assertIn("the same port for all destinations: 10.1.1.1", nat.text)

    def publish(self, secret: bytes, minute: int) -> None:
        """Store a record in a slot."""
        slot = Slot(TOPIC, minute)
        key = encryption_key(slot, initial_secret_hash(secret))
        record = Record.sign(PeerKey.from_seed(b"\x05" * 32), slot, GossipContent((), (), ()).encode())
        stored = encrypt(record, key.public, bytes(ENTROPY_BYTES))
        self.result(self.put(slot, stored))

    async def put(self, slot: Slot, stored: bytes) -> None:
        """Store a value in a slot."""
        await self.node.put_latest(slot.signing_seed, stored, 1, slot.salt)

    def test_slots(self) -> None:
        """Records of others, of another secret, and of another minute are distinguished."""

        def check(secret: bytes, minute: int, own: bytes = b"") -> list[Finding]:
            return self.result(
                checks_network.slots(self.reactor, self.node, TOPIC, secret, minute, own), seconds=40
            )

        (finding,) = check(b"a", MINUTE)
        self.assertIn("no record within five minutes", finding.text)
        self.publish(b"a", MINUTE)
        (finding,) = check(b"a", MINUTE)
        self.assertEqual((finding.check, finding.verdict), ("members", Verdict.GOOD))
        (finding,) = check(b"other", MINUTE)
        self.assertEqual((finding.check, finding.verdict), ("secret", Verdict.BAD))
        (finding,) = check(b"a", MINUTE + 4)
        self.assertEqual((finding.check, finding.verdict), ("members", Verdict.BAD))
        self.assertIn("4 minutes behind the clock", finding.text)
        (finding,) = check(b"a", MINUTE - 3)
        self.assertIn("3 minutes ahead of the clock", finding.text)

    def test_fingerprint(self) -> None:
        """What two sides compare depends on topic, secret and hour."""
        self.patch(topic_module, "_CODE_COST", {"n": 2, "r": 1, "p": 1})
        texts = [
            next(iter(checks_network.fingerprint(topic, secret, minute))).text
            for topic, secret, minute in (
                (TOPIC, b"a", MINUTE),
                (TOPIC, b"a", MINUTE),
                (TopicId(bytes(32)), b"a", MINUTE),
                (TOPIC, b"b", MINUTE),
                (TOPIC, b"a", MINUTE + 60),
            )
        ]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(len(set(texts)), 4)


class DoctorTests(CommandTestCase):
    """
    Tests for C{dtt doctor}.
    """

    def test_offline(self) -> None:
        """--offline checks the machine; the exit code says whether something is wrong."""
        self.patch(checks_machine, "clock_is_synchronized", lambda: True)
        self.patch(checks_machine, "local_addresses", lambda: ("192.168.0.5",))
        path = Path(self.mktemp())
        self.assertEqual(run(["doctor", "--offline", "--json", "--state-dir", str(path)]), 0)
        checks = [json.loads(line)["check"] for line in self.printed()]
        self.assertEqual(
            checks, ["versions", "clock", "state directory", "ports", "ports", "network", "IPv6"]
        )
        self.assertFalse(os.path.lexists(path))
        path.mkdir(0o755)
        self.assertEqual(run(["doctor", "--offline", "--state-dir", str(path)]), 1)
        self.assertTrue(any(line.startswith("FAIL") for line in self.printed()))

    def test_wrong(self) -> None:
        """Two topics and a blank one are refused."""
        self.assertEqual(run(["doctor", "a", "b"]), 2)
        self.assertEqual(run(["doctor", " ", "--offline"]), 2)

    def test_own_id(self) -> None:
        """Our own record does not count; without a key there is none."""
        options = doctor.DoctorOptions()
        self.assertEqual(doctor.Checks(options, Config(), [])._own_id(), b"")
        self.assertEqual(doctor.Checks(options, Config(state_dir=Path("nowhere")), [])._own_id(), b"")
