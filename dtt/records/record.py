"""
Records: what a member publishes about itself in a slot.  Pure.

Contract: docs/protocol/records.md sections 2 and 3.  A record consists of topic
id, LE64 minute, publisher, content, and a signature of all of these.  An
encrypted record consists of an LE32 length, the record sealed to a one-time key,
and the one-time seed sealed to the slot's key.  The content is opaque to
L{Record}; L{GossipContent} is the codec that members of a swarm use, and
applications can use their own, as L{OpaqueContent}.
"""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from dtt.errors import ContentTooLarge, DecodeError, RecordRefused, UsageError
from dtt.identity import PeerKey, verify
from dtt.records.hpke import OVERHEAD, KeyPair, open_, seal
from dtt.records.topic import Slot
from dtt.wire.addresses import PeerAddress, decode_extension, encode_extension

#: The size of a record without content: topic id, minute, publisher, signature.
MIN_RECORD_BYTES = 32 + 8 + 32 + 64

#: The maximum size of the body (the sealed record) that readers accept
#: (docs/protocol/records.md section 3).
MAX_BODY_BYTES = 2048

#: The maximum size of a byte string in a BEP44 value, which is 1000 bytes I{bencoded}
#: (BEP44 and docs/protocol/records.md section 3).
MAX_ENCRYPTED_BYTES = 996

_LENGTH_BYTES = 4
_WRAPPED_KEY_BYTES = OVERHEAD + 32
_FRAME_BYTES = _LENGTH_BYTES + _WRAPPED_KEY_BYTES

#: The maximum size of the content that fits into a DHT value: 712 bytes.
MAX_CONTENT_BYTES = MAX_ENCRYPTED_BYTES - _FRAME_BYTES - OVERHEAD - MIN_RECORD_BYTES

#: The number of random bytes that L{encrypt} needs: the one-time seed, and an
#: ephemeral secret for each of the two sealed parts.
ENTROPY_BYTES = 3 * 32

#: The sizes of upstream's fixed arrays (docs/protocol/records.md section 2).
MAX_ACTIVE_PEERS = 5
MAX_MESSAGE_HASHES = 5

_ENTRY_BYTES = 32
_UNUSED = bytes(_ENTRY_BYTES)
_PEERS_BYTES = MAX_ACTIVE_PEERS * _ENTRY_BYTES
_GOSSIP_BYTES = _PEERS_BYTES + MAX_MESSAGE_HASHES * _ENTRY_BYTES


def _encode_entries(what: str, entries: tuple[bytes, ...], limit: int) -> bytes:
    if len(entries) > limit:
        raise UsageError(f"a record has room for {limit} {what}, not {len(entries)}")
    if any(len(entry) != _ENTRY_BYTES for entry in entries):
        raise UsageError(f"{what} are {_ENTRY_BYTES} bytes each")
    return b"".join(entries).ljust(limit * _ENTRY_BYTES, b"\x00")


def _decode_entries(data: bytes) -> tuple[bytes, ...]:
    entries = (data[start : start + _ENTRY_BYTES] for start in range(0, len(data), _ENTRY_BYTES))
    return tuple(entry for entry in entries if entry != _UNUSED)


class RecordContent(Protocol):
    """
    The content of a record to publish.
    """

    @property
    def addresses(self) -> tuple[PeerAddress, ...]:
        """
        The addresses that it names.
        """

    def encode(self) -> bytes:
        """
        Return the bytes of the content.
        """

    def adds_to(self, earlier: RecordContent) -> bool:
        """
        Return whether it contains something that C{earlier} does not, so that the record with C{earlier} no
        longer suffices.
        """

    def must_replace(self, earlier: RecordContent) -> bool:
        """
        Return whether that is so important that it is worth another record where records
        are valid for long.
        """


@frozen(slots=True)
class OpaqueContent:
    """
    The content of a record of an application.

    @ivar data: at most L{MAX_CONTENT_BYTES} bytes.
    @ivar addresses: none.
    """

    data: bytes = field(repr=lambda data: f"<{len(data)} bytes>")
    addresses: tuple[PeerAddress, ...] = field(default=(), init=False)

    def encode(self) -> bytes:
        """
        Return the data.
        """
        return self.data

    def adds_to(self, earlier: RecordContent) -> bool:
        """
        Return whether the data are others.
        """
        return self.data != earlier.encode()

    def must_replace(self, earlier: RecordContent) -> bool:
        """
        Return whether the data are others.
        """
        return self.adds_to(earlier)


@frozen(slots=True)
class GossipContent:
    """
    The content of the records that members of a swarm publish.

    The active peers of a decoded record are hearsay, and may be invalid: check
    them with L{is_valid_peer_id<dtt.identity.is_valid_peer_id>} before use.

    @ivar active_peers: the peer ids of up to 5 neighbours, 32 bytes each.
    @ivar last_message_hashes: the hashes of the last 5 messages received, oldest
        first, 32 bytes each.
    @ivar addresses: the addresses on which the publisher claims to listen, at
        most 8 (docs/protocol/addresses.md section 3).
    """

    active_peers: tuple[bytes, ...] = ()
    last_message_hashes: tuple[bytes, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()

    def encode(self) -> bytes:
        """
        Encode the content: 320 bytes, and the extension with the addresses if there
        are any.

        @raise UsageError: there are too many entries, or one is not 32 bytes.
        """
        return (
            _encode_entries("active peers", self.active_peers, MAX_ACTIVE_PEERS)
            + _encode_entries("message hashes", self.last_message_hashes, MAX_MESSAGE_HASHES)
            + encode_extension(self.addresses)
        )

    def adds_to(self, earlier: RecordContent) -> bool:
        """
        Return whether it contains anything that C{earlier} does not.
        """
        return not (
            isinstance(earlier, GossipContent)
            and set(self.active_peers) <= set(earlier.active_peers)
            and set(self.last_message_hashes) <= set(earlier.last_message_hashes)
            and set(self.addresses) <= set(earlier.addresses)
        )

    def must_replace(self, earlier: RecordContent) -> bool:
        """
        Return whether it names addresses that C{earlier} does not.
        """
        return not set(self.addresses) <= set(earlier.addresses)

    @classmethod
    def decode(cls, content: bytes) -> GossipContent:
        """
        Decode the content of a record, without its unused entries.  Bytes after it
        that are not an extension are ignored.

        @raise DecodeError: C{content} is shorter than 320 bytes.
        """
        if len(content) < _GOSSIP_BYTES:
            raise DecodeError("no gossip content")
        return cls(
            _decode_entries(content[:_PEERS_BYTES]),
            _decode_entries(content[_PEERS_BYTES:_GOSSIP_BYTES]),
            decode_extension(content[_GOSSIP_BYTES:]),
        )


def check_content_size(size: int) -> None:
    """
    Check the size of a record's content.

    @param size: in bytes.
    @raise ContentTooLarge: it exceeds L{MAX_CONTENT_BYTES}.
    """
    if size > MAX_CONTENT_BYTES:
        raise ContentTooLarge(
            f"record content of {size} bytes is too large: at most {MAX_CONTENT_BYTES} fit into "
            f"a DHT item of {MAX_ENCRYPTED_BYTES} bytes with signature and encryption"
        )


@frozen(slots=True)
class Record:
    """
    A signed record.  L{sign} makes one; L{decode} reads one without verifying it.

    @ivar topic_id: 32 bytes.
    @ivar minute: the unix minute of its slot.
    @ivar publisher: the peer id of its publisher, 32 bytes.
    @ivar content: its content, 0 to L{MAX_CONTENT_BYTES} bytes if it was made by
        L{sign}.
    @ivar signature: 64 bytes.
    """

    topic_id: bytes = field(repr=bytes.hex)
    minute: int
    publisher: bytes = field(repr=bytes.hex)
    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    signature: bytes = field(repr=False)

    @classmethod
    def sign(cls, key: PeerKey, slot: Slot, content: bytes) -> Record:
        """
        Create a signed record for C{slot}.

        @param key: the publisher's key pair.
        @param slot: the slot.
        @param content: at most L{MAX_CONTENT_BYTES} bytes.
        @raise ContentTooLarge: C{content} is larger; no DHT node would store the
            record.
        """
        return cls.sign_at(key, slot.topic_id, slot.minute, content)

    @classmethod
    def sign_at(cls, key: PeerKey, topic_id: bytes, minute: int, content: bytes) -> Record:
        """
        Create a signed record; see L{sign}.

        @param key: the publisher's key pair.
        @param topic_id: 32 bytes.
        @param minute: its unix minute, 0..2^64-1.
        @param content: at most L{MAX_CONTENT_BYTES} bytes.
        @raise ContentTooLarge: C{content} is larger.
        """
        check_content_size(len(content))
        signed = topic_id + minute.to_bytes(8, "little") + key.peer_id + content
        return cls(topic_id, minute, key.peer_id, content, key.sign(signed))

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """
        Decode a record without verifying anything.

        @raise RecordRefused: stage C{parse}: C{data} is too short.
        """
        if len(data) < MIN_RECORD_BYTES:
            raise RecordRefused("parse", "length")
        return cls(data[:32], int.from_bytes(data[32:40], "little"), data[40:72], data[72:-64], data[-64:])

    def _signed_bytes(self) -> bytes:
        return self.topic_id + self.minute.to_bytes(8, "little") + self.publisher + self.content

    def encode(self) -> bytes:
        """
        Encode the record: L{MIN_RECORD_BYTES} and the content.
        """
        return self._signed_bytes() + self.signature

    def verify(self, slot: Slot) -> None:
        """
        Check that this is a record for C{slot}, signed by its publisher.

        @raise RecordRefused: stage C{verify}, reason C{topic}, C{minute} or
            C{signature}.
        """
        if self.topic_id == slot.topic_id and self.minute != slot.minute:
            raise RecordRefused("verify", "minute")
        self.verify_topic(slot.topic_id)

    def verify_topic(self, topic_id: bytes) -> None:
        """
        Check that this is a record of a topic, of any minute, signed by its publisher.

        @param topic_id: 32 bytes.
        @raise RecordRefused: stage C{verify}, reason C{topic} or C{signature}.
        """
        if self.topic_id != topic_id:
            raise RecordRefused("verify", "topic")
        if not verify(self.publisher, self._signed_bytes(), self.signature):
            raise RecordRefused("verify", "signature")


def encrypt(record: Record, to: bytes, entropy: bytes) -> bytes:
    """
    Encrypt a record for the owners of the slot's key.

    @param record: the record.
    @param to: the public key of
        L{encryption_key<dtt.records.topic.encryption_key>}, 32 bytes.
    @param entropy: L{ENTROPY_BYTES} fresh random bytes; never reuse them.
    @return: the value to store in the DHT.
    @raise UsageError: C{entropy} has a wrong length, or C{to} is not a valid key.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise UsageError(f"encrypting a record takes {ENTROPY_BYTES} random bytes, not {len(entropy)}")
    seed = entropy[:32]
    body = seal(KeyPair.from_seed(seed).public, record.encode(), entropy[32:64])
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body + seal(to, seed, entropy[64:])


def decrypt(data: bytes, key: KeyPair) -> bytes:
    """
    Decrypt a DHT value.

    @param data: the value.
    @param key: the slot's L{encryption_key<dtt.records.topic.encryption_key>}.
    @return: the bytes of the record.
    @raise RecordRefused: stage C{parse} with reason C{length}, or stage
        C{decrypt}.
    """
    body_end = len(data) - _WRAPPED_KEY_BYTES
    body_length = body_end - _LENGTH_BYTES
    if not 0 <= body_length <= MAX_BODY_BYTES or body_length != int.from_bytes(
        data[:_LENGTH_BYTES], "little"
    ):
        raise RecordRefused("parse", "length")
    try:
        # A wrapped key is always 88 bytes, and so the seed always 32.
        one_time = KeyPair.from_seed(open_(key, data[body_end:]))
        return open_(one_time, data[_LENGTH_BYTES:body_end])
    except DecodeError:
        raise RecordRefused("decrypt", "decrypt") from None


def open_record(data: bytes, slot: Slot, key: KeyPair) -> Record:
    """
    Decrypt and verify a DHT value.

    @param data: the value.
    @param slot: the slot.
    @param key: its L{encryption_key<dtt.records.topic.encryption_key>}.
    @return: the verified record.
    @raise RecordRefused: stage C{parse}, C{decrypt} or C{verify}.
    """
    record = Record.decode(decrypt(data, key))
    record.verify(slot)
    return record


@frozen(slots=True)
class KeyedSlot:
    """
    A slot, with the key pair that its records are encrypted to.

    @ivar slot: the slot.
    @ivar key: the key pair.
    """

    slot: Slot
    key: KeyPair = field(repr=False)

    @property
    def signing_seed(self) -> bytes:
        """
        The Ed25519 seed of the item's key, 32 bytes.
        """
        return self.slot.signing_seed

    @property
    def public_key(self) -> bytes:
        """
        The item's key, 32 bytes.
        """
        return self.slot.public_key

    @property
    def salt(self) -> bytes:
        """
        The item's salt, 32 bytes.
        """
        return self.slot.salt

    def seal(self, record: Record, entropy: bytes) -> bytes:
        """
        Encrypt a record for the readers of the slot; see L{encrypt}.
        """
        return encrypt(record, self.key.public, entropy)

    def open(self, value: bytes) -> Record:
        """
        Decrypt and verify a value of the slot; see L{open_record}.

        @raise RecordRefused: stage C{parse}, C{decrypt} or C{verify}.
        """
        return open_record(value, self.slot, self.key)
