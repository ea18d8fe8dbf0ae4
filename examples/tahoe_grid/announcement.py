"""
Announcements of Tahoe-LAFS, and the entries that carry them over dtt.

An announcement is a JSON dictionary that a Tahoe node signs with the key in its C{private/node.privkey}: it
has the name of a service, a sequence number, and the address of the node. Tahoe's introducer sends it as
three byte strings: the JSON text, and the signature and the key in base32
(C{allmydata.introducer.common.sign_to_foolscap}).

As an entry of L{dtt.contrib.latest}, its author is the key with the name of the service, its
version is the number, and its value is the signature with the compressed text.  Members that forward a signed
announcement can't change it.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any, Final

from attrs import frozen

from dtt.contrib.latest import Entry
from dtt.identity import verify

# Tahoe's marks of the version of signatures and keys.
_MARK: Final = b"v0-"

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64

# The maximum size of the name of a service in bytes, which fits into an author with the key.
_MAX_SERVICE: Final = 32

#: The maximum size of the JSON text in bytes. Real ones have less than 1000.
MAX_TEXT: Final = 16384


class BadAnnouncement(ValueError):
    """
    An announcement is malformed, or its signature is wrong.
    """


@frozen
class Announcement:
    """
    A verified announcement.

    @ivar text: the JSON text, as the node has signed it.
    @ivar signature: the signature, 64 bytes.
    @ivar key: the key of the node, 32 bytes.
    @ivar service: the service that it offers, for example C{"storage"}.
    @ivar number: the sequence number of the announcement, which grows.
    """

    text: bytes
    signature: bytes
    key: bytes
    service: str
    number: int

    @classmethod
    def verified(cls, text: bytes, signature: bytes, key: bytes) -> Announcement:
        """
        Check an announcement.

        @raise BadAnnouncement: it is malformed, or its signature is wrong.
        """
        if len(text) > MAX_TEXT:
            raise BadAnnouncement("too long")
        if len(key) != _KEY_BYTES or len(signature) != _SIGNATURE_BYTES or not verify(key, text, signature):
            raise BadAnnouncement("wrong signature")
        try:
            content: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise BadAnnouncement("not JSON") from None
        if not isinstance(content, dict):
            raise BadAnnouncement("not a dictionary")
        service, number = content.get("service-name"), content.get("seqnum")
        if not isinstance(service, str) or not 1 <= len(service.encode("utf-8", "replace")) <= _MAX_SERVICE:
            raise BadAnnouncement("no name of a service")
        if not isinstance(number, int) or not 0 <= number < 2**64:
            raise BadAnnouncement("no number")
        if not isinstance(content.get("anonymous-storage-FURL", "pb://"), str):
            raise BadAnnouncement("the FURL is not text")
        return cls(text, signature, key, service, number)

    @classmethod
    def from_foolscap(cls, triple: Any) -> Announcement:
        """
        Check an announcement that a node has sent with C{publish_v2}.

        @raise BadAnnouncement: it is malformed, or its signature is wrong.
        """
        if not (
            isinstance(triple, tuple) and len(triple) == 3 and all(type(each) is bytes for each in triple)
        ):
            raise BadAnnouncement("not three byte strings")
        text, signature, key = triple
        return cls.verified(text, _from_base32(signature), _from_base32(key))

    @classmethod
    def from_entry(cls, entry: Entry) -> Announcement:
        """
        Check an announcement from another member.

        @raise BadAnnouncement: it is malformed, its signature is wrong, or the entry does not match the
            announcement.
        """
        decompressor = zlib.decompressobj()
        try:
            text = decompressor.decompress(entry.value[_SIGNATURE_BYTES:], MAX_TEXT)
        except zlib.error:
            raise BadAnnouncement("not compressed") from None
        if not decompressor.eof or decompressor.unused_data:
            raise BadAnnouncement("too long, or cut off")
        found = cls.verified(text, entry.value[:_SIGNATURE_BYTES], entry.author[:_KEY_BYTES])
        if (found.author, found.number) != (entry.author, entry.version):
            raise BadAnnouncement("the entry differs from the announcement")
        return found

    @property
    def author(self) -> bytes:
        """
        The author of the entry: one announcement counts for each key and service.
        """
        return self.key + self.service.encode("utf-8")

    @property
    def value(self) -> bytes:
        """
        The value of the entry.
        """
        return self.signature + zlib.compress(self.text, 9)

    def to_foolscap(self) -> tuple[bytes, bytes, bytes]:
        """
        Return the argument of a node's C{announce_v2}.
        """
        return self.text, _to_base32(self.signature), _to_base32(self.key)


def _to_base32(data: bytes) -> bytes:
    return _MARK + base64.b32encode(data).lower().rstrip(b"=")


def _from_base32(text: bytes) -> bytes:
    digits = text.removeprefix(_MARK)
    if digits == text or len(text) > 200:
        raise BadAnnouncement("unknown kind of signature or key")
    try:
        return base64.b32decode(digits.upper() + b"=" * (-len(digits) % 8))
    except binascii.Error:
        raise BadAnnouncement("not base32") from None
