"""
The input of the fuzzer: datagrams made by a KRPC grammar, recorded datagrams of real
programs, and mutations of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair

from dtt.krpc.bencode import decode, encode
from dtt.krpc.items import mutable_target, sign
from dtt.krpc.messages import Query, encode_query, encode_response

#: Traffic recorded between libtorrent, bittorrent-dht, the crate mainline and dtt:
#: L{tests.interop.record}.
RECORDED = tuple(
    bytes.fromhex(line) for line in (Path(__file__).parent / "vectors" / "krpc.txt").read_text().split()
)

SEED = b"f" * 32
KEY = crypto_sign_seed_keypair(SEED)[0]

_METHODS = (b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"sample_infohashes", b"x")
_KEYS = (
    b"id", b"target", b"info_hash", b"port", b"implied_port", b"token", b"k", b"v", b"seq", b"cas", b"sig",
    b"salt", b"want", b"nodes", b"values", b"ro", b"x",
)  # fmt: skip


class Grammar:
    """
    Makes datagrams, from plausible to absurd.
    """

    def __init__(
        self, rng: Random, token: Callable[[bytes], bytes], recorded: Sequence[bytes] = RECORDED
    ) -> None:
        """
        @param token: a valid token for a target.
        @param recorded: datagrams of real programs.
        """
        self._recorded = recorded
        self._rng = rng
        self._token = token

    def datagram(self) -> bytes:
        """
        Return the next datagram, at most 1500 bytes.
        """
        rng = self._rng
        make = rng.choice(
            (
                self._query,
                self._query,
                self._reply,
                self._nonsense,
                self._nested,
                self._put,
                self._real,
                self._real,
                self._real,
            )
        )
        data = make()
        while rng.random() < 0.4:
            data = self._mutated(data)
        return data[:1500]

    def reply_to(self, query: Query) -> bytes:
        """
        Return a hostile response to one of our queries, at most 1500 bytes.
        """
        rng = self._rng
        if rng.random() < 0.1:
            code = rng.choice((201, 203, 301, 302, 0, -1, 2**63, b"x"))
            return encode({b"e": [code, self._bytes()], b"t": query.transaction, b"y": b"e"})
        target = query.arguments.get(b"target") or query.arguments.get(b"info_hash") or bytes(20)
        values: dict[bytes, Any] = {
            b"nodes": b"".join(self._node(target, 4) for _ in range(rng.choice((0, 1, 8, 20, 45)))),
            b"token": rng.randbytes(rng.choice((0, 4, 8, 20, 64, 65))),
            b"values": [rng.randbytes(6) for _ in range(rng.choice((0, 0, 1, 50)))],
            b"samples": rng.randbytes(20 * rng.randrange(9)),
            b"num": rng.randrange(100),
            b"interval": rng.randrange(30000),
        }
        if rng.random() < 0.3:
            salt, seq = b"", rng.randrange(5)
            value = self._bytes()
            values |= {b"k": KEY, b"seq": seq, b"v": value, b"sig": sign(SEED, salt, seq, encode(value))}
        for key in rng.sample(sorted(values), rng.randrange(len(values))):
            if rng.random() < 0.5:
                del values[key]
            elif rng.random() < 0.5:
                values[key] = self._value()
        ip = rng.choice((None, rng.randbytes(6), rng.randbytes(18), bytes((9, 8, 7, 6, 1, 1))))
        node_id = target[: rng.randrange(20)]
        return encode_response(query.transaction, node_id + rng.randbytes(20 - len(node_id)), values, ip)[
            :1500
        ]

    def _node(self, target: bytes, address_size: int) -> bytes:
        rng = self._rng
        near = target[: rng.randrange(20)]
        address = bytes((rng.choice((10, 80, 81, 127, 0, 255)), rng.randrange(3), rng.randrange(256), 1))
        return near + rng.randbytes(20 - len(near)) + address + rng.choice((b"\0\0", b"\x1a\xe1"))

    def _real(self) -> bytes:
        data = self._rng.choice(self._recorded)
        message = decode(data)
        for _ in range(self._rng.choice((0, 0, 1, 1, 2, 5))):
            self._change(message)
        return encode(message)

    def _change(self, value: Any) -> None:
        # Change one value in a message: replace it, remove it, or add one.
        rng = self._rng
        while True:
            keys = list(range(len(value))) if type(value) is list else sorted(value)
            if not keys:
                return
            key = rng.choice(keys)
            if type(value[key]) not in (list, dict) or rng.random() < 0.2:
                break
            value = value[key]
        match rng.randrange(4):
            case 0:
                del value[key]
            case 1 if type(value) is dict:
                value[rng.choice(_KEYS)] = self._value()
            case 2 if type(value[key]) is bytes:
                value[key] = self._mutated(value[key])[:1200]
            case _:
                value[key] = self._value()

    def _bytes(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 1, 4, 8, 19, 20, 20, 20, 21, 26, 32, 64, 65, 600)))

    def _value(self, depth: int = 0) -> Any:
        rng = self._rng
        match rng.randrange(8 if depth < 3 else 5):
            case 0 | 1 | 2:
                return self._bytes()
            case 3:
                return rng.choice((0, 1, -1, 6881, 65535, 65536, 2**31, 2**63 - 1, 2**63, -(2**63), 10**19))
            case 4:
                return rng.choice((b"", [], {}, b"n4"))
            case 5 | 6:
                return [self._value(depth + 1) for _ in range(rng.randrange(4))]
            case _:
                return {rng.choice(_KEYS): self._value(depth + 1) for _ in range(rng.randrange(4))}

    def _query(self) -> bytes:
        rng = self._rng
        target = rng.randbytes(20)
        arguments = {
            b"target": target, b"info_hash": target, b"token": self._token(target), b"port": 6881
        }  # fmt: skip
        for _ in range(rng.randrange(4)):
            arguments[rng.choice(_KEYS)] = self._value()
        for key in rng.sample(sorted(arguments), rng.randrange(len(arguments))):
            if rng.random() < 0.2:
                del arguments[key]
        arguments.pop(b"id", None)
        return encode_query(rng.randbytes(4), rng.choice(_METHODS), rng.randbytes(20), arguments, False)

    def _put(self) -> bytes:
        rng = self._rng
        salt, seq = rng.randbytes(rng.choice((0, 8, 64, 65))), rng.choice((0, 1, 2**63 - 1))
        value = self._bytes()
        target = mutable_target(KEY, salt)
        arguments = {
            b"k": KEY, b"salt": salt, b"seq": seq, b"sig": sign(SEED, salt[:64], seq, encode(value)),
            b"target": target, b"token": self._token(target), b"v": value,
        }  # fmt: skip
        return encode_query(rng.randbytes(4), b"put", rng.randbytes(20), arguments, False)

    def _reply(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.3:
            return encode({b"e": self._value(), b"t": rng.randbytes(4), b"y": b"e"})
        values = {rng.choice(_KEYS): self._value() for _ in range(rng.randrange(5))}
        values.pop(b"id", None)
        return encode_response(rng.randbytes(4), rng.randbytes(20), values, None)

    def _nonsense(self) -> bytes:
        return self._rng.randbytes(self._rng.randrange(1500))

    def _nested(self) -> bytes:
        rng = self._rng
        count = rng.randrange(750)
        return rng.choice(
            (
                b"l" * count,
                b"l" * count + b"e" * count,
                b"d1:x" * count,
                b"d1:ad2:id20:"
                + rng.randbytes(20)
                + b"1:x"
                + b"l"
                + b"le" * count
                + b"ee1:q4:ping1:t4:tttt1:y1:qe",
                b"i" + b"9" * count + b"e",
                b"9" * count + b":",
                b"d" + b"1:a0:" * count + b"e",
                b"l" + b"i1e" * count + b"e",
            )
        )

    def _mutated(self, data: bytes) -> bytes:
        rng = self._rng
        if not data:
            return data
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 2:
                return data[:at] + data[at + rng.randrange(1, 8) :]
            case 3:
                return (
                    data[:at] + rng.choice((b"e", b"l", b"d", b"i", b"0:", b"1:", b"i-0e", b"00")) + data[at:]
                )
            case 4:
                end = min(len(data), at + rng.randrange(1, 64))
                return data[:end] + data[at:end] + data[end:]
            case _:
                return data + data[:at]
