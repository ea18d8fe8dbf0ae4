"""
Codec for the DNS packets of pkarr, which have only TXT records as answers; based
on Twisted's DNS codec.

Packets come from untrusted sources: the length and the compression pointers of
names are limited, counts are not trusted, and every fault is a
L{DecodeError<dtt.errors.DecodeError>} whose reason begins with C{dns}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from struct import Struct
from typing import Final

from twisted.names import dns

from dtt.errors import DecodeError

#: The TTL of all records, in seconds (iroh, address_lookup/pkarr.rs,
#: DEFAULT_PKARR_TTL; readers ignore it).
TTL: Final = 30

#: The maximum sizes in bytes of a string in a TXT record, of a label, and of a name
#: (RFC 1035 sections 3.3 and 2.3.4).
MAX_STRING: Final = 255
MAX_LABEL: Final = 63
MAX_NAME: Final = 255

#: The maximum number of compression pointers in one name (guess: an encoder that
#: writes each name once needs one).
MAX_POINTERS: Final = 16

_HEADER: Final = Struct(dns.Message.headerFmt)
_IS_ANSWER: Final = 0x80


def write_texts(texts: Iterable[tuple[str, str]]) -> bytes:
    """
    Encode a DNS packet with one TXT record for each owner name and text.  Names
    are compressed as iroh does it.

    @param texts: pairs of owner name and text, of at most L{MAX_STRING} bytes.
    """
    message = dns.Message(answer=1, maxSize=0)
    for owner, text in texts:
        payload = dns.Record_TXT(text.encode("utf-8"), ttl=TTL)
        message.answers.append(dns.RRHeader(owner.encode("ascii"), dns.TXT, dns.IN, TTL, payload))
    return message.toStr()


class _Name(dns.Name):
    """
    A name that is decoded with limits: with Twisted's own class, the name can grow
    to the size of the packet times the number of its pointers.
    """

    def decode(self, strio: BytesIO, length: int | None = None) -> None:
        labels: list[bytes] = []
        size = pointers = 0
        end = None
        while (octet := _octet(strio)) != 0:
            if octet >= 0xC0:
                target = (octet & 0x3F) << 8 | _octet(strio)
                end = strio.tell() if end is None else end
                pointers += 1
                if pointers > MAX_POINTERS:
                    raise DecodeError("dns: compression loop")
                strio.seek(target)
                continue
            size += 1 + octet
            if octet > MAX_LABEL or size >= MAX_NAME:
                raise DecodeError("dns: name too long")
            labels.append(_exactly(strio, octet))
        if end is not None:
            strio.seek(end)
        self.name = b".".join(labels)


class _RRHeader(dns.RRHeader):
    def __init__(self) -> None:
        super().__init__()
        self.name = _Name()


def _exactly(strio: BytesIO, size: int) -> bytes:
    data = strio.read(size)
    if len(data) != size:
        raise DecodeError("dns: truncated")
    return data


def _octet(strio: BytesIO) -> int:
    return _exactly(strio, 1)[0]


def read_texts(packet: bytes) -> list[tuple[bytes, str]]:
    """
    Decode the TXT records among the answers of a DNS packet.  Records of other
    types and classes, texts that are not UTF-8, and everything after the answers
    are ignored.

    @return: pairs of owner name and text.
    @raise DecodeError: the packet is malformed; the reason is C{"dns: ..."}.
    """
    strio = BytesIO(packet)
    _, flags, _, questions, answers, _, _ = _HEADER.unpack(_exactly(strio, _HEADER.size))
    if not flags & _IS_ANSWER or questions:
        raise DecodeError("dns: no answer")
    return list(_answers(strio, answers))


def _answers(strio: BytesIO, count: int) -> Iterator[tuple[bytes, str]]:
    for _ in range(count):
        header = _RRHeader()
        try:
            header.decode(strio)
        except EOFError:
            raise DecodeError("dns: truncated") from None
        data = _exactly(strio, header.rdlength or 0)
        if header.type == dns.TXT and header.cls == dns.IN:
            try:
                yield header.name.name, _text(data).decode("utf-8")
            except UnicodeDecodeError:
                continue


def _text(data: bytes) -> bytes:
    """
    Concatenate the strings of a TXT record.
    """
    strio = BytesIO(data)
    strings = []
    while strio.tell() < len(data):
        strings.append(_exactly(strio, _octet(strio)))
    return b"".join(strings)
