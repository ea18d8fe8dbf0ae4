"""
Tests for L{dtt.cli.wire}.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.wire import OpenOptions, SealOptions, SlotOptions
from dtt.errors import StateError, UsageError
from dtt.records import topic as topic_module
from dtt.records.record import MAX_ENCRYPTED_BYTES
from dtt.records.ticket import Ticket
from dtt.state import load_or_create_key
from dtt.wire.addresses import MAX_ADDRESSES

VECTORS = Path(__file__).parent.parent / "vectors"
SLOTS = json.loads((VECTORS / "slots.json").read_text())
RECORDS = json.loads((VECTORS / "records.json").read_text())
REJECTS = json.loads((VECTORS / "rejects.json").read_text())

Options = SlotOptions | OpenOptions | SealOptions


class WireTestCase(SynchronousTestCase):
    """
    Runs commands without a process.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def run_bytes(self, options: Options, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
        """
        Return the exit code and the output.
        """
        printed = io.BytesIO()
        options.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        options.stdout = io.TextIOWrapper(printed, write_through=True)
        options.parseOptions(list(arguments))
        code = options.run()
        return code, printed.getvalue()

    def run_json(self, options: Options, *arguments: str, stdin: bytes = b"") -> tuple[int, dict[str, Any]]:
        """
        Return the exit code and the JSON on the only line of output.
        """
        code, printed = self.run_bytes(options, *arguments, stdin=stdin)
        self.assertEqual(printed.count(b"\n"), 1)
        return code, json.loads(printed)

    def secret_file(self, secret: bytes, mode: int = 0o600) -> str:
        """
        Return the path of a file with C{secret}.
        """
        path = self.directory / "secret"
        path.write_bytes(secret)
        path.chmod(mode)
        return str(path)

    def file(self, data: bytes) -> str:
        """
        Return the path of a file with C{data}.
        """
        path = self.directory / "record"
        path.write_bytes(data)
        return str(path)


class SlotTests(WireTestCase):
    """
    Tests for C{dtt slot}.
    """

    def test_ticket(self) -> None:
        """A ticket replaces the topic and the secret."""
        ticket = Ticket.make("x", bytes(range(100, 164)))
        path = self.secret_file(ticket.encode().encode())
        named = ["--topic", f"hex:{ticket.topic_id.hex()}", "--minute", "5"]
        code, said = self.run_json(SlotOptions(), "--ticket-file", path, "--minute", "5")
        self.assertEqual(code, 0)
        secret = self.directory / "other"
        secret.write_bytes(ticket.secret)
        secret.chmod(0o600)
        self.assertEqual(said, self.run_json(SlotOptions(), *named, "--secret-file", str(secret))[1])
        for more in (["--topic", "x"], ["--secret-file", path]):
            options = SlotOptions()
            self.assertRaises(usage.UsageError, options.parseOptions, ["--ticket-file", path, *more])

    def test_vectors(self) -> None:
        """
        The slots are those of the Rust crate, by name if it is text, and by id for all.
        """
        for case in SLOTS:
            topics = [f"hex:{case['topic_id']}"]
            name = bytes.fromhex(case["topic_name"])
            if name.isascii() and name.decode().isprintable() and name.strip():
                topics.append(name.decode("ascii"))
            for topic in topics:
                code, said = self.run_json(SlotOptions(), "--topic", topic, "--minute", case["unix_minute"])
                self.assertEqual(code, 0)
                self.assertEqual(
                    said,
                    {
                        "topic_id": case["topic_id"],
                        "unix_minute": int(case["unix_minute"]),
                        "public_key": case["signing_public_key"],
                        "salt": case["salt"],
                        "target": case["target"],
                    },
                )

    def test_present_minute(self) -> None:
        """
        The default minute is the current one.
        """
        options = SlotOptions()
        self.patch(options, "now", lambda: 60 * 29_000_000 + 59.9)
        self.assertEqual(self.run_json(options, "--topic", "x")[1]["unix_minute"], 29_000_000)

    def test_secret_code(self) -> None:
        """
        With a secret there are six digits, which depend on the topic, the secret and the
        hour; without one there are none.
        """

        def code(topic: str, secret: bytes, minute: str) -> str:
            arguments = ("--topic", topic, "--minute", minute, "--secret-file", "-")
            shown = self.run_json(SlotOptions(), *arguments, stdin=secret)[1]["secret_code"]
            self.assertRegex(shown, r"\A[0-9]{6}\Z")
            return str(shown)

        first = code("x", b"s\n", "600")
        self.assertEqual(first, "698259")
        self.patch(topic_module, "_CODE_COST", {"n": 2, "r": 1, "p": 1})
        first = code("x", b"s\n", "600")
        self.assertEqual(code("x", b"s", "659"), first)
        others = {
            code("x", b"s", "660"),
            code("y", b"s", "600"),
            code("x", b"t", "600"),
            code("x", b"", "600"),
        }
        self.assertEqual(len(others | {first}), 5)
        code("x", b"s", str(2**64 - 1))
        self.assertNotIn("secret_code", self.run_json(SlotOptions(), "--topic", "x")[1])

    def test_blank_topic(self) -> None:
        """
        All three commands refuse a topic without a visible character.
        """
        for topic in ("", " ", "\t\n", "\u200b", "\u00a0\u3000"):
            for options, more in (
                (SlotOptions(), []),
                (OpenOptions(), ["-"]),
                (SealOptions(), ["--key-file", "k"]),
            ):
                with self.assertRaises(UsageError) as raised:
                    self.run_bytes(options, "--topic", topic, *more)
                self.assertIn("empty or blank", str(raised.exception))
        self.run_bytes(SlotOptions(), "--topic", "\udcff")

    def test_wrong_options(self) -> None:
        """
        A missing topic, invalid digits, invalid minutes and unknown options are named.
        """
        for arguments, word in (
            ([], "--topic"),
            (["--topic", "hex:00"], "64 hexadecimal digits"),
            (["--topic", "x", "--minute", "-1"], "--minute"),
            (["--topic", "x", "--minute", "x"], "--minute"),
            (["--topic", "x", "--minute", "1.5"], "--minute"),
            (["--topic", "x", "--minute", "9" * 5000], "--minute"),
            (["--topic", "x", "--minute", str(2**64)], "minute"),
            (["--topic", "x", "--nonsense"], "nonsense"),
        ):
            try:
                self.run_bytes(SlotOptions(), *arguments)
            except (UsageError, usage.UsageError) as error:
                self.assertIn(word, str(error))
                self.assertNotIn("\n", str(error))
                self.assertLess(len(str(error)), 200)
            else:
                self.fail(f"{arguments} were taken")


class OpenTests(WireTestCase):
    """
    Tests for C{dtt open}.
    """

    def _open(self, case: dict[str, Any], name: str, stdin: bytes = b"") -> tuple[int, dict[str, Any]]:
        return self.run_json(
            OpenOptions(),
            "--topic",
            f"hex:{case['topic_id']}",
            "--minute",
            str(case["unix_minute"]),
            "--secret-file",
            self.secret_file(bytes.fromhex(case["initial_secret"]) + b"\n"),
            name,
            stdin=stdin,
        )

    def test_vectors(self) -> None:
        """
        Records of the Rust crate are read raw, in hex and in JSON, from a file and from
        stdin; unused entries are omitted.
        """
        unused = "00" * 32
        for case in RECORDS["gossip"]:
            encrypted = case["encrypted"][0]
            expected = {
                "publisher": case["publisher"],
                "unix_minute": int(case["unix_minute"]),
                "active_peers": [peer for peer in case["active_peers"] if peer != unused],
                "last_message_hashes": [said for said in case["last_message_hashes"] if said != unused],
                "addresses": [],
            }
            for data in (
                bytes.fromhex(encrypted),
                encrypted.encode(),
                f" {encrypted.upper()}\n".encode(),
                json.dumps({"record": encrypted}).encode(),
            ):
                self.assertEqual(self._open(case, self.file(data)), (0, expected))
                self.assertEqual(self._open(case, "-", stdin=data), (0, expected))

    def test_addresses(self) -> None:
        """
        Addresses in the extension are shown.
        """
        case = RECORDS["gossip"][0]
        data = RECORDS["extension"][1]
        minute = int.from_bytes(bytes.fromhex(data["record"])[32:40], "little")
        code, said = self._open({**case, "unix_minute": minute}, self.file(data["encrypted"].encode()))
        self.assertEqual((code, said["addresses"]), (0, ["streams:127.0.0.1:4433"]))

    def test_refused(self) -> None:
        """
        Records that Rust refuses are refused at the same stage, with exit code 1.
        """
        for case in REJECTS["encrypted"]:
            code, said = self._open(REJECTS, self.file(bytes.fromhex(case["bytes"])))
            if case["rust"] == "accepted":
                self.assertEqual(code, 0)
            else:
                self.assertEqual((code, said), (1, {"refused": case["rust"]}), case["case"])

    def test_junk(self) -> None:
        """
        Input that is not a record in any form is refused at C{parse}.
        """
        for data in (
            b"",
            b"{",
            b'{"record": 1}',
            b'{"record": "zz"}',
            b"[]",
            b"zz",
            b"\xff" * 100,
            bytes(10**6),
        ):
            self.assertEqual(self._open(REJECTS, self.file(data)), (1, {"refused": "parse"}))

    def test_other_minute(self) -> None:
        """
        A record of another minute can't be decrypted.
        """
        case = {**RECORDS["gossip"][0], "unix_minute": 1}
        data = case["encrypted"][0].encode()
        self.assertEqual(self._open(case, self.file(data)), (1, {"refused": "decrypt"}))

    def test_unusable_files(self) -> None:
        """
        A missing record, a secret file that others can read, and two inputs on stdin are
        refused with a clear message.
        """
        arguments = ("--topic", "x", "--minute", "1")
        self.assertIn(
            "missing",
            str(self.assertRaises(StateError, self.run_bytes, OpenOptions(), *arguments, "missing")),
        )
        lax = self.secret_file(b"s", 0o644)
        error = self.assertRaises(
            StateError, self.run_bytes, OpenOptions(), *arguments, "--secret-file", lax, self.file(b"")
        )
        self.assertIn("chmod 600", str(error))
        self.assertRaises(
            usage.UsageError, self.run_bytes, OpenOptions(), *arguments, "--secret-file", "-", "-", stdin=b"x"
        )
        self.assertRaises(usage.UsageError, self.run_bytes, OpenOptions(), *arguments)


class SealTests(WireTestCase):
    """
    Tests for C{dtt seal}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.key_file = str(self.directory / "key")
        self.key = load_or_create_key(self.key_file)
        self.arguments = ("--topic", "t", "--minute", "7")

    def test_files_name_their_option(self) -> None:
        """
        An error of a key file or a secret file names the option.
        """
        for arguments, option in (
            (("--key-file", "/nonexistent"), "--key-file"),
            (("--key-file", "/dev/zero"), "--key-file"),
            (("--key-file", self.key_file, "--secret-file", "/nonexistent"), "--secret-file"),
        ):
            error = self.assertRaises(StateError, self.run_bytes, SealOptions(), *self.arguments, *arguments)
            self.assertRegex(str(error), rf"\A{option}: [^\n]+\Z")
        for option in ("--key-file", "--secret-file"):
            error = self.assertRaises(
                usage.UsageError, self.run_bytes, SealOptions(), *self.arguments, option, ""
            )
            self.assertEqual(str(error), f"{option}: expected a path, not ''")

    def test_round_trip(self) -> None:
        """
        C{dtt open} reads everything that C{dtt seal} was given, with a secret.
        """
        peers, hashes = ["ab" * 32, "cd" * 32], ["ef" * 32]
        addresses = ["streams:192.0.2.1:4433", "streams:[2001:db8::1]:1", "iroh:192.0.2.1:65535"]
        options = [f"--active-peer={peer}" for peer in peers]
        options += [f"--message-hash={digest}" for digest in hashes]
        options += [f"--address={address}" for address in addresses]
        secret = ("--secret-file", "-")
        code, printed = self.run_bytes(
            SealOptions(), *self.arguments, *secret, "--key-file", self.key_file, *options, stdin=b"s\n"
        )
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(printed)["publisher"], self.key.peer_id.hex())
        expected = {
            "publisher": self.key.peer_id.hex(),
            "unix_minute": 7,
            "active_peers": peers,
            "last_message_hashes": hashes,
            "addresses": addresses,
        }
        opened = self.run_json(OpenOptions(), *self.arguments, *secret, self.file(printed), stdin=b"s")
        self.assertEqual(opened, (0, expected))
        opened = self.run_json(OpenOptions(), *self.arguments, self.file(printed))
        self.assertEqual(opened, (1, {"refused": "decrypt"}))

    def test_raw(self) -> None:
        """
        C{--raw} writes exactly the bytes that are stored in the DHT.
        """
        code, raw = self.run_bytes(SealOptions(), *self.arguments, "--key-file", self.key_file, "--raw")
        self.assertEqual((code, len(raw)), (0, 604))
        self.assertEqual(self.run_json(OpenOptions(), *self.arguments, self.file(raw))[0], 0)

    def test_never_the_same(self) -> None:
        """
        Encrypting a record twice gives different bytes.
        """
        run = [
            self.run_bytes(SealOptions(), *self.arguments, "--key-file", self.key_file, "--raw")
            for _ in range(2)
        ]
        self.assertNotEqual(*run)

    def test_full(self) -> None:
        """
        A record with all entries used fits into a DHT item; one more entry is refused.
        """
        options = ["--active-peer", "ab" * 32] * 5 + ["--message-hash", "cd" * 32] * 5
        transports = ("streams", "quic", "iroh")
        addresses = [f"{transports[n % 3]}:[2001:db8::{n}]:65535" for n in range(MAX_ADDRESSES)]
        options += [word for address in addresses for word in ("--address", address)]
        arguments = (*self.arguments, "--key-file", self.key_file, "--raw", *options)
        self.assertLessEqual(len(self.run_bytes(SealOptions(), *arguments)[1]), MAX_ENCRYPTED_BYTES)
        for more in (
            ("--active-peer", "ab" * 32),
            ("--message-hash", "ab" * 32),
            ("--address", "streams:192.0.2.1:1"),
        ):
            error = self.assertRaises(usage.UsageError, self.run_bytes, SealOptions(), *arguments, *more)
            self.assertIn("room for", str(error))

    def test_wrong_options(self) -> None:
        """
        Invalid digits, addresses and key files are refused with the option's name.
        """
        for option, value in (
            ("--active-peer", "ab"),
            ("--active-peer", "zz" * 32),
            ("--message-hash", ""),
            ("--address", "192.0.2.1:1"),
            ("--address", "tcp:192.0.2.1:1"),
            ("--address", "streams:localhost:1"),
            ("--address", "streams:192.0.2.1:0"),
            ("--address", "streams:192.0.2.1:65536"),
            ("--address", "streams:192.0.2.1:" + "9" * 5000),
            ("--address", "streams:192.0.2.1"),
            ("--address", "streams:[2001:db8::1:5"),
            ("--address", "streams:2001:db8::1:5"),
            ("--address", "streams:[fe80::1%eth0]:5"),
        ):
            error = self.assertRaises(
                usage.UsageError,
                self.run_bytes,
                SealOptions(),
                *self.arguments,
                "--key-file",
                self.key_file,
                option,
                value,
            )
            self.assertIn(option, str(error))
        error = self.assertRaises(usage.UsageError, self.run_bytes, SealOptions(), *self.arguments)
        self.assertIn("--key-file", str(error))
        missing = str(self.directory / "missing")
        self.assertRaises(StateError, self.run_bytes, SealOptions(), *self.arguments, "--key-file", missing)
        self.assertFalse(Path(missing).exists())
