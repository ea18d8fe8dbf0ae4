"""
C{dtt slot}, C{dtt open} and C{dtt seal}: slots and records by hand.

Each prints one line of JSON with all binary values in hex.  C{dtt open} reads what
C{dtt seal} prints; C{dtt seal --raw} writes the bytes that are stored in the DHT
instead.  Secrets come from files or standard input, never from the command line.
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

# The largest encrypted record is 2140 bytes; as hex in JSON, with white space, it is
# far smaller than this (guess).
_MAX_INPUT_BYTES = 65536

_TOPIC = ["topic", None, None, "Topic: a name, or hex: and the 64 hexadecimal digits of a topic id."]
_SECRET = ["secret-file", None, None, "File with the secret, or - for stdin. Default: the empty secret."]
_MINUTE = ["minute", None, None, "Unix minute. Default: the current one."]
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
        f"--address takes streams:IP:PORT or iroh:IP:PORT, with IPv6 in brackets, not {text[:80]!r}"
    )


def _format_address(address: PeerAddress) -> str:
    return f"{_TRANSPORT_NAMES[address.transport]}:{address}"


def _parse_stored(data: bytes) -> bytes:
    """
    Decode an encrypted record from raw bytes, from hex, or from the output of
    C{dtt seal}.  A raw record can't be mistaken for text, because the third and
    fourth byte of its length are zero.
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
    The common base of the three commands.

    @ivar stdin: standard input; read through its C{buffer}.
    @ivar stdout: standard output: JSON is printed to it, bytes to its C{buffer}.
    """

    # Twisted adds the parameters of subclasses to these.
    optParameters: list[list[Any]] = [_TOPIC, _MINUTE]

    def __init__(self) -> None:
        super().__init__()
        self.stdin: TextIO = sys.stdin
        self.stdout: TextIO = sys.stdout

    def postOptions(self) -> None:
        """
        Check that there is a topic.

        @raise UsageError: there is none.
        """
        if self["topic"] is None:
            raise UsageError("--topic is required")

    def now(self) -> float:
        """
        Return the current unix time in seconds.
        """
        return time.time()

    def slot(self) -> Slot:
        """
        Return the slot of --topic and --minute.

        @raise UsageError: one of them is invalid.
        """
        topic_id = TopicId.parse(self["topic"])
        text = self["minute"]
        if text is None:
            return Slot(topic_id, unix_minute(self.now()))
        # More digits are out of range, and int() rejects thousands of digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise UsageError(f"--minute takes a unix minute, 0..2^64-1, not {text[:80]!r}")
        return Slot(topic_id, check_minute(int(text)))

    def encryption_key(self, slot: Slot) -> KeyPair:
        """
        Return the encryption key of C{slot} for the secret of --secret-file.

        @raise StateError: the file can't be read, or is accessible to other users.
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
    The options of C{dtt slot}, which prints the slot of a topic and a minute.
    """

    synopsis = "--topic TOPIC [--minute N]"
    longdesc = "Prints topic_id, unix_minute, public_key, salt and target of the topic's slot as JSON."

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
    The options of C{dtt open}, which decrypts and verifies a record.
    """

    optParameters = [_SECRET]
    synopsis = "--topic TOPIC [--secret-file FILE] [--minute N] FILE|-"
    longdesc = (
        "Reads an encrypted record (raw, hex, or the JSON of dtt seal) and prints publisher, unix_minute, "
        "active_peers, last_message_hashes and addresses as JSON; for a record with application-specific "
        "content, it prints content instead of the last three. For an invalid record, it prints "
        '{"refused": "parse" | "decrypt" | "verify"} and exits with 1.'
    )

    def parseArgs(self, *files: str) -> None:
        """
        Take the file.

        @raise UsageError: there is not exactly one.
        """
        if len(files) != 1:
            raise UsageError(f"open takes one FILE (or - for stdin), not {len(files)}")
        (self["file"],) = files

    def postOptions(self) -> None:
        """
        Check that at most one of record and secret comes from standard input.

        @raise UsageError: both do, or the topic is missing.
        """
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
        Print the content of the record.

        @return: the exit code; 1 if the record is invalid.
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
            fields: dict[str, object] = {"content": record.content.hex()}
        else:
            fields = {
                "active_peers": [peer.hex() for peer in content.active_peers],
                "last_message_hashes": [digest.hex() for digest in content.last_message_hashes],
                "addresses": [_format_address(address) for address in content.addresses],
            }
        self.show(publisher=record.publisher.hex(), unix_minute=record.minute, **fields)
        return 0


class SealOptions(_WireOptions):
    """
    The options of C{dtt seal}, which signs and encrypts a record.
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
        Peer id of a neighbour, 64 hexadecimal digits; may be repeated up to 5 times.
        """
        self.active_peers.append(_parse_hash("active-peer", value))

    def opt_message_hash(self, value: str) -> None:
        """
        Hash of a received message, 64 hexadecimal digits; may be repeated up to 5 times, oldest first.
        """
        self.message_hashes.append(_parse_hash("message-hash", value))

    def opt_address(self, value: str) -> None:
        """
        Address on which the publisher listens, streams:IP:PORT or iroh:IP:PORT; may be repeated up to
        8 times.
        """
        self.addresses.append(_parse_address(value))

    def postOptions(self) -> None:
        """
        Encode the content of the record.

        @raise UsageError: the topic or the key file is missing, or there are too
            many entries.
        """
        super().postOptions()
        if self["key-file"] is None:
            raise UsageError("--key-file is required")
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
