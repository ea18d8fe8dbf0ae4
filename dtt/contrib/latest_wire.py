"""
The messages of L{dtt.contrib.latest}.  Pure.

Contract: docs/how-to/state.md section "Message format".  Integers are big-endian.  A message begins with 8
bytes that identify its kind:

  - C{dtt-lv1e}, to the swarm, and C{dtt-lv1n}, to a neighbour: an entry. The length of the
    author (1 byte), the author, the version (8 bytes), the value.
  - C{dtt-lv1s}, to a neighbour: a summary of all entries whose keys are in a range. The first
    and the last key of the range (16 bytes each), then the key (16 bytes) and version (8
    bytes) of each entry.

The two kinds of entries have the same meaning. They differ because a content that went to
the swarm can't be sent to a neighbour again for 90 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha512
from struct import Struct
from typing import Final

from attrs import frozen

from dtt.errors import DecodeError

#: The maximum size of an author in bytes (guess: enough for a key and a name in text).
MAX_AUTHOR: Final = 64

#: Size of a key, the SHA-512 of the author, truncated (guess: nobody finds two authors with
#: the same key).
KEY_BYTES: Final = 16

#: The kinds of messages.
TO_SWARM: Final = b"dtt-lv1e"
TO_NEIGHBOR: Final = b"dtt-lv1n"
SUMMARY: Final = b"dtt-lv1s"
KIND_BYTES: Final = 8

#: Bytes of an entry in addition to its author and value.
OVERHEAD: Final = KIND_BYTES + 1 + 8

_VERSION = Struct(">Q")
_LINE = Struct(f">{KEY_BYTES}sQ")
_RANGE = KIND_BYTES + 2 * KEY_BYTES

#: The first and the last key.
FIRST: Final = bytes(KEY_BYTES)
LAST: Final = b"\xff" * KEY_BYTES


@frozen(slots=True)
class Entry:
    """
    One author's value.

    @ivar author: 1..64 bytes.
    @ivar version: 0..2^64-1. The largest wins; of equal ones, the larger value.
    @ivar value: the bytes.
    """

    author: bytes
    version: int
    value: bytes

    def beats(self, other: Entry | None) -> bool:
        """
        Return whether this entry replaces another one of the same author.
        """
        return other is None or (self.version, self.value) > (other.version, other.value)


@frozen(slots=True)
class Summary:
    """
    The versions that a member has in a range of keys.

    @ivar first: the first key of the range.
    @ivar last: the last one.
    @ivar versions: the version of each entry in the range, by key.
    """

    first: bytes
    last: bytes
    versions: Mapping[bytes, int]


def key_of(author: bytes) -> bytes:
    """
    Return the key of an author, 16 bytes.
    """
    return sha512(author).digest()[:KEY_BYTES]


def encode_entry(entry: Entry, kind: bytes) -> bytes:
    """
    Return the message for an entry.

    @param kind: L{TO_SWARM} or L{TO_NEIGHBOR}.
    """
    return b"".join(
        (kind, bytes((len(entry.author),)), entry.author, _VERSION.pack(entry.version), entry.value)
    )


def encode_summaries(summary: Summary, max_content: int) -> list[bytes]:
    """
    Return the messages for a summary of any size, each for a part of its range.

    @param summary: the summary.
    @param max_content: the maximum size of a message in bytes.
    """
    versions = summary.versions
    keys = sorted(versions)
    size = max(1, (max_content - _RANGE) // _LINE.size)
    parts = [keys[start : start + size] for start in range(0, len(keys), size)] or [[]]
    firsts = [summary.first, *(part[0] for part in parts[1:])]
    lasts = [*(_before(first) for first in firsts[1:]), summary.last]
    return [
        encode_summary(Summary(first, last, {key: versions[key] for key in part}))
        for first, last, part in zip(firsts, lasts, parts, strict=True)
    ]


def encode_summary(summary: Summary) -> bytes:
    """
    Return the message for a summary.
    """
    lines = [_LINE.pack(key, version) for key, version in summary.versions.items()]
    return b"".join((SUMMARY, summary.first, summary.last, *lines))


def decode(content: bytes) -> Entry | Summary | None:
    """
    Read a message.

    @return: C{None} if it belongs to another application.
    @raise DecodeError: it is malformed.
    """
    kind, rest = content[:KIND_BYTES], content[KIND_BYTES:]
    if kind in (TO_SWARM, TO_NEIGHBOR):
        return _decode_entry(rest)
    return _decode_summary(rest) if kind == SUMMARY else None


def _decode_entry(rest: bytes) -> Entry:
    length = rest[0] if rest else 0
    if not 1 <= length <= MAX_AUTHOR or len(rest) < 1 + length + _VERSION.size:
        raise DecodeError("malformed entry")
    (version,) = _VERSION.unpack_from(rest, 1 + length)
    return Entry(rest[1 : 1 + length], version, rest[1 + length + _VERSION.size :])


def _decode_summary(rest: bytes) -> Summary:
    first, last, lines = rest[:KEY_BYTES], rest[KEY_BYTES : 2 * KEY_BYTES], rest[2 * KEY_BYTES :]
    if len(last) < KEY_BYTES or first > last or len(lines) % _LINE.size:
        raise DecodeError("malformed summary")
    versions = dict(_LINE.iter_unpack(lines))
    if not all(first <= key <= last for key in versions):
        raise DecodeError("a summary with entries outside of its range")
    return Summary(first, last, versions)


def _before(key: bytes) -> bytes:
    """
    Return the key before another one, which is not the first.
    """
    return (int.from_bytes(key, "big") - 1).to_bytes(KEY_BYTES, "big")


def in_range(keys: Sequence[bytes], summary: Summary) -> list[bytes]:
    """
    Return the elements of C{keys} in the range of a summary.
    """
    return [key for key in keys if summary.first <= key <= summary.last]
