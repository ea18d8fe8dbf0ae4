"""
Signed messages: an envelope that proves who wrote a content, when, and for which topic.
Pure.

Rules (docs/protocol/signed.md section 1)::

    envelope  = 01 | author[32] | time: u64 BE | counter: u64 BE | content | signature[64]
    signature = Ed25519 over context | topic id[32] | all of the envelope before it

The time is in milliseconds since 1970.  The signature is strict, as for records
(docs/protocol/records.md section 2).  Whether a message is a replay is decided by
L{dtt.records.replays}.
"""

from __future__ import annotations

from struct import Struct

from attrs import field

from dtt.errors import EnvelopeRefused, UsageError
from dtt.identity import KEY_BYTES, SIGNATURE_BYTES, PeerKey, is_valid_peer_id, verify
from dtt.wire.values import frozen

#: What is signed begins with this, so that the signature is worth nothing elsewhere.
CONTEXT = b"dtt/1 signed message"

#: The version of the format.
VERSION = 1

_HEADER = Struct(f">B{KEY_BYTES}sQQ")

#: Bytes that an envelope adds to a content.
OVERHEAD = _HEADER.size + SIGNATURE_BYTES

#: The largest time and counter.
MAX_U64 = 2**64 - 1


def _size(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@frozen(slots=True)
class Envelope:
    """
    A message whose author is proved.

    @ivar author: the peer id of the member that wrote it, 32 bytes.
    @ivar time: when, by its clock, in milliseconds since 1970.
    @ivar counter: higher than in all its messages before.
    @ivar content: the content.
    """

    author: bytes = field(repr=bytes.hex)
    time: int
    counter: int
    content: bytes = field(repr=_size)


def seal(key: PeerKey, topic_id: bytes, time: int, counter: int, content: bytes) -> bytes:
    """
    Return a signed envelope, L{OVERHEAD} bytes longer than C{content}.

    @param key: the author's key pair.
    @param topic_id: 32 bytes.
    @param time: milliseconds since 1970.
    @param counter: higher than in all its messages before.
    @param content: any bytes.
    @raise UsageError: time or counter is not in 0..2^64-1.
    """
    for name, number in (("time", time), ("counter", counter)):
        if not 0 <= number <= MAX_U64:
            raise UsageError(f"{name} must be 0..2^64-1, not {number}")
    body = _HEADER.pack(VERSION, key.peer_id, time, counter) + content
    return body + key.sign(CONTEXT + topic_id + body)


def is_envelope(data: bytes) -> bool:
    """
    Return whether C{data} begins as an envelope of this version and is long enough to be
    one; nothing is verified.
    """
    return len(data) >= OVERHEAD and data[0] == VERSION


def unverified_content(data: bytes) -> bytes:
    """
    Return the content of an envelope (L{is_envelope}) without verifying it.
    """
    return data[_HEADER.size : -SIGNATURE_BYTES]


def unseal(topic_id: bytes, data: bytes) -> Envelope:
    """
    Verify an envelope.

    @param topic_id: 32 bytes.
    @param data: the content of a message.
    @raise EnvelopeRefused: it is not an envelope, or the signature is not its author's for this topic.
    """
    if not is_envelope(data):
        raise EnvelopeRefused("not signed")
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    _, author, time, counter = _HEADER.unpack_from(body)
    if not is_valid_peer_id(author) or not verify(author, CONTEXT + topic_id + body, signature):
        raise EnvelopeRefused("bad signature", author)
    return Envelope(author, time, counter, body[_HEADER.size :])
