"""
Tests for L{dtt.cli.dht_items}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.python import usage

from dtt.cli import dht_items
from dtt.cli.commands import NOT_FOUND, run
from dtt.cli.dht_items import GetOptions, Item, PutOptions, item_in
from dtt.errors import LookupFailed
from dtt.identity import PeerKey
from dtt.krpc.bencode import encode
from dtt.krpc.items import immutable_target, mutable_target, signature_buffer
from dtt.krpc.messages import Response
from tests.cli.common import CommandTestCase, DHTTestCase, made

KEY = PeerKey.from_seed(b"\x01" * 32)


def signed(salt: bytes, **changed: Any) -> Response:
    """A response with an item of C{KEY}, or with some of its values changed."""
    sig = KEY.sign(signature_buffer(salt, 5, b"1:v"))
    values: dict[bytes, Any] = {b"k": KEY.peer_id, b"seq": 5, b"sig": sig, b"v": b"v"}
    return Response(b"t", bytes(20), {**values, **{k.encode(): v for k, v in changed.items()}}, b"", None)


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

    def test_mutable_of_an_unknown_key(self) -> None:
        """The key that a node names counts if the target is its own, and the signature is good."""
        target = mutable_target(KEY.peer_id, b"s")
        good = signed(b"s")
        self.assertEqual(item_in(good, target, None, b"s"), Item(b"1:v", 5))
        self.assertEqual(item_in(good, target, KEY.peer_id, b"s"), Item(b"1:v", 5))
        other = PeerKey.from_seed(b"\x02" * 32).peer_id
        for response, key, salt in (
            (good, None, b"t"),
            (good, other, b"s"),
            (signed(b"s", k=other), None, b"s"),
            (signed(b"s", seq=6), None, b"s"),
            (signed(b"s", seq=2**63), KEY.peer_id, b"s"),
            (signed(b"s", seq=b"5"), KEY.peer_id, b"s"),
            (signed(b"s", sig=bytes(64)), None, b"s"),
            (signed(b"s", sig=b"short"), None, b"s"),
            (signed(b"s", v=b"other"), None, b"s"),
        ):
            self.assertIsNone(item_in(response, target, key, salt))

    def test_raw(self) -> None:
        """--raw writes only the bytes of the value, without a newline; if there is none, nothing."""
        stored = self.put(b"a\xff\n\0")
        raw = io.BytesIO()
        self.patch(sys, "stdout", io.TextIOWrapper(raw, "utf-8"))
        for target, code, written in (("ab" * 20, NOT_FOUND, b""), (stored["target"], 0, b"a\xff\n\0")):
            options = made(GetOptions(), target, "--raw")
            self.assertEqual(self.result(options.ask(self.reactor, self.node)), code)
            self.assertEqual(raw.getvalue(), written)

    def test_something_else(self) -> None:
        """A node that answers with another item is shown, but the item is not."""
        node = self.node_that_asks({b"token": b"t", b"v": b"junk"})
        options = made(GetOptions(), immutable_target(b"5:hello").hex())
        self.assertEqual(self.result(options.ask(self.reactor, node)), NOT_FOUND)
        lines = self.printed()
        self.assertTrue(lines[0].endswith("  something else"), lines[0])
        self.assertEqual(lines[-1], "no node stores this item")

    def test_put_in_vain(self) -> None:
        """If no node stores the item, or none in time, this is one line."""
        path = Path(self.mktemp())
        path.write_bytes(b"x")
        options = made(PutOptions(), str(path), "--timeout", "1")
        options.value, options.key = b"x", None
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        message = self.failure(options.ask(self.reactor, self.node), LookupFailed)
        self.assertEqual(message, "the item was not stored within 1 s")
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_values(self) -> None:
        """A value is shown as text if it is text, without characters that control a terminal."""
        for value, shown in ((b"a\x1b[2J", "a\ufffd[2J"), (b"\xff", "ff"), ({b"a": 1}, "6431")):
            text = dht_items._shown_value(dht_items.Item(bytes(encode(value))))
            self.assertIn(shown, text)


class FileTests(CommandTestCase):
    """
    Tests for the file of C{dtt dht put}.
    """

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

    def test_two_targets(self) -> None:
        """There is exactly one target."""
        self.assertRaises(usage.UsageError, made, GetOptions(), "ab" * 20, "cd" * 20)
