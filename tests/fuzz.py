"""
Fuzzer for a DHT node. C{python -m tests.fuzz [--seconds S] [--datagrams N] [--seed N]}
feeds two complete nodes without a network, a closed and an open one, with datagrams made by
a KRPC grammar, recorded datagrams of real programs, and mutations of both; and with
responses to their queries while they look up, read and write. It exits with code 1 if an
exception was raised, if something was sent for an undecodable datagram, if a table exceeded
its bound, or if an operation did not end. It prints its seed, what was dropped and why, and
the cost of datagrams (microseconds of CPU; the highest is the smallest of three tries,
except for responses, which are measured once).
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random, SystemRandom
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dtt.dht import maintenance as neighbourhood
from dtt.dht.node import DHTNode
from dtt.dht.server.storage import MAX_ITEMS, MAX_PEERS
from dtt.dht.server.upload import MAX_CHARGED, MAX_PROVEN
from dtt.errors import DecodeError, LookupFailed
from dtt.krpc.flood import MAX_SOURCES
from dtt.krpc.messages import Query, Response, decode, encode_query
from dtt.krpc.pacing import MAX_BUDGETS
from tests.fuzz_grammar import KEY, SEED, Grammar

#: Concurrent operations of a node, and the limit for one of them in seconds of the clock.
OPERATIONS = 8
LIMIT = 120.0

#: The number of a node's queries that can still be answered.
PENDING = 64

#: The maximum number of open transactions of one node: each lookup may have 256.
MAX_TRANSACTIONS = 256 * (OPERATIONS + 4)


class _Port:
    """
    A UDP port that records what is sent.
    """

    maxThroughput = 0

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """
        Record a datagram.
        """
        self.sent.append((datagram, address))

    def getHost(self) -> IPv4Address:
        """
        Return its address.
        """
        return IPv4Address("UDP", "10.0.0.99", 6881)

    def stopListening(self) -> None:
        """
        Do nothing.
        """


class _Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.port = _Port()

    def listenUDP(self, port: int, protocol: DatagramProtocol, **more: Any) -> _Port:
        """
        Return the only port.
        """
        protocol.makeConnection(cast(Any, self.port))
        return self.port


class Target:
    """
    A node under attack.

    @ivar kinds: the kinds of the datagrams.
    @ivar dearest: for queries, responses and others: the highest cost in seconds, and its
        datagram.
    @ivar total: the total cost in seconds, and the number of datagrams.
    """

    def __init__(self, rng: Random, closed: bool) -> None:
        self.rng = rng
        self.closed = closed
        self.reactor = _Reactor()
        self.reactor.rightNow = 1_800_000_000.0
        self.node = DHTNode(
            self.reactor, rng=rng, closed=closed, bootstrap=[("10.0.0.1", 6881), ("80.0.0.1", 6881)]
        )
        self.node.startService()
        self.grammar = Grammar(rng, self._token)
        self.kinds: Counter[str] = Counter()
        self.costliest: dict[str, tuple[float, bytes]] = {}
        self.total: dict[str, tuple[float, int]] = {}
        self.pending: list[tuple[Query, tuple[str, int]]] = []
        self.operations: dict[Deferred[Any], float] = {}
        self.ended: Counter[str] = Counter()

    def _token(self, target: bytes) -> bytes:
        # A token as a node at this address would have got it from a query.
        query = encode_query(b"tttt", b"get_peers", b"q" * 20, {b"info_hash": target}, True)
        self._collect()
        self.node.krpc.datagramReceived(query, ("10.0.0.1", 7))
        sent, self.reactor.port.sent = self.reactor.port.sent, []
        for datagram, _ in sent:
            answer = decode(datagram)
            if isinstance(answer, Response):
                return cast(bytes, answer.values[b"token"])
        return b"no token"

    def _collect(self) -> int:
        """
        Record the node's queries, to be answered later.

        @return: the number of other datagrams sent.
        """
        others = 0
        for datagram, address in self.reactor.port.sent:
            message = decode(datagram)
            if isinstance(message, Query):
                self.pending.append((message, address))
            else:
                others += 1
        self.reactor.port.sent.clear()
        while len(self.pending) > PENDING:
            self.pending.pop(self.rng.randrange(len(self.pending)))
        return others

    def step(self) -> None:
        """
        Feed one datagram.

        @raise AssertionError: the node misbehaved.
        """
        rng = self.rng
        if self.pending and rng.random() < 0.3:
            query, address = self.pending.pop(rng.randrange(len(self.pending)))
            data = self.grammar.reply_to(query)
        else:
            data = self.grammar.datagram()
            # Send half of them from an address for which the tokens are valid.
            host = ".".join(str(byte) for byte in (rng.choice((10, 80, 127)), *rng.randbytes(3)))
            address = ("10.0.0.1" if rng.random() < 0.5 else host, rng.randrange(1, 65536))
        try:
            kind = type(decode(data)).__name__
        except DecodeError:
            kind = "undecodable"
        self.kinds[kind] += 1
        self._collect()
        took = self._deliver(data, address)
        answers = self._collect()
        seconds, count = self.total.get(kind, (0.0, 0))
        self.total[kind] = (seconds + took, count + 1)
        if took > self.costliest.get(kind, (0.0, b""))[0]:
            if kind != "Response":
                took = min(took, self._deliver(data, address), self._deliver(data, address))
                self._collect()
            if took > self.costliest.get(kind, (0.0, b""))[0]:
                self.costliest[kind] = (took, data)
        assert answers == 0 or (answers == 1 and kind == "Query"), f"{answers} answers to {data!r}"
        self._check(data)
        if len(self.operations) < OPERATIONS and rng.random() < 0.01:
            self._begin()
        self.reactor.advance(rng.expovariate(1000))

    def _deliver(self, data: bytes, address: tuple[str, int]) -> float:
        began = time.thread_time()
        self.node.krpc.datagramReceived(data, address)
        return time.thread_time() - began

    def _check(self, data: bytes) -> None:
        node = self.node
        area = node.sides[0].neighbourhood
        responder, krpc = node.responder, node.krpc
        assert krpc.counters["faults"] == 0, f"a fault in the protocol: {data!r}"
        assert responder.counters["faults"] == 0, f"a fault in the responder: {data!r}"
        gate = krpc._limiter
        sizes = {
            "items": (len(responder.items), MAX_ITEMS),
            "peers": (len(responder.peers), MAX_PEERS),
            "nodes": (len(node.table), 160 * 8),
            "transactions": (krpc.transactions, MAX_TRANSACTIONS),
            "budgets": (len(krpc._budgets), MAX_BUDGETS),
            "sources": (0 if gate is None else len(gate), MAX_SOURCES),
            "proven": (len(responder.limits._proven), MAX_PROVEN),
            "charged": (len(responder.limits._charged), MAX_CHARGED),
            "sent to": (len(area._sent_to), neighbourhood.MAX_SENT_TO),
            # One for each pending query, and one for each target.
            "pings": (area._pings, neighbourhood.MAX_PINGS + MAX_TRANSACTIONS),
            "timers": (len(self.reactor.getDelayedCalls()), 16),
        }
        for name, (size, most) in sizes.items():
            assert size <= most, f"{size} {name}"
        now = self.reactor.seconds()
        assert not self.operations or min(self.operations.values()) > now - LIMIT, "an operation does not end"

    def _begin(self) -> None:
        rng, node = self.rng, self.node
        target = rng.randbytes(20)
        operation: Deferred[Any] = rng.choice(
            (
                lambda: node.get_mutable(KEY),
                lambda: node.put_latest(SEED, b"value", rng.randrange(9)),
                lambda: node.get_immutable(target),
                lambda: node.put_immutable(b"20:" + target),
                lambda: node.get_peers(target),
                lambda: node.announce_peer(target, 0),
                lambda: node.sample_infohashes(target),
            )
        )()
        self.operations[operation] = self.reactor.seconds()

        def ended(result: object) -> None:
            self.operations.pop(operation, None)
            if isinstance(result, Failure):
                # Any other exception is reported unchanged.
                why = result.trap(CancelledError, LookupFailed)
                self.ended["cancelled" if why is CancelledError else "unanswered"] += 1
            else:
                self.ended["completed"] += 1

        def failed(failure: Failure) -> None:
            self.ended[f"failed: {failure.value!r}"] += 1

        operation.addBoth(ended).addErrback(failed)
        if rng.random() < 0.1:
            self.reactor.callLater(rng.random(), operation.cancel)

    def finish(self) -> None:
        """
        Let the time pass that operations may take, while nobody answers any more.

        @raise AssertionError: one of them has not ended then.
        """
        for _ in range(int(LIMIT)):
            self.reactor.advance(1)
        assert not self.operations, "an operation does not end"

    def failures(self) -> list[str]:
        """
        Return the operations that ended unexpectedly.
        """
        return [how for how in self.ended if how.startswith("failed")]


class Fuzzer:
    """
    A closed and an open node.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.targets = [Target(self.rng, True), Target(self.rng, False)]

    def step(self) -> None:
        """
        Feed one datagram to one of the nodes.

        @raise AssertionError: it misbehaved.
        """
        target = self.targets[self.rng.random() < 0.3]
        target.step()
        assert not target.failures(), target.failures()

    def finish(self) -> None:
        """
        Let all operations end.

        @raise AssertionError: one of them did not, or failed.
        """
        for target in self.targets:
            target.finish()
            assert not target.failures(), target.failures()


def main(arguments: Sequence[str]) -> int:
    """
    Run the fuzzer.

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
    # The time of garbage collection is unrelated to any datagram.
    gc.disable()
    began = time.monotonic()
    count = 0
    try:
        while count < options.datagrams and time.monotonic() - began < options.seconds:
            fuzzer.step()
            count += 1
            if count % 5000 == 0:
                gc.collect()
        fuzzer.finish()
    except AssertionError as error:
        print(f"datagram {count} of seed {options.seed}: {error}")
        return 1
    print(f"{count} datagrams in {time.monotonic() - began:.0f} s")
    for target in fuzzer.targets:
        print("closed node:" if target.closed else "open node:")
        print(f"  {dict(target.kinds)}; operations {dict(target.ended)}")
        print(f"  {dict(sorted(target.node.statistics().items()))}")
        for kind, (took, data) in sorted(target.costliest.items()):
            seconds, number = target.total[kind]
            mean = seconds / number
            print(f"  {kind}: mean {mean * 1e6:.0f} us, costliest {took * 1e6:.0f} us: {data[:60]!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
