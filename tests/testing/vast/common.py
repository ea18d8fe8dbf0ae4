"""
Shared by the tests of the simulated DHT.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from dtt.krpc.bencode import decode
from dtt.krpc.items import MutableItem, mutable_target, sign_item
from dtt.krpc.messages import encode_query
from dtt.testing.vast import VastDHT, member_host

MEMBER = (member_host(0), 4000)
SEED = b"s" * 32


class Asker:
    """
    Sends queries to nodes of a DHT and decodes the replies.

    @ivar now: seconds.
    """

    def __init__(self, dht: VastDHT, source: tuple[str, int] = MEMBER) -> None:
        self.dht = dht
        self.source = source
        self.now = 1000.0
        self._transactions: Iterator[int] = count()

    def ask(
        self, destination: tuple[str, int], method: str, read_only: bool = False, /, **arguments: Any
    ) -> Any:
        """The decoded reply; C{None} if there is none."""
        transaction = next(self._transactions).to_bytes(4)
        named = {name.encode("ascii"): value for name, value in arguments.items()}
        query = encode_query(transaction, method.encode("ascii"), b"m" * 20, named, read_only)
        reply = self.dht.answer(query, self.source, destination, self.now)
        if reply is None:
            return None
        decoded = decode(reply)
        assert decoded[b"t"] == transaction
        return decoded

    def node(self, number: int, method: str, /, **arguments: Any) -> Any:
        """The reply of the node with this number."""
        contact = self.dht.contact(number)
        return self.ask((contact.host, contact.port), method, **arguments)

    def token(self, number: int, target: bytes) -> bytes:
        """A token for a put."""
        reply = self.node(number, "get", target=target, seq=0)
        token: bytes = reply[b"r"][b"token"]
        return token

    def put(self, number: int, item: MutableItem, /, **more: Any) -> Any:
        """
        Put a mutable item.

        @return: C{True} if it was accepted, the error's code, or C{None} for no reply.
        """
        arguments = {name.decode("ascii"): value for name, value in item.arguments().items()}
        arguments |= {"target": item.target, "token": self.token(number, item.target)} | more
        return outcome(self.node(number, "put", **arguments))


def outcome(reply: Any) -> Any:
    """C{True} for a response, the code of an error, C{None} for no reply."""
    if reply is None:
        return None
    return True if reply[b"y"] == b"r" else reply[b"e"][0]


def item(value: bytes, seq: int = 1, salt: bytes = b"salt") -> MutableItem:
    """A signed item."""
    return sign_item(SEED, salt, seq, value)


TARGET = mutable_target(item(b"").public_key, b"salt")
