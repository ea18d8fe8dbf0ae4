"""
The messages of the search in the local network.  Pure.

Format: docs/protocol/local-network.md section 1, similar to BEP14. A search is sent to a multicast group, and
an answer to the host that has searched. Both contain the UDP port of the sender's DHT node, and the cookie of
the search.  Neither reveals anything about topics.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from dtt.errors import DecodeError

#: The groups and the port (BEP14).
GROUP4: Final = "239.192.152.143"
GROUP6: Final = "ff15::efc0:988f"
PORT: Final = 6771

#: The most bytes of a message, and of a cookie (guesses: twice what is sent).
MAX_MESSAGE: Final = 256
MAX_COOKIE: Final = 32

_SEARCH: Final = b"DTT-SEARCH * HTTP/1.1"
_ANSWER: Final = b"HTTP/1.1 200 OK"
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")
_COOKIE: Final = re.compile(rb"[0-9A-Za-z]{1,%d}" % MAX_COOKIE)


@frozen(slots=True)
class LocalMessage:
    """
    A search or an answer.

    @ivar is_answer: whether it is an answer.
    @ivar port: the UDP port of the sender's DHT node, 1..65535.
    @ivar cookie: at most L{MAX_COOKIE} letters and digits, which the searcher has drawn.
    """

    is_answer: bool
    port: int
    cookie: bytes


def encode(message: LocalMessage, group: str) -> bytes:
    """
    Return the bytes of a message.

    @param group: the address of the group, without brackets.
    """
    host = f"[{group}]" if ":" in group else group
    lines = (
        _ANSWER if message.is_answer else _SEARCH,
        b"Host: %b:%d" % (host.encode("ascii"), PORT),
        b"Port: %d" % message.port,
        b"cookie: " + message.cookie,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def decode(data: bytes) -> LocalMessage:
    """
    Read a message.  Unknown headers are ignored.

    @raise DecodeError: it is not such a message.
    """
    if len(data) > MAX_MESSAGE:
        raise DecodeError("too long")
    first, *lines = data.split(b"\r\n")
    if first not in (_SEARCH, _ANSWER):
        raise DecodeError("not a search in the local network")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    port, cookie = headers.get(b"port", b""), headers.get(b"cookie", b"")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise DecodeError("no port")
    if not _COOKIE.fullmatch(cookie):
        raise DecodeError("no cookie")
    return LocalMessage(first == _ANSWER, int(port), cookie)
