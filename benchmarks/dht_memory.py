"""
The memory use of a dtt node.

C{python -m benchmarks.dht_memory [--quick]}, in a checkout, on Linux. Measures the RSS in
bytes per stored mutable item of 604 bytes, and per node in the routing table, each with many of them in a
separate process, as the median of several runs; and the RSS of an idle dtt node (and of an idle libtorrent
node, for comparison).

The items arrive as datagrams and pass decoder and responder, 100 from each network, the
most that one network may store. The nodes are in many tables of about 1100 nodes each.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock

from benchmarks.dht_support import LOOPBACK, Items, Server, UnavailableError, put_arguments, resident
from dtt.dht.routing.buckets import K
from dtt.dht.routing.table import RoutingTable
from dtt.dht.server.resources import Resources
from dtt.dht.server.responder import Responder
from dtt.dht.server.storage import MAX_ITEMS_OF_NETWORK, ItemStore, PeerStore
from dtt.dht.server.upload import AnswerLimits
from dtt.interfaces import Contact
from dtt.krpc.items import MAX_SEQ
from dtt.krpc.messages import Query, Response, decode, encode_query

#: Goals (must, ambition) in bytes.
GOALS = {
    "stored item": (1100, 850),
    "routing entry": (500, 430),
    "idle node": (38e6, 34e6),
}

#: The number of buckets filled in a table.
BUCKETS = 140

#: Seconds until an idle node has settled.
SETTLE = 2.0


def items(count: int) -> float:
    """
    Bytes per stored item.
    """
    rng = random.Random(1)
    responder = Responder(
        Clock(),
        rng.randbytes(20),
        lambda target: b"",
        rng=rng,
        resources=Resources(
            AnswerLimits(closed=True), ItemStore(bytes(20), capacity=2 * count), PeerStore(bytes(20))
        ),
    )
    maker = Items(rng.randbytes(32), rng)

    def ask(method: bytes, arguments: dict[bytes, object], host: str) -> Response:
        query = decode(encode_query(b"txid", method, bytes(20), arguments, False))
        assert isinstance(query, Query)
        reply = responder.answer(query, host, 6881)
        assert reply is not None
        response = decode(reply)
        assert isinstance(response, Response), response
        return response

    def store(first: int, last: int) -> None:
        for number in range(first, last):
            item = maker.make(1, MAX_SEQ)[0]
            network = number // MAX_ITEMS_OF_NETWORK
            host = f"10.{network >> 8}.{network & 255}.1"
            token = ask(b"get", {b"target": item.target}, host).values[b"token"]
            ask(b"put", put_arguments(item, token), host)

    # Exclude one-time allocations.
    store(0, MAX_ITEMS_OF_NETWORK)
    gc.collect()
    before = resident(os.getpid())
    store(MAX_ITEMS_OF_NETWORK, MAX_ITEMS_OF_NETWORK + count)
    gc.collect()
    after = resident(os.getpid())
    assert len(responder.items) == count + MAX_ITEMS_OF_NETWORK
    return (after - before) / count


def nodes(count: int) -> float:
    """
    Bytes per node in a routing table.
    """
    rng = random.Random(1)

    def table() -> RoutingTable:
        own = rng.getrandbits(160)
        table = RoutingTable(own.to_bytes(20), 0.0)
        for depth in range(BUCKETS):
            for _ in range(K):
                node_id = own ^ 1 << 159 - depth ^ rng.getrandbits(159 - depth)
                host = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
                table.responded(Contact(node_id.to_bytes(20), host, rng.randrange(1024, 65536)), rng.random())
        return table

    tables = [table()]
    gc.collect()
    before = resident(os.getpid())
    while sum(map(len, tables[1:])) < count:
        tables.append(table())
    gc.collect()
    after = resident(os.getpid())
    return (after - before) / sum(map(len, tables[1:]))


def in_own_process(what: str, count: int) -> float:
    """
    The result of L{items} or L{nodes}, computed in a new process.
    """
    command = [sys.executable, "-m", "benchmarks.dht_memory", "--one", what, str(count)]
    root = Path(__file__).parents[1]
    return float(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def idle_dtt() -> float:
    """
    The RSS of C{dtt node} without a network.
    """
    command = [sys.executable, "-m", "dtt", "node", "--closed", "--bind", LOOPBACK]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            time.sleep(SETTLE)
            return float(resident(process.pid))
        finally:
            process.terminate()


def idle(name: str) -> float:
    """
    The RSS of another server without a network.
    """
    server = Server(name)
    try:
        time.sleep(SETTLE)
        return float(server.resident())
    finally:
        server.stop()


def report(name: str, values: Sequence[float], unit: float, word: str) -> None:
    """
    Print a line.
    """
    value = statistics.median(values)
    must, ambition = GOALS[name]
    reached = "ambition" if value <= ambition else "must" if value <= must else "MISSED"
    spread = f"({min(values) / unit:.1f}-{max(values) / unit:.1f})"
    print(
        f"{name:14}{value / unit:9.1f} {word:3}{spread:>18}   must {must / unit:6.0f}"
        f"   ambition {ambition / unit:6.0f}   {reached}",
        flush=True,
    )


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure the memory use of a dtt node.")
    parser.add_argument("--quick", action="store_true", help="fewer items and runs, under a minute")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print({"items": items, "nodes": nodes}[options.one[0]](int(options.one[1])))
        return
    runs, count = (2, 10_000) if options.quick else (5, 30_000)
    report("stored item", [in_own_process("items", count) for _ in range(runs)], 1, "B")
    report("routing entry", [in_own_process("nodes", count) for _ in range(runs)], 1, "B")
    report("idle node", [idle_dtt() for _ in range(runs)], 1e6, "MB")
    try:
        print(f"a libtorrent node in the same shape: {idle('libtorrent') / 1e6:.1f} MB")
    except UnavailableError as error:
        print(f"skipping libtorrent: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
