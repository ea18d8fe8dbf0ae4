"""
The wire by hand: C{dtt slot}, C{dtt open} and C{dtt seal}.

Each prints one line of JSON with all binary values in hex.  C{dtt seal} prints
what C{dtt open} reads; C{--raw} writes the bytes that lie in the DHT instead.
Secrets come from files or stdin, never from the command line.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import time
from typing import Any, TextIO

from dtt.app.options import CommandOptions
from dtt.errors import DecodeError, RecordRefused, StateError, UsageError
from dtt.records.hpke import KeyPair
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt, open_record
from dtt.records.topic import Slot, TopicId, check_minute, encryption_key, initial_secret_hash, unix_minute
from dtt.state import load_key, read_secret
from dtt.wire.addresses import IROH, MAX_ADDRESSES, STREAMS, PeerAddress

_TRANSPORTS = {"streams": STREAMS, "iroh": IROH}
_TRANSPORT_NAMES = {number: name for name, number in _TRANSPORTS.items()}

# The largest encrypted record is 2140 bytes; in hex and JSON, with room for
# white space, far less than this (guess).
_MAX_INPUT_BYTES = 65536

_TOPIC = ["topic", None, None, "The topic's name, or hex: and 64 digits for a ready hash."]
_SECRET = ["secret-file", None, None, "File with the secret, or - for stdin; without it the secret is empty."]
_MINUTE = ["minute", None, None, "The unix minute; without it, the present one."]
_KEY_FILE = ["key-file", None, None, "The publisher's key file: 64 hexadecimal digits, mode 0600."]
_RAW = ["raw", None, "Write the bytes of the encrypted record instead of JSON."]


def _parse_hash(option: str, text: str) -> bytes:
    try:
        if len(text) == 64:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise UsageError(f"--{option} takes 64 hexadecimal digits, not {text[:80]!r}")


def _parse_address(text: str) -> PeerAddress:
    transport, _, place = text.partition(":")
    host, _, port = place.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if transport in _TRANSPORTS and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return PeerAddress(_TRANSPORTS[transport], str(ip), int(port))
    except ValueError:
        pass
    raise UsageError(
        f"--address takes streams:IP:PORT or iroh:IP:PORT with IPv6 in brackets, not {text[:80]!r}"
    )


def _format_address(address: PeerAddress) -> str:
    return f"{_TRANSPORT_NAMES[address.transport]}:{address}"


def _parse_stored(data: bytes) -> bytes:
    """
    The encrypted record that C{data} is: raw, in hex, or as C{dtt seal} prints
    it.  No raw one can be mistaken for text: the third and fourth byte of its
    length are zero.
    """
    text = data.strip()
    if text.startswith(b"{"):
        try:
            text = json.loads(text)["record"].encode("ascii")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return data
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return data


class _WireOptions(CommandOptions):
    """
    What the three commands share.

    @ivar stdin: read through its C{buffer}.
    @ivar stdout: where JSON goes; bytes go to its C{buffer}.
    """

    # Twisted adds a subclass's own to these.
    optParameters: list[list[Any]] = [_TOPIC, _MINUTE]

    def __init__(self) -> None:
        super().__init__()
        self.stdin: TextIO = sys.stdin
        self.stdout: TextIO = sys.stdout

    def postOptions(self) -> None:
        if self["topic"] is None:
            raise UsageError("--topic is missing")

    def now(self) -> float:
        """
        Unix time in seconds.
        """
        return time.time()

    def slot(self) -> Slot:
        """
        The slot that --topic and --minute name.
        """
        topic_id = TopicId.parse(self["topic"])
        text = self["minute"]
        if text is None:
            return Slot(topic_id, unix_minute(self.now()))
        # Longer ones can't be in range, and int() refuses thousands of digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise UsageError(f"--minute takes a unix minute, 0..2^64-1, not {text[:80]!r}")
        return Slot(topic_id, check_minute(int(text)))

    def encryption_key(self, slot: Slot) -> KeyPair:
        """
        The key of C{slot} under the secret that --secret-file names.
        """
        name = self["secret-file"]
        secret = b"" if name is None else read_secret(name, self.stdin.buffer)
        return encryption_key(slot, initial_secret_hash(secret))

    def show(self, **values: object) -> None:
        """
        Print C{values} as one line of JSON.
        """
        print(json.dumps(values), file=self.stdout, flush=True)


class SlotOptions(_WireOptions):
    """
    C{dtt slot}: where a topic's records of one minute lie.
    """

    synopsis = "--topic TOPIC [--minute N]"
    longdesc = "Prints topic_id, unix_minute, public_key, salt and target of a topic's slot as JSON."

    def run(self) -> int:
        """
        Print the slot.

        @return: the exit code.
        """
        slot = self.slot()
        self.show(
            topic_id=slot.topic_id.hex(),
            unix_minute=slot.minute,
            public_key=slot.public_key.hex(),
            salt=slot.salt.hex(),
            target=slot.target.hex(),
        )
        return 0


class OpenOptions(_WireOptions):
    """
    C{dtt open}: what an encrypted record says.
    """

    optParameters = [_SECRET]
    synopsis = "--topic TOPIC [--secret-file FILE] [--minute N] FILE|-"
    longdesc = (
        "Reads an encrypted record (raw, hex, or the JSON of dtt seal) and prints publisher, unix_minute, "
        "active_peers, last_message_hashes and addresses as JSON; for an application's record with content "
        "of its own, content instead of the last three. A record that can't be used prints "
        '{"refused": "parse" | "decrypt" | "verify"} and exits with 1.'
    )

    def parseArgs(self, *files: str) -> None:
        if len(files) != 1:
            raise UsageError(f"open takes one FILE (or - for stdin), not {len(files)}")
        (self["file"],) = files

    def postOptions(self) -> None:
        super().postOptions()
        if self["file"] == "-" and self["secret-file"] == "-":
            raise UsageError("the record and the secret can't both come from stdin")

    def _read_record(self) -> bytes:
        if self["file"] == "-":
            return _parse_stored(self.stdin.buffer.read(_MAX_INPUT_BYTES))
        try:
            with open(self["file"], "rb") as file:
                return _parse_stored(file.read(_MAX_INPUT_BYTES))
        except OSError as error:
            raise StateError(f"can't read {self['file']}: {error.strerror}") from error

    def run(self) -> int:
        """
        Print what the record says.

        @return: the exit code; 1 if it is refused.
        """
        slot = self.slot()
        key = self.encryption_key(slot)
        try:
            record = open_record(self._read_record(), slot, key)
        except RecordRefused as refusal:
            self.show(refused=refusal.stage)
            return 1
        try:
            content = GossipContent.decode(record.content)
        except DecodeError:
            said: dict[str, object] = {"content": record.content.hex()}
        else:
            said = {
                "active_peers": [peer.hex() for peer in content.active_peers],
                "last_message_hashes": [digest.hex() for digest in content.last_message_hashes],
                "addresses": [_format_address(address) for address in content.addresses],
            }
        self.show(publisher=record.publisher.hex(), unix_minute=record.minute, **said)
        return 0


class SealOptions(_WireOptions):
    """
    C{dtt seal}: an encrypted record, signed by the key of a key file.
    """

    optParameters = [_SECRET, _KEY_FILE]
    optFlags = [_RAW]
    synopsis = (
        "--topic TOPIC --key-file FILE [--secret-file FILE] [--minute N] "
        "[--active-peer HEX]... [--message-hash HEX]... [--address streams:IP:PORT]... [--raw]"
    )
    longdesc = "Prints publisher, unix_minute and record (hex) as JSON; dtt open reads it."

    def __init__(self) -> None:
        super().__init__()
        self.active_peers: list[bytes] = []
        self.message_hashes: list[bytes] = []
        self.addresses: list[PeerAddress] = []

    def opt_active_peer(self, value: str) -> None:
        """
        A neighbour's peer id, 64 hexadecimal digits; up to 5 times.
        """
        self.active_peers.append(_parse_hash("active-peer", value))

    def opt_message_hash(self, value: str) -> None:
        """
        The hash of a message received, 64 hexadecimal digits; up to 5 times, oldest first.
        """
        self.message_hashes.append(_parse_hash("message-hash", value))

    def opt_address(self, value: str) -> None:
        """
        Where the publisher listens, streams:IP:PORT; up to 8 times.
        """
        self.addresses.append(_parse_address(value))

    def postOptions(self) -> None:
        super().postOptions()
        if self["key-file"] is None:
            raise UsageError("--key-file is missing")
        if len(self.addresses) > MAX_ADDRESSES:
            raise UsageError(f"a record has room for {MAX_ADDRESSES} addresses, not {len(self.addresses)}")
        content = GossipContent(tuple(self.active_peers), tuple(self.message_hashes), tuple(self.addresses))
        self.content = content.encode()

    def run(self) -> int:
        """
        Print the encrypted record.

        @return: the exit code.
        """
        slot = self.slot()
        record = Record.sign(load_key(self["key-file"]), slot, self.content)
        stored = encrypt(record, self.encryption_key(slot).public, os.urandom(ENTROPY_BYTES))
        if self["raw"]:
            self.stdout.buffer.write(stored)
            self.stdout.buffer.flush()
        else:
            self.show(publisher=record.publisher.hex(), unix_minute=record.minute, record=stored.hex())
        return 0
