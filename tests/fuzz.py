"""
Feed a DHT node with what no honest node would send.

C{python -m tests.fuzz [--seconds S] [--datagrams N] [--seed N]}: datagrams made by
a grammar of KRPC, and mutations of real ones, go to the protocol and the
responder of a node without a network.  It ends with exit code 1 if anything
was raised, if something was sent for what can't be decoded, or if the node's
tables grew beyond their bounds; it prints its seed, what was dropped and why,
and the dearest datagram (microseconds; the smallest of three tries).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random, SystemRandom
from typing import Any, cast

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock

from dtt.dht.limits import AnswerLimits
from dtt.dht.responder import Responder
from dtt.dht.storage import MAX_ITEMS, MAX_PEERS
from dtt.errors import DecodeError
from dtt.krpc.bencode import encode
from dtt.krpc.items import mutable_target, sign
from dtt.krpc.messages import Error, Query, Response, decode, encode_query, encode_response
from dtt.krpc.protocol import KRPCProtocol

_SEED = b"f" * 32
_KEY = crypto_sign_seed_keypair(_SEED)[0]

_METHODS = (b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"sample_infohashes", b"x")
_KEYS = (
    b"id", b"target", b"info_hash", b"port", b"implied_port", b"token", b"k", b"v", b"seq", b"cas", b"sig",
    b"salt", b"want", b"nodes", b"values", b"ro", b"x",
)  # fmt: skip


class _Sink:
    """
    A transport that counts.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """
        Keep it.
        """
        self.sent.append(datagram)


class Grammar:
    """
    Datagrams, from plausible to absurd.
    """

    def __init__(self, rng: Random, token: Callable[[bytes], bytes]) -> None:
        """
        @param token: a valid token for a target.
        """
        self._rng = rng
        self._token = token

    def datagram(self) -> bytes:
        """
        The next one, at most 1500 bytes.
        """
        rng = self._rng
        make = rng.choice((self._query, self._query, self._reply, self._nonsense, self._nested, self._put))
        data = make()
        while rng.random() < 0.6:
            data = self._mutated(data)
        return data[:1500]

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
        target = mutable_target(_KEY, salt)
        arguments = {
            b"k": _KEY, b"salt": salt, b"seq": seq, b"sig": sign(_SEED, salt[:64], seq, encode(value)),
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


class Fuzzer:
    """
    A node without a network, and what became of what it got.
    """

    def __init__(self, seed: int) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.rng = Random(seed)
        self.sink = _Sink()
        own_id = self.rng.randbytes(20)
        self.responder = Responder(
            self.clock,
            own_id,
            lambda target: b"\x01" * 26 * 8,
            rng=self.rng,
            limits=AnswerLimits(closed=True),
        )
        self.protocol = KRPCProtocol(self.clock, own_id, answer=self.responder.answer, rng=self.rng)
        self.protocol.makeConnection(cast(IUDPTransport, self.sink))
        self.grammar = Grammar(self.rng, self._token)
        self.kinds: Counter[str] = Counter()
        self.dearest = (0.0, b"")

    def _token(self, target: bytes) -> bytes:
        # As a node at the fuzzer's address would have got it by a query.
        query = encode_query(b"tttt", b"get_peers", b"q" * 20, {b"info_hash": target}, False)
        before = len(self.sink.sent)
        self.protocol.datagramReceived(query, ("10.0.0.1", 7))
        if len(self.sink.sent) == before:
            return b"no token"
        answer = decode(self.sink.sent.pop())
        token = answer.values[b"token"] if isinstance(answer, Response) else b"no token"
        return cast(bytes, token)

    def step(self) -> None:
        """
        One datagram.

        @raise AssertionError: the node did what it must not.
        """
        data = self.grammar.datagram()
        # Half of them come from where the tokens are valid.
        host = (
            "10.0.0.1"
            if self.rng.random() < 0.5
            else f"10.{self.rng.randrange(256)}.{self.rng.randrange(256)}.{self.rng.randrange(256)}"
        )
        try:
            kind = type(decode(data)).__name__
        except DecodeError:
            kind = "undecodable"
        self.kinds[kind] += 1
        began = time.perf_counter()
        self.protocol.datagramReceived(data, (host, self.rng.randrange(1, 65536)))
        took = time.perf_counter() - began
        if took > self.dearest[0]:
            took = min(took, self._time(data), self._time(data))
            if took > self.dearest[0]:
                self.dearest = (took, data)
        assert self.protocol.counters["faults"] == 0, f"a fault: {data!r}"
        assert kind in (Query.__name__, Response.__name__, Error.__name__) or not self.sink.sent, (
            f"sent for what can't be decoded: {data!r}"
        )
        assert len(self.sink.sent) <= 1 or kind == "Query", f"more than one answer to {data!r}"
        assert len(self.responder.items) <= MAX_ITEMS, "too many items are stored"
        assert len(self.responder.peers) <= MAX_PEERS, "too many peers are stored"
        self.sink.sent.clear()
        self.clock.advance(self.rng.expovariate(1000))

    def _time(self, data: bytes) -> float:
        began = time.perf_counter()
        self.protocol.datagramReceived(data, ("10.0.0.1", 7))
        return time.perf_counter() - began


def main(arguments: Sequence[str]) -> int:
    """
    @return: the exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--datagrams", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    fuzzer = Fuzzer(options.seed)
    began = time.monotonic()
    count = 0
    try:
        while count < options.datagrams and time.monotonic() - began < options.seconds:
            fuzzer.step()
            count += 1
    except AssertionError as error:
        print(f"datagram {count} of seed {options.seed}: {error}")
        return 1
    took, data = fuzzer.dearest
    print(f"{count} datagrams in {time.monotonic() - began:.0f} s: {dict(fuzzer.kinds)}")
    print(f"node: {dict(sorted(fuzzer.protocol.counters.items()))}")
    print(f"responder: {dict(sorted(fuzzer.responder.counters.items()))}")
    print(f"dearest: {took * 1e6:.0f} us for {len(data)} bytes {data[:60]!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
