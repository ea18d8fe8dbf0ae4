"""
The data stored on the nodes of a L{dtt.testing.vast.VastDHT}. Pure.

Rules: storage is bounded; the oldest entry is evicted first. Nothing expires: even the
implementation that expires items first keeps them for two hours (BEP44).
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from dtt.errors import DTTError
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.items import (
    MAX_SALT_SIZE,
    MAX_SEQ,
    MAX_VALUE_SIZE,
    MutableItem,
    immutable_target,
    mutable_target,
)
from dtt.krpc.messages import (
    CAS_MISMATCH,
    PROTOCOL_ERROR,
    SALT_TOO_BIG,
    SEQ_TOO_LOW,
    VALUE_TOO_BIG,
)
from dtt.testing.vast.manners import Manner

#: The maximum number of items of each kind, and of info hashes with peers, on all nodes together: 100
#: MB at most. Guess.
MAX_STORED: Final = 65536

#: The maximum number of peers for one info hash on one node. Guess: libtorrent returns up to 100.
MAX_PEERS: Final = 100

T = TypeVar("T")


class Refused(DTTError):
    """
    The node refuses a put.

    @ivar code: the error code in the reply; 0: there is no reply.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


class BoundedStore(Generic[T]):
    """
    A bounded mapping from (node, target) pairs to values.
    """

    def __init__(self, capacity: int = MAX_STORED) -> None:
        self._capacity = capacity
        self._held: dict[tuple[int, bytes], T] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, number: int, target: bytes) -> T | None:
        """
        The value of a node at a target; C{None} if there is none.
        """
        return self._held.get((number, target))

    def put(self, number: int, target: bytes, value: T) -> None:
        """
        Store or replace the value of a node at a target.
        """
        key = number, target
        if key not in self._held and len(self._held) >= self._capacity:
            del self._held[next(iter(self._held))]
        self._held[key] = value

    def of(self, number: int) -> list[bytes]:
        """
        The targets at which a node has a value.
        """
        return [target for holder, target in self._held if holder == number]

    def at(self, target: bytes) -> dict[int, T]:
        """
        The values at a target, by node.
        """
        return {number: value for (number, held), value in self._held.items() if held == target}


class Items:
    """
    BEP44 items.

    @ivar mutable: the mutable items, by the node's number and the target.
    @ivar immutable: the immutable values, bencoded, by the node's number and the target.
    """

    def __init__(self) -> None:
        self.mutable: BoundedStore[MutableItem] = BoundedStore()
        self.immutable: BoundedStore[bytes] = BoundedStore()

    def find(self, number: int, target: bytes, any_kind: bool) -> MutableItem | bytes | None:
        """
        The item that a C{get} finds; C{None} if there is none.

        @param any_kind: the query has no C{seq}: an immutable item takes precedence.
        """
        immutable = self.immutable.get(number, target) if any_kind else None
        return self.mutable.get(number, target) if immutable is None else immutable

    def put(self, number: int, manner: Manner, arguments: dict[bytes, Any]) -> None:
        """
        Handle a C{put} with a valid token, as a node with this behaviour does.

        @raise Refused: the node refuses it.
        """
        value = arguments.get(b"v")
        if value is None:
            raise Refused(PROTOCOL_ERROR)
        encoded = Encoded(encode(value))
        raw = manner.raw_size and type(value) is bytes
        if (len(value) if raw else len(encoded)) > MAX_VALUE_SIZE:
            raise Refused(VALUE_TOO_BIG)
        key, signature = arguments.get(b"k"), arguments.get(b"sig")
        salt = arguments.get(b"salt", b"")
        if key is None and signature is None:
            self.immutable.put(number, immutable_target(encoded), encoded)
            return
        if type(key) is not bytes or type(salt) is not bytes:
            raise Refused(PROTOCOL_ERROR)
        if len(salt) > MAX_SALT_SIZE and not manner.any_salt:
            raise Refused(SALT_TOO_BIG)
        if signature is None and manner.shadows:
            self.immutable.put(number, mutable_target(key, salt), encoded)
            return
        seq = arguments.get(b"seq")
        if type(signature) is not bytes or type(seq) is not int or not 0 <= seq <= MAX_SEQ:
            raise Refused(PROTOCOL_ERROR)
        if seq > manner.max_seq:
            raise Refused(0)
        self._put_mutable(number, manner, MutableItem(key, salt, seq, encoded, signature), arguments)

    def _put_mutable(
        self, number: int, manner: Manner, item: MutableItem, arguments: dict[bytes, Any]
    ) -> None:
        if not item.is_genuine():
            raise Refused(manner.bad_signature)
        target = item.target
        stored = self.mutable.get(number, target)
        if stored is not None:
            cas = arguments.get(b"cas")
            if type(cas) is int and cas != stored.seq:
                raise Refused(CAS_MISMATCH)
            if item.seq < stored.seq:
                raise Refused(SEQ_TOO_LOW)
            if item.seq == stored.seq:
                same = item.encoded == stored.encoded
                if manner.equal == "refuse same" or (manner.equal == "refuse" and not same):
                    raise Refused(SEQ_TOO_LOW)
                if manner.equal == "keep":
                    return
        self.mutable.put(number, target, item)
