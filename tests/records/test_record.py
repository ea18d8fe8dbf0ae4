"""
Tests for L{dtt.records.record}.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import ContentTooLarge, DecodeError, RecordRefused, UsageError
from dtt.identity import PeerKey, verify
from dtt.records.hpke import KeyPair, open_, seal
from dtt.records.record import (
    ENTROPY_BYTES,
    MAX_CONTENT_BYTES,
    MAX_ENCRYPTED_BYTES,
    GossipContent,
    Record,
    encrypt,
    open_record,
)
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash
from dtt.wire.addresses import IROH, STREAMS, PeerAddress

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDS = json.loads((VECTORS / "records.json").read_text())
REJECTS = json.loads((VECTORS / "rejects.json").read_text())
GOSSIP = RECORDS["gossip"]
SECRET = initial_secret_hash(bytes.fromhex(GOSSIP[0]["initial_secret"]))

KEY = PeerKey.from_seed(b"\x05" * 32)
SLOT = Slot(TopicId.from_name("topic"), 29_000_000)
SLOT_KEY = encryption_key(SLOT, initial_secret_hash(b"secret"))


def gossip_slot(case: dict[str, str]) -> Slot:
    """
    Return the slot of a gossip case.
    """
    return Slot(TopicId(bytes.fromhex(case["topic_id"])), int(case["unix_minute"]))


def used(entries: list[str]) -> tuple[bytes, ...]:
    """
    Return the entries of a case that are not zero.
    """
    return tuple(bytes.fromhex(entry) for entry in entries if entry != "00" * 32)


class GossipVectorTests(SynchronousTestCase):
    """
    Tests with gossip records made by the Rust crate.
    """

    def test_same_bytes(self) -> None:
        """
        The same key and content yield the record that Rust signed.
        """
        self.assertEqual(len(GOSSIP), 5)
        for case in GOSSIP:
            content = GossipContent(used(case["active_peers"]), used(case["last_message_hashes"]))
            key = PeerKey.from_seed(bytes.fromhex(case["publisher_seed"]))
            record = Record.sign(key, gossip_slot(case), content.encode())
            self.assertEqual(record.encode().hex(), case["record"])
            self.assertEqual(record.signature.hex(), case["signature"])
            self.assertEqual(record.publisher.hex(), case["publisher"])
            self.assertEqual(len(record.encode()), 456)

    def test_open(self) -> None:
        """
        Every encryption of a record by Rust is opened; unused entries are omitted.
        """
        for case in GOSSIP:
            slot = gossip_slot(case)
            for encrypted in case["encrypted"]:
                self.assertEqual(len(encrypted), 2 * 604)
                record = open_record(bytes.fromhex(encrypted), slot, encryption_key(slot, SECRET))
                self.assertEqual(record.encode().hex(), case["record"])
                content = GossipContent.decode(record.content)
                self.assertEqual(content.active_peers, used(case["active_peers"]))
                self.assertEqual(content.last_message_hashes, used(case["last_message_hashes"]))
                self.assertEqual(content.addresses, ())

    def test_bep44_item(self) -> None:
        """
        The slot's key, salt and target are those under which Rust stored the first
        encryption, and its signature covers the bencoded item.
        """
        for case in GOSSIP:
            item, slot = case["bep44_item_of_first"], gossip_slot(case)
            self.assertEqual(slot.public_key.hex(), item["k"])
            self.assertEqual(slot.salt.hex(), item["salt"])
            self.assertEqual(slot.target.hex(), item["target"])
            value = bytes.fromhex(case["encrypted"][0])
            signed = b"4:salt32:%b3:seqi%de1:v%d:%b" % (slot.salt, int(item["seq"]), len(value), value)
            self.assertEqual(PeerKey.from_seed(slot.signing_seed).sign(signed).hex(), item["sig"])

    def test_extensions(self) -> None:
        """
        Bytes after the 320 are signed and preserved; only a well-formed extension yields
        addresses.
        """
        found = []
        for case in RECORDS["extension"]:
            record = Record.decode(bytes.fromhex(case["record"]))
            slot = Slot(record.topic_id, record.minute)
            data = bytes.fromhex(case["encrypted"])
            self.assertEqual(len(data), case["encrypted_len"])
            self.assertEqual(open_record(data, slot, encryption_key(slot, SECRET)), record)
            self.assertEqual(record.content[320:].hex(), case["extension"])
            found.append(GossipContent.decode(record.content).addresses)
        self.assertEqual(found, [(), (PeerAddress(STREAMS, "127.0.0.1", 4433),), (), ()])

    def test_custom_content(self) -> None:
        """
        A record with application-specific content is read and verified; it is not gossip
        content.
        """
        case = RECORDS["custom"]
        record = Record.decode(bytes.fromhex(case["record"]))
        record.verify(Slot(bytes.fromhex(case["topic_id"]), record.minute))
        self.assertEqual(record.content.hex(), case["content"])
        self.assertEqual(record.encode().hex(), case["record"])
        self.assertRaises(DecodeError, GossipContent.decode, record.content)


class RejectVectorTests(SynchronousTestCase):
    """
    Tests that records which Rust refuses are refused at the same stage.
    """

    def _stage(self, data: bytes, slot: Slot, key: KeyPair) -> str:
        try:
            open_record(data, slot, key)
        except RecordRefused as refusal:
            return refusal.stage
        return "accepted"

    def test_encrypted(self) -> None:
        """
        Malformed encrypted records are refused.
        """
        slot = Slot(bytes.fromhex(REJECTS["topic_id"]), int(REJECTS["unix_minute"]))
        key = encryption_key(slot, initial_secret_hash(bytes.fromhex(REJECTS["initial_secret"])))
        self.assertEqual(len(REJECTS["encrypted"]), 17)
        for case in REJECTS["encrypted"]:
            self.assertEqual(self._stage(bytes.fromhex(case["bytes"]), slot, key), case["rust"], case["case"])

    def test_records(self) -> None:
        """
        Malformed records that are encrypted correctly are refused.
        """
        self.assertEqual(len(REJECTS["records"]), 9)
        for case in REJECTS["records"]:
            slot = Slot(bytes.fromhex(case["topic_id"]), int(case["unix_minute"]))
            key = encryption_key(slot, SECRET)
            data = enclose(bytes.fromhex(case["record"]), key)
            self.assertEqual(self._stage(data, slot, key), case["rust"], case["case"])


def enclose(record: bytes, key: KeyPair) -> bytes:
    """
    Encrypt any bytes like a record.
    """
    body = seal(KeyPair.from_seed(b"o" * 32).public, record, b"a" * 32)
    return len(body).to_bytes(4, "little") + body + seal(key.public, b"o" * 32, b"b" * 32)


class RecordTests(SynchronousTestCase):
    """
    Tests for L{Record}, L{encrypt} and L{open_record}.
    """

    def _refusal(self, data: bytes, slot: Slot = SLOT) -> tuple[str, str]:
        refusal = self.assertRaises(RecordRefused, open_record, data, slot, SLOT_KEY)
        return refusal.stage, refusal.reason

    def test_round_trip(self) -> None:
        """
        Content of any size that fits is read back.
        """
        seed = random.randrange(2**32)
        rng = random.Random(seed)
        for size in (0, 1, 320, MAX_CONTENT_BYTES):
            record = Record.sign(KEY, SLOT, rng.randbytes(size))
            data = encrypt(record, SLOT_KEY.public, rng.randbytes(ENTROPY_BYTES))
            self.assertEqual(open_record(data, SLOT, SLOT_KEY), record, f"seed {seed}")

    def test_largest(self) -> None:
        """
        The largest content fills a BEP44 value exactly; one byte more is refused, with the
        sizes.
        """
        record = Record.sign(KEY, SLOT, bytes(MAX_CONTENT_BYTES))
        data = encrypt(record, SLOT_KEY.public, bytes(range(96)))
        self.assertEqual(len(data), MAX_ENCRYPTED_BYTES)
        self.assertEqual(len(b"%d:" % len(data)) + len(data), 1000)
        error = self.assertRaises(ContentTooLarge, Record.sign, KEY, SLOT, bytes(MAX_CONTENT_BYTES + 1))
        self.assertIn("713", str(error))
        self.assertIn("712", str(error))

    def test_entropy(self) -> None:
        """
        Two encryptions differ only by the entropy, and its three parts are used for
        different purposes.
        """
        record = Record.sign(KEY, SLOT, b"")
        entropy = bytes(range(96))
        data = encrypt(record, SLOT_KEY.public, entropy)
        self.assertEqual(data, encrypt(record, SLOT_KEY.public, entropy))
        for part in range(3):
            other = bytearray(entropy)
            other[32 * part + 9] ^= 1
            self.assertNotEqual(data, encrypt(record, SLOT_KEY.public, bytes(other)))
        self.assertRaises(UsageError, encrypt, record, SLOT_KEY.public, bytes(95))

    def test_reasons(self) -> None:
        """
        A refusal has the reason length, decrypt, topic, minute or signature.
        """
        record = Record.sign(KEY, SLOT, b"content")
        data = encrypt(record, SLOT_KEY.public, bytes(range(96)))
        self.assertEqual(self._refusal(data[:-1]), ("parse", "length"))
        self.assertEqual(self._refusal(enclose(bytes(135), SLOT_KEY)), ("parse", "length"))
        self.assertEqual(self._refusal(data[:-1] + b"\x00"), ("decrypt", "decrypt"))
        self.assertEqual(self._refusal(data, Slot(bytes(32), SLOT.minute)), ("verify", "topic"))
        self.assertEqual(self._refusal(data, Slot(SLOT.topic_id, 5)), ("verify", "minute"))
        forged = bytearray(record.encode())
        forged[72] ^= 1
        self.assertEqual(self._refusal(enclose(bytes(forged), SLOT_KEY)), ("verify", "signature"))

    def test_body_limit(self) -> None:
        """
        A body of up to 2048 bytes is read, although we never write such; a larger one is
        refused before anything is decrypted.
        """

        def signed(content_size: int) -> bytes:
            unsigned = SLOT.topic_id + SLOT.minute.to_bytes(8, "little") + KEY.peer_id + bytes(content_size)
            return unsigned + KEY.sign(unsigned)

        largest = 2048 - 56 - 136
        record = open_record(enclose(signed(largest), SLOT_KEY), SLOT, SLOT_KEY)
        self.assertEqual(len(record.content), largest)
        self.assertEqual(self._refusal(enclose(signed(largest + 1), SLOT_KEY)), ("parse", "length"))

    def test_other_secret(self) -> None:
        """
        A member with another secret can't decrypt the record.
        """
        data = encrypt(Record.sign(KEY, SLOT, b""), SLOT_KEY.public, bytes(range(96)))
        other = encryption_key(SLOT, initial_secret_hash(b"other"))
        refusal = self.assertRaises(RecordRefused, open_record, data, SLOT, other)
        self.assertEqual(refusal.stage, "decrypt")

    def test_wrapped_to_slot_key(self) -> None:
        """
        An encrypted record ends with the one-time seed, sealed to the slot's key.
        """
        data = encrypt(Record.sign(KEY, SLOT, b""), SLOT_KEY.public, bytes(range(96)))
        self.assertEqual(open_(SLOT_KEY, data[-88:]), bytes(range(32)))

    def test_signature_covers_all(self) -> None:
        """
        The signature is the publisher's, of everything before it.
        """
        data = Record.sign(KEY, SLOT, b"content").encode()
        self.assertTrue(verify(KEY.peer_id, data[:-64], data[-64:]))
        self.assertEqual(data[32:40], SLOT.minute.to_bytes(8, "little"))

    def test_garbage(self) -> None:
        """
        Garbage of any length is refused without another error.
        """
        seed = random.randrange(2**32)
        rng = random.Random(seed)
        for size in (*range(200), 604, 996, 5000):
            data = rng.randbytes(size)
            framed = max(0, size - 92).to_bytes(4, "little") + data[4:]
            for given in (data, framed):
                self.assertRaises(RecordRefused, open_record, given, SLOT, SLOT_KEY)

    def test_repr(self) -> None:
        """
        The repr of a record is one short line.
        """
        self.assertLess(len(repr(Record.sign(KEY, SLOT, bytes(700)))), 250)


class GossipContentTests(SynchronousTestCase):
    """
    Tests for L{GossipContent}.
    """

    def test_addresses(self) -> None:
        """
        Addresses of both transports are read back, after exactly 320 bytes.
        """
        addresses = (PeerAddress(STREAMS, "192.0.2.1", 1), PeerAddress(IROH, "2001:db8::1", 2))
        content = GossipContent((b"p" * 32,), (b"h" * 32, b"i" * 32), addresses)
        self.assertEqual(GossipContent.decode(content.encode()), content)
        self.assertEqual(content.encode()[320:324], b"dtt1")
        self.assertEqual(len(GossipContent().encode()), 320)

    def test_full_content_fits(self) -> None:
        """
        Five peers, five hashes and eight IPv6 addresses fit into a record.
        """
        addresses = tuple(PeerAddress(port % 2, f"2001:db8::{port}", 65000 + port) for port in range(1, 9))
        hashes = tuple(hashlib.sha256(bytes((n,))).digest() for n in range(5))
        content = GossipContent(hashes, hashes, addresses)
        Record.sign(KEY, SLOT, content.encode())
        self.assertEqual(set(GossipContent.decode(content.encode()).addresses), set(addresses))

    def test_holes(self) -> None:
        """
        Unused entries are omitted at any position; bytes after the content that are not an
        extension are ignored.
        """
        data = bytes(32) + b"p" * 32 + bytes(96) + b"h" * 32 + bytes(128) + b"dtt9 something else"
        self.assertEqual(GossipContent.decode(data), GossipContent((b"p" * 32,), (b"h" * 32,)))

    def test_short(self) -> None:
        """
        Fewer than 320 bytes are not gossip content.
        """
        self.assertRaises(DecodeError, GossipContent.decode, bytes(319))

    def test_caller_mistakes(self) -> None:
        """
        More than five entries, and entries of another size, are refused.
        """
        for content in (
            GossipContent((b"p" * 32,) * 6),
            GossipContent((), (b"h" * 32,) * 6),
            GossipContent((b"p" * 31,)),
            GossipContent((), (b"h" * 33,)),
        ):
            self.assertRaises(UsageError, content.encode)
