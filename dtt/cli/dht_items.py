"""
C{dtt dht get} and C{dtt dht put}: items in the DHT (BEP44), immutable and mutable.
"""

from __future__ import annotations

import json
import time
from typing import Any

from attrs import frozen
from twisted.internet.defer import TimeoutError

from dtt.app.options import naming, standard_input
from dtt.app.usage import exactly_one, path_name, value_of, whole_number
from dtt.cli.commands import NOT_FOUND
from dtt.cli.complaints import print_line
from dtt.cli.dht import Answer, DHTCommand, parse_id, stored_lines
from dtt.cli.lines import printable
from dtt.dht.client.lookup import Question
from dtt.dht.node import DHTNode
from dtt.errors import DecodeError, LookupFailed, StateError, UsageError
from dtt.files import reason_of, shown
from dtt.krpc import bencode
from dtt.krpc.items import MAX_SALT_SIZE, immutable_target, mutable_target, read_item
from dtt.krpc.messages import Response
from dtt.state import load_key

#: The maximum size of a value in bytes: a bencoded value has at most 1000 (BEP44).
MAX_VALUE = 996

_SALT = ["salt", None, "", "Salt of a mutable item, as text."]


def _salt(text: str) -> bytes:
    salt = text.encode("utf-8", "surrogateescape")
    if len(salt) > MAX_SALT_SIZE:
        raise UsageError(f"--salt: {len(salt)} bytes; the maximum is {MAX_SALT_SIZE}")
    return salt


@frozen(slots=True)
class Item:
    """
    An item that a node returned, verified.

    @ivar encoded: the bencoded value.
    @ivar seq: the sequence number; -1 for an immutable item.
    """

    encoded: bytes
    seq: int = -1

    @property
    def value(self) -> Any:
        """
        The value.
        """
        return bencode.decode_message(self.encoded)


def item_in(response: Response, target: bytes, key: bytes | None, salt: bytes) -> Item | None:
    """
    Return the requested item in a response; C{None} if there is none.

    @param target: the target, 20 bytes.
    @param key: the public key of a mutable item, 32 bytes; C{None}: unknown, or the item
        is immutable.
    @param salt: the salt of a mutable item.
    """
    values = response.values
    if b"v" not in values:
        return None
    try:
        claimed = values.get(b"k") if key is None else key
        if type(claimed) is bytes and len(claimed) == 32 and mutable_target(claimed, salt) == target:
            item = read_item(values, claimed, salt)
            return None if item is None else Item(bytes(item.encoded), item.seq)
        encoded = bytes(bencode.encode(values[b"v"]))
    except (DecodeError, ValueError, TypeError):
        return None
    return Item(encoded) if key is None and immutable_target(encoded) == target else None


class GetOptions(DHTCommand):
    """
    The options of C{dtt dht get}.
    """

    synopsis = "[options] TARGET|KEY"
    longdesc = (
        "Gets an item: TARGET is 40 hexadecimal digits, the SHA-1 of an immutable item or of key and "
        "salt; KEY "
        "is the public key of a mutable one, 64 digits. Prints every node that answered, with its value, "
        "and then the item. Values are verified. Exits with 3 if there is none."
    )
    optFlags = [["raw", None, "Write only the bytes of the value."]]
    optParameters = [_SALT]
    placeholders = {"salt": "TEXT"}

    def parseArgs(self, *ids: str) -> None:
        """
        Take the target or the key.

        @raise usage.UsageError: there is not exactly one.
        """
        given = exactly_one("dht get", "TARGET or KEY", ids)
        self["id"] = parse_id("TARGET or KEY", given, (20, 32))

    def postOptions(self) -> None:
        """
        Check the salt.

        @raise UsageError: it is too long, or there are contradicting options.
        """
        self["salt"] = _salt(self["salt"])
        if self["raw"] and self["json"]:
            raise UsageError("give --raw or --json, not both")

    async def ask(self, reactor: Any, node: DHTNode) -> int:
        """
        Get the item.

        @return: the exit code.
        """
        given, salt = self["id"], self["salt"]
        key = given if len(given) == 32 else None
        target = given if key is None else mutable_target(key, salt)
        question = Question(target, b"get", {b"target": target})
        trace = await self.trace(reactor, node, question)
        items = {id(each): item_in(each.response, target, key, salt) for each in trace.answers}
        found = [item for item in items.values() if item is not None]
        best = max(found, key=lambda item: item.seq, default=None)

        def note(answer: Answer) -> str:
            item = items[id(answer)]
            if item is None:
                return "something else" if b"v" in answer.response.values else ""
            return f"seq {item.seq}" if item.seq >= 0 else "has it"

        if self["raw"]:
            if best is not None:
                _write_raw(best.value)
            return 0 if best is not None else NOT_FOUND
        value: dict[str, object] = {**trace.as_json(), "holders": len(found)}
        lines = trace.lines(self.width(), note)
        if best is not None:
            value["value"] = best.encoded.hex()
            if best.seq >= 0:
                value["seq"] = best.seq
            lines.append(_shown_value(best))
        else:
            lines.append("no node stores this item")
        self.show(value, lines)
        return 0 if best is not None else NOT_FOUND


def _write_raw(value: Any) -> None:
    import sys

    data = value if isinstance(value, bytes) else bencode.encode(value)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _shown_value(item: Item) -> str:
    value = item.value
    if isinstance(value, bytes):
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            return f"{len(value)} bytes: {value.hex()}"
        shown_text = printable(text.rstrip("\n"))
        return f"{len(value)} bytes: {shown_text}"
    return f"bencoded: {item.encoded.hex()}"


class PutOptions(DHTCommand):
    """
    The options of C{dtt dht put}.
    """

    synopsis = "[options] FILE|-"
    longdesc = (
        "Stores the content of FILE (- is standard input), at most 996 bytes, as an immutable item; with "
        "--key-file as a mutable one. Prints the target or the public key, which is the argument of dtt dht "
        "get. DHT nodes forget items after two hours."
    )
    optParameters = [
        [
            "key-file",
            None,
            None,
            "Key of a mutable item: 64 hexadecimal digits, mode 0600.",
            value_of("key-file", path_name),
        ],
        _SALT,
        [
            "seq",
            None,
            None,
            "Sequence number of a mutable item. Default: the current unix time.",
            value_of("seq", whole_number(0, 2**63 - 1)),
        ],
    ]
    placeholders = {"salt": "TEXT", "seq": "N"}

    def parseArgs(self, *files: str) -> None:
        """
        Take the file.

        @raise usage.UsageError: there is not exactly one.
        """
        self["file"] = exactly_one("dht put", "FILE (or - for standard input)", files)

    def postOptions(self) -> None:
        """
        Check the options of mutable items.

        @raise UsageError: they are given for an immutable item.
        """
        self["salt"] = _salt(self["salt"])
        if self["key-file"] is None and (self["salt"] or self["seq"] is not None):
            raise UsageError("--salt and --seq need --key-file")

    def run(self) -> int:
        """
        Store the item.

        @return: the exit code.
        @raise StateError: the file can't be read.
        @raise UsageError: it is too large.
        """
        self.value = self._read()
        self.key = None
        if self["key-file"] is not None:
            with naming("--key-file"):
                self.key = load_key(self["key-file"])
        return super().run()

    def _read(self) -> bytes:
        try:
            if self["file"] == "-":
                stdin = standard_input()
                data = b"" if stdin is None else stdin.read(MAX_VALUE + 1)
            else:
                with open(self["file"], "rb") as file:
                    data = file.read(MAX_VALUE + 1)
        except OSError as error:
            name = "standard input" if self["file"] == "-" else shown(self["file"])
            raise StateError(f"can't read {name}: {reason_of(error)}") from None
        if len(data) > MAX_VALUE:
            raise UsageError(f"an item has at most {MAX_VALUE} bytes")
        return data

    async def ask(self, reactor: Any, node: DHTNode) -> int:
        """
        Store the item.

        @return: the exit code.
        @raise LookupFailed: no node stored it.
        """
        if self.key is None:
            encoded = bytes(bencode.encode(self.value))
            target, fields = immutable_target(encoded), {}
            putting = node.put_immutable(encoded)
        else:
            seq = int(time.time()) if self["seq"] is None else self["seq"]
            target = mutable_target(self.key.peer_id, self["salt"])
            fields = {"key": self.key.peer_id.hex(), "seq": seq}
            putting = node.put_latest(self.key.seed, self.value, seq, self["salt"])
        try:
            result = await putting.addTimeout(self["timeout"], reactor)
        except TimeoutError:
            raise LookupFailed(f"the item was not stored within {self['timeout']:g} s") from None
        stored = len(result.stored) + len(result.acknowledged)
        if self["json"]:
            print_line(json.dumps({"target": target.hex(), **fields, "stored": stored}))
        else:
            name = fields.get("key", target.hex())
            print_line("\n".join([str(name), *stored_lines(result)]))
        if not stored:
            raise LookupFailed("no DHT node stored the item")
        return 0
