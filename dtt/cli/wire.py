"""
C{dtt slot}, C{dtt open} and C{dtt seal}: show a slot, open a record, create a record.

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

from dtt.app.options import naming, topic_to_join
from dtt.app.tickets import read_tickets
from dtt.app.usage import CommandOptions, exactly_one, path_name, value_of
from dtt.errors import DecodeError, RecordRefused, StateError, UsageError
from dtt.net.host_port import parse_host_port
from dtt.records.hpke import KeyPair
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt, open_record
from dtt.records.ticket import Ticket
from dtt.records.topic import (
    Slot,
    check_minute,
    encryption_key,
    initial_secret_hash,
    secret_code,
    unix_minute,
)
from dtt.state import load_key, read_secret, unusual_in
from dtt.wire.addresses import MAX_ADDRESSES, TRANSPORT_NAMES, TRANSPORT_NUMBERS, PeerAddress

# The largest encrypted record is 2140 bytes; as hex in JSON, with white space, it is
# far smaller than this (guess).
_MAX_INPUT_BYTES = 65536

_TOPIC = ["topic", None, None, "Topic: a name, or hex: and the 64 hexadecimal digits of a topic id."]
_SECRET = [
    "secret-file",
    None,
    None,
    "File with the secret, or - for stdin. Default: the empty secret.",
    value_of("secret-file", path_name),
]
_TICKET = [
    "ticket-file",
    None,
    None,
    "File with a ticket, or - to be asked for it, instead of --topic and --secret-file.",
    value_of("ticket-file", path_name),
]
_MINUTE = ["minute", None, None, "Unix minute. Default: the current one."]
_KEY_FILE = [
    "key-file",
    None,
    None,
    "The publisher's key file: 64 hexadecimal digits, mode 0600.",
    value_of("key-file", path_name),
]
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
    try:
        host, port = parse_host_port(place)
        ip = ipaddress.ip_address(host)
        # A zone is meaningful on this machine only.
        if transport in TRANSPORT_NUMBERS and port and "%" not in host:
            return PeerAddress(TRANSPORT_NUMBERS[transport], str(ip), port)
    except ValueError:
        pass
    raise UsageError(
        "--address takes streams:IP:PORT, quic:IP:PORT or iroh:IP:PORT, with IPv6 in brackets, "
        f"not {text[:80]!r}"
    )


def _format_address(address: PeerAddress) -> str:
    return f"{TRANSPORT_NAMES[address.transport]}:{address}"


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
    optParameters: list[list[Any]] = [_TOPIC, _TICKET, _MINUTE]

    def __init__(self) -> None:
        super().__init__()
        self.stdin: TextIO = sys.stdin
        self.stdout: TextIO = sys.stdout
        self._ticket: Ticket | None = None

    def postOptions(self) -> None:
        """
        Check that there is a topic.

        @raise UsageError: there is none.
        """
        if self["ticket-file"] is None:
            if self["topic"] is None:
                raise UsageError("--ticket-file or --topic is required")
        elif self["topic"] is not None or self["secret-file"] is not None:
            raise UsageError(
                "--ticket-file: a ticket has the topic and the secret; give no --topic or --secret-file"
            )

    def ticket(self) -> Ticket | None:
        """
        Return the first ticket of --ticket-file; C{None} without that option.

        @raise StateError: the file can't be read, or is accessible to other users.
        @raise UsageError: there is no ticket in it, or it is damaged.
        """
        if self._ticket is None and self["ticket-file"] is not None:
            with naming("--ticket-file"):
                self._ticket = read_tickets(self["ticket-file"])[0]
        return self._ticket

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
        ticket = self.ticket()
        topic_id = topic_to_join(self["topic"]) if ticket is None else ticket.topic_id
        text = self["minute"]
        if text is None:
            return Slot(topic_id, unix_minute(self.now()))
        # More digits are out of range, and int() rejects thousands of digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise UsageError(f"--minute takes a unix minute, 0..2^64-1, not {text[:80]!r}")
        return Slot(topic_id, check_minute(int(text)))

    def read_secret(self) -> bytes:
        """
        Return the secret of the ticket or of --secret-file; without these, the empty one.

        @raise StateError: the file can't be read, or is accessible to other users.
        """
        ticket, name = self.ticket(), self["secret-file"]
        if ticket is not None:
            return ticket.secret
        if name is None:
            return b""
        with naming("--secret-file"):
            secret = read_secret(name, None if self.stdin is None else self.stdin.buffer)
        if unusual := unusual_in(secret):
            print(f"dtt: --secret-file: the secret {unusual}, which is part of it", file=sys.stderr)
        return secret

    def encryption_key(self, slot: Slot) -> KeyPair:
        """
        Return the encryption key of C{slot} for the secret of --secret-file.

        @raise StateError: the file can't be read, or is accessible to other users.
        """
        return encryption_key(slot, initial_secret_hash(self.read_secret()))

    def show(self, **values: object) -> None:
        """
        Print C{values} as one line of JSON.
        """
        print(json.dumps(values), file=self.stdout, flush=True)


class SlotOptions(_WireOptions):
    """
    The options of C{dtt slot}, which prints the slot of a topic and a minute.
    """

    optParameters = [_SECRET]
    synopsis = "--ticket-file FILE | --topic TOPIC [--secret-file FILE] [--minute N]"
    longdesc = (
        "Prints topic_id, unix_minute, public_key, salt and target of the topic's slot as JSON. With "
        "--secret-file or a ticket, it also prints secret_code: six digits that two members compare "
        "to check whether "
        "they have the same secret. The digits change each hour."
    )

    def run(self) -> int:
        """
        Print the slot.

        @return: the exit code.
        """
        slot = self.slot()
        fields: dict[str, object] = {
            "topic_id": slot.topic_id.hex(),
            "unix_minute": slot.minute,
            "public_key": slot.public_key.hex(),
            "salt": slot.salt.hex(),
            "target": slot.target.hex(),
        }
        if self["secret-file"] is not None or self["ticket-file"] is not None:
            fields["secret_code"] = secret_code(slot, self.read_secret())
        self.show(**fields)
        return 0


class OpenOptions(_WireOptions):
    """
    The options of C{dtt open}, which decrypts and verifies a record.
    """

    optParameters = [_SECRET]
    synopsis = "--ticket-file FILE | --topic TOPIC [--secret-file FILE] [--minute N] FILE|-"
    longdesc = (
        "Reads an encrypted record (raw, hex, or the JSON of dtt seal) and prints publisher, unix_minute, "
        "active_peers, last_message_hashes and addresses as JSON; for a record with application-specific "
        "content, it prints content instead of the last three. For an invalid record, it prints "
        '{"refused": "parse" | "decrypt" | "verify"} and exits with 1.'
    )

    def parseArgs(self, *files: str) -> None:
        """
        Take the file.

        @raise usage.UsageError: there is not exactly one.
        """
        self["file"] = exactly_one("open", "FILE (or - for standard input)", files)

    def postOptions(self) -> None:
        """
        Check that at most one of record and secret comes from standard input.

        @raise UsageError: both do, or the topic is missing.
        """
        super().postOptions()
        if self["file"] == "-" and "-" in (self["secret-file"], self["ticket-file"]):
            raise UsageError("the record and the secret can't both come from stdin")

    def _read_record(self) -> bytes:
        try:
            if self["file"] == "-":
                return _parse_stored(self.stdin.buffer.read(_MAX_INPUT_BYTES))
            with open(self["file"], "rb") as file:
                return _parse_stored(file.read(_MAX_INPUT_BYTES))
        except OSError as error:
            name = "standard input" if self["file"] == "-" else self["file"]
            raise StateError(f"can't read {name}: {error.strerror}") from error

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
        "--ticket-file FILE | --topic TOPIC --key-file FILE [--secret-file FILE] [--minute N] "
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
        Address on which the publisher listens, streams:IP:PORT, quic:IP:PORT or iroh:IP:PORT; may be repeated
        up to 12 times.
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
        with naming("--key-file"):
            key = load_key(self["key-file"])
        record = Record.sign(key, slot, self.content)
        stored = encrypt(record, self.encryption_key(slot).public, os.urandom(ENTROPY_BYTES))
        if self["raw"]:
            self.stdout.buffer.write(stored)
            self.stdout.buffer.flush()
        else:
            self.show(publisher=record.publisher.hex(), unix_minute=record.minute, record=stored.hex())
        return 0
