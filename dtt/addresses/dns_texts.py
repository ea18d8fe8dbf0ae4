"""
DNS packets of pkarr: TXT records among answers, nothing else; bytes in, bytes
out, by way of Twisted's DNS codec.

Everything that is read was written by others: names are followed within
limits, counts are not believed, and whatever is wrong is a L{DecodeError} whose
reason begins with C{dns}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from struct import Struct
from typing import Final

from twisted.names import dns

from dtt.errors import DecodeError

#: Seconds (iroh, address_lookup/pkarr.rs, DEFAULT_PKARR_TTL; nobody looks at it).
TTL: Final = 30

#: Bytes of one string in a TXT record, of a label, and of a name (RFC 1035
#: sections 3.3 and 2.3.4).
MAX_STRING: Final = 255
MAX_LABEL: Final = 63
MAX_NAME: Final = 255

#: Compression pointers that are followed for one name (guess: who writes
#: names once needs one).
MAX_POINTERS: Final = 16

_HEADER: Final = Struct(dns.Message.headerFmt)
_IS_ANSWER: Final = 0x80


def write_texts(texts: Iterable[tuple[str, str]]) -> bytes:
    """
    A DNS packet with one TXT record for each owner name and text, which is at
    most L{MAX_STRING} bytes.  Names are compressed as iroh does it.
    """
    message = dns.Message(answer=1, maxSize=0)
    for owner, text in texts:
        payload = dns.Record_TXT(text.encode("utf-8"), ttl=TTL)
        message.answers.append(dns.RRHeader(owner.encode("ascii"), dns.TXT, dns.IN, TTL, payload))
    return message.toStr()


class _Name(dns.Name):
    """
    A name that is read within limits: Twisted's own may become as long as the
    packet times the pointers in it.
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
    The TXT records among the answers of a DNS packet: owner name and text.
    Records of other types and classes, and texts that are not UTF-8, are left
    out; what follows the answers is not looked at.

    @raise DecodeError: C{"dns: ..."}: malformed.
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
    The strings of a TXT record, one after another.
    """
    strio = BytesIO(data)
    strings = []
    while strio.tell() < len(data):
        strings.append(_exactly(strio, _octet(strio)))
    return b"".join(strings)
