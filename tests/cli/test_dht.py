"""
Tests for the commands C{dtt dht ...}.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import usage

from dtt.cli import dht_items
from dtt.cli.commands import NOT_FOUND, run
from dtt.cli.dht import parse_id, shared_bits, shown_address, shown_version
from dtt.cli.dht_items import GetOptions, PutOptions, item_in
from dtt.cli.dht_lookup import LookupOptions
from dtt.cli.dht_peers import PeersOptions
from dtt.cli.dht_ping import PingOptions
from dtt.errors import LocalError, LookupFailed, UsageError
from dtt.identity import PeerKey
from dtt.krpc.bencode import encode
from dtt.krpc.items import immutable_target
from dtt.krpc.messages import Response
from tests.cli.common import FIRST, CommandTestCase, DHTTestCase

KEY = PeerKey.from_seed(b"\x01" * 32)


def made(options: Any, *arguments: str) -> Any:
    """Parse arguments."""
    options.parseOptions(list(arguments))
    return options


class LookupTests(DHTTestCase):
    """
    Tests for C{dtt dht lookup}.
    """

    def test_nodes(self) -> None:
        """Every node that answered is listed, nearest first, with its round trip."""
        target = self.nodes[5].node_id
        options = made(LookupOptions(), target.hex(), "--json")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        (line,) = self.printed()
        found = json.loads(line)
        self.assertEqual(found["target"], target.hex())
        self.assertGreaterEqual(len(found["nodes"]), 8)
        self.assertEqual(found["nodes"][0]["host"], "10.0.5.1")
        self.assertEqual(found["nodes"][0]["shared_bits"], 160)
        bits = [node["shared_bits"] for node in found["nodes"]]
        self.assertEqual(bits, sorted(bits, reverse=True))
        self.assertEqual(
            {node["id"] for node in found["nodes"]} - {n.node_id.hex() for n in self.nodes}, set()
        )
        self.assertTrue(all(0 <= node["ms"] < 5000 for node in found["nodes"]))

    def test_text(self) -> None:
        """As text there is a line for each node, and how many answered."""
        options = made(LookupOptions(), self.nodes[5].node_id.hex())
        self.result(options.ask(self.reactor, self.node))
        lines = self.printed()
        self.assertRegex(lines[0], r"^ +\d+ ms  160 bits  10\.0\.5\.1:6881  +[0-9a-f]{40}  DT \d")
        self.assertRegex(lines[-1], r"^\d+ of \d+ nodes answered within [\d.]+ s; nearest first$")

    def test_nobody(self) -> None:
        """If no node answers any longer, this is an error."""
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        options = made(LookupOptions(), "ab" * 20)
        self.assertIn("DHT nodes answered", self.failure(options.ask(self.reactor, self.node), LookupFailed))
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")


class ItemTests(DHTTestCase):
    """
    Tests for C{dtt dht get} and C{dtt dht put}.
    """

    def put(self, value: bytes, *arguments: str) -> dict[str, Any]:
        """Store an item."""
        path = Path(self.mktemp())
        path.write_bytes(value)
        options = made(PutOptions(), str(path), "--json", *arguments)
        options.value = options._read()
        options.key = KEY if "--key-file" in arguments else None
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        (line,) = self.printed()
        stored: dict[str, Any] = json.loads(line)
        self.assertEqual(stored["stored"], 8)
        return stored

    def test_immutable(self) -> None:
        """What was stored is found by its target."""
        stored = self.put(b"hello")
        self.assertEqual(stored["target"], immutable_target(b"5:hello").hex())
        options = made(GetOptions(), stored["target"])
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        lines = self.printed()
        self.assertEqual(lines[-1], "5 bytes: hello")
        self.assertEqual(sum(line.endswith("has it") for line in lines), 8)

    def test_mutable(self) -> None:
        """A mutable item is found by its key and salt, and by its target; the highest number counts."""
        for seq in (5, 7):
            stored = self.put(b"v%d" % seq, "--key-file", "x", "--salt", "s", "--seq", str(seq))
        self.assertEqual((stored["key"], stored["seq"]), (KEY.peer_id.hex(), 7))
        for arguments in ((stored["key"], "--salt", "s"), (stored["target"], "--salt", "s")):
            options = made(GetOptions(), *arguments, "--json")
            self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
            found = json.loads(self.printed()[0])
            self.assertEqual((bytes.fromhex(found["value"]), found["seq"]), (b"2:v7", 7))

    def test_nothing(self) -> None:
        """If there is nothing, the exit code says it."""
        options = made(GetOptions(), "ab" * 20)
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), NOT_FOUND)
        self.assertEqual(self.printed()[-1], "no node stores this item")

    def test_forged(self) -> None:
        """An item that is not what was asked for does not count."""

        def response(**values: Any) -> Response:
            return Response(b"t", bytes(20), {k.encode(): v for k, v in values.items()}, b"", None)

        target = immutable_target(b"1:a")
        self.assertEqual(item_in(response(v=b"a"), target, None, b"").value, b"a")  # type: ignore[union-attr]
        for forged in (
            response(),
            response(v=b"b"),
            response(v=b"a" * 2000),
            response(v=b"a", k=b"short"),
            response(v=b"a", k=KEY.peer_id, seq=1, sig=bytes(64)),
        ):
            item = item_in(forged, target, None, b"")
            self.assertTrue(item is None or item.encoded == b"1:a")
        self.assertIsNone(
            item_in(response(v=b"a", k=KEY.peer_id, seq=1, sig=bytes(64)), target, KEY.peer_id, b"")
        )

    def test_values(self) -> None:
        """A value is shown as text if it is text, without characters that control a terminal."""
        for value, shown in ((b"a\x1b[2J", "a\ufffd[2J"), (b"\xff", "ff"), ({b"a": 1}, "6431")):
            text = dht_items._shown_value(dht_items.Item(bytes(encode(value))))
            self.assertIn(shown, text)


class PeersTests(DHTTestCase):
    """
    Tests for C{dtt dht peers}.
    """

    def test_announce(self) -> None:
        """What was announced is found."""
        info_hash = "cd" * 20
        options = made(PeersOptions(), info_hash)
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), NOT_FOUND)
        options = made(PeersOptions(), info_hash, "--announce", "8080")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        self.printed()
        options = made(PeersOptions(), info_hash)
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        lines = self.printed()
        self.assertEqual(lines[-1], "10.1.1.1:8080")
        self.assertTrue(lines[0].endswith("1 peers"))


class PingTests(DHTTestCase):
    """
    Tests for C{dtt dht ping}.
    """

    def ping(self, *arguments: str) -> int:
        """Ping a node."""
        code: int = self.result(made(PingOptions(), *arguments)._ping(self.reactor))
        return code

    def test_answer(self) -> None:
        """A node that answers is shown with its id, and how it sees us."""
        self.assertEqual(self.ping(f"{FIRST}:6881", "--json"), 0)
        (line,) = self.printed()
        answer = json.loads(line)
        self.assertEqual((answer["answered"], answer["id"]), (True, self.nodes[0].node_id.hex()))
        self.assertTrue(answer["seen_as"].startswith("10.1.1.1:"))
        self.assertEqual(self.ping(f"{FIRST}:6881", "-c", "3"), 0)
        self.assertEqual(len(self.printed()), 3)

    def test_silence(self) -> None:
        """A node that is not there is an error."""
        self.assertEqual(self.ping("10.0.0.77:1"), 1)
        self.assertEqual(self.printed(), ["10.0.0.77:1 does not answer"])

    def test_name(self) -> None:
        """A name is resolved; one without an address is an error."""
        self.network.udp.names["router.example"] = [FIRST]
        self.assertEqual(self.ping("router.example:6881"), 0)
        options = made(PingOptions(), "nowhere.example:1")
        self.assertIn("no address", self.failure(options._ping(self.reactor), LocalError))

    def test_cancelled(self) -> None:
        """Ctrl-C closes the port."""
        running = Deferred.fromCoroutine(made(PingOptions(), "10.0.0.77:1")._ping(self.reactor))
        before = self.network.listening()
        running.cancel()
        self.network.advance(1)
        self.failureResultOf(running)
        self.assertLess(len(self.network.listening()), len(before))


class ArgumentTests(CommandTestCase):
    """
    Tests for wrong arguments.
    """

    def test_wrong(self) -> None:
        """Each is one line and exit code 2."""
        for words in (
            "dht ping",
            "dht ping x",
            "dht ping x:0",
            "dht ping 1.2.3.4:99999",
            "dht ping 1.2.3.4:1 2.3.4.5:1",
            "dht ping 1.2.3.4:1 --count 0",
            "dht lookup xyz",
            "dht lookup " + "ab" * 19,
            "dht lookup " + "ab" * 20 + " x",
            "dht get",
            "dht get " + "ab" * 21,
            "dht get " + "ab" * 20 + " --raw --json",
            "dht get " + "ab" * 20 + " --salt " + "x" * 65,
            "dht put",
            "dht put - --salt x",
            "dht put - --seq 1",
            "dht peers",
            "dht peers " + "ab" * 20 + " --announce 70000",
            "dht peers " + "ab" * 20 + " --bootstrap x:0",
            "dht peers " + "ab" * 20 + " --timeout -1",
            "testnet 1",
            "testnet x",
            "testnet 5 6",
            "testnet 5 --port x",
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(words.split()), 2, words)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+\n\Z", words)

    def test_files(self) -> None:
        """A file that can't be read, or is too large, is one line."""
        large = Path(self.mktemp())
        large.write_bytes(b"x" * 997)
        for path, code in (("nowhere", 1), (str(large), 2), (os.curdir, 1)):
            self.assertEqual(run(["dht", "put", path]), code)

    def test_standard_input(self) -> None:
        """Standard input is a file, too."""
        options = made(PutOptions(), "-")
        self.patch(dht_items, "standard_input", lambda: io.BytesIO(b"value"))
        self.assertEqual(options._read(), b"value")

    def test_texts(self) -> None:
        """Ids, addresses and versions."""
        self.assertEqual(parse_id("X", "ab" * 20), b"\xab" * 20)
        for wrong in ("", "ab", "xy" * 20, "ab " * 20, "ab" * 32):
            self.assertRaises(UsageError, parse_id, "X", wrong)
        self.assertEqual(shared_bits(bytes(20), bytes(20)), 160)
        self.assertEqual(shared_bits(b"\x80" + bytes(19), bytes(20)), 0)
        self.assertEqual((shown_address("1.2.3.4", 5), shown_address("::1", 5)), ("1.2.3.4:5", "[::1]:5"))
        self.assertEqual(
            [shown_version(v) for v in (b"LT\x02\x00", b"", b"\x00\x01")], ["LT 2.0", "", "0001"]
        )

    def test_two_targets(self) -> None:
        """There is exactly one target."""
        self.assertRaises(usage.UsageError, made, GetOptions(), "ab" * 20, "cd" * 20)
