"""
What the benchmarks of DHT servers share: the servers, their neighbours, and
what is sent to them.

A server is a process of its own that is given C{HOST:PORT} of bootstrap nodes,
says C{ready PORT}, and serves until its standard input is closed.
"""

from __future__ import annotations

import os
import random
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from dtt.krpc.bencode import decode, encode
from dtt.krpc.items import MutableItem, sign_item
from dtt.krpc.messages import encode_query

LOOPBACK = "127.0.0.1"

_SERVERS = Path(__file__).parent / "servers"
_CARGO = _SERVERS / "mainline"
_NODE = _SERVERS / "bittorrent-dht"

#: For each fake neighbour, how many bits its id shares with a server's.  In a
#: DHT of millions every bucket is as full as the server lets it be: k is 8 for
#: dtt, 20 for bittorrent-dht and mainline, and libtorrent lets its first ones
#: grow to 128, 64, 32 and 16 ("extended routing table").
DEPTHS = [depth for depth in range(22) for _ in range(max(20, 128 >> depth))]

#: Seconds that a server may take to begin.
_STARTS_WITHIN = 20.0

#: Seconds that a build or an installation may take.
_BUILT_WITHIN = 900.0

#: Queries that L{Asker} has open at a time, and seconds until one is repeated.
_WINDOW = 32
_REPEAT_AFTER = 0.5

Address = tuple[str, int]


class UnavailableError(Exception):
    """
    A server can't be had on this machine; says why.
    """


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_BUILT_WITHIN
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{' '.join(command)}: took too long") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{' '.join(command)}: {words[-1] if words else done.returncode}")


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise UnavailableError(f"there is no {program} here")


def _mainline() -> list[str]:
    binary = _CARGO / "target" / "release" / "mainline-server"
    source = _CARGO / "src" / "main.rs"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        _needs("cargo")
        print("building the mainline server: minutes, once", flush=True)
        _run(["cargo", "build", "--release", "--locked"], _CARGO)
    return [str(binary)]


def _bittorrent_dht() -> list[str]:
    _needs("node")
    if not (_NODE / "node_modules").exists():
        _needs("npm")
        print("installing bittorrent-dht", flush=True)
        _run(["npm", "ci", "--no-audit", "--no-fund"], _NODE)
    return ["node", str(_NODE / "server.js")]


def _python(script: str) -> list[str]:
    return [sys.executable, str(_SERVERS / script)]


def _libtorrent() -> list[str]:
    try:
        import libtorrent  # noqa: F401
    except ImportError as error:
        raise UnavailableError("libtorrent can't be imported (pip install libtorrent)") from error
    return _python("libtorrent_server.py")


#: What starts each server; L{UnavailableError} from those that can't be had.
SERVERS = {
    "dtt": lambda: _python("dtt_server.py"),
    "libtorrent": _libtorrent,
    "bittorrent-dht": _bittorrent_dht,
    "mainline": _mainline,
}

#: What starts a server that echoes, for comparison.
ECHOES = {
    "Twisted echo": lambda: [*_python("echo_server.py"), "twisted"],
    "epoll echo": lambda: [*_python("echo_server.py"), "epoll"],
}


class Server:
    """
    A running server.

    @ivar name: a key of L{SERVERS} or L{ECHOES}.
    @ivar port: its UDP port on loopback.
    @ivar pid: its process.
    """

    def __init__(self, name: str, core: int | None = None, bootstrap: Sequence[Address] = ()) -> None:
        """
        @param core: the one that it stays on, with all its threads.
        @raise UnavailableError: it can't be had.
        """
        self.name = name
        command = {**SERVERS, **ECHOES}[name]() + [f"{host}:{port}" for host, port in bootstrap]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        self.pid = self._process.pid
        if core is not None:
            pin(self.pid, core)
        assert self._process.stdout is not None
        watchdog = threading.Timer(_STARTS_WITHIN, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline().split()
        watchdog.cancel()
        if len(line) != 2 or line[0] != "ready":
            self.stop()
            raise UnavailableError("it did not start")
        self.port = int(line[1])

    def stop(self) -> None:
        """
        End it.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu(self) -> dict[str, tuple[float, float]]:
        """
        Of each of its threads: seconds that it has run, and has waited for
        its core.
        """
        threads = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                ran, waited, _ = (task / "schedstat").read_text().split()
            except OSError:
                continue
            threads[task.name] = int(ran) * 1e-9, int(waited) * 1e-9
        return threads

    def resident(self) -> int:
        """
        Bytes in memory, RSS.
        """
        return resident(self.pid)


def pin(pid: int, core: int) -> None:
    """
    Keep a process, as it is just starting, on one core.
    """
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def resident(pid: int) -> int:
    """
    RSS of a process, bytes.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class FakeNodes:
    """
    Nodes on loopback, one thread for all, that answer whatever they are asked:
    the neighbours that every server is given.

    For each server they have ids of their own, which share so many bits with
    the server's as L{DEPTHS} says: so all servers are offered the same, and
    each fills its buckets as it would in the real DHT.

    @ivar addresses: (host, port) of each.
    """

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._nodes = []
        self._selector = selectors.DefaultSelector()
        for number in range(len(DEPTHS)):
            node = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            node.bind((LOOPBACK, 0))
            node.setblocking(False)
            self._nodes.append(node)
            self._selector.register(node, selectors.EVENT_READ, number)
        self.addresses: list[Address] = [node.getsockname() for node in self._nodes]
        # By the port of a server.
        self._ids: dict[int, list[bytes]] = {}
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.1):
                node = self._nodes[key.data]
                try:
                    datagram, address = node.recvfrom(4096)
                    message = decode(datagram)
                    if message[b"y"] == b"q":
                        ids = self._ids_for(address[1], message[b"a"][b"id"])
                        node.sendto(self._reply(message[b"t"], ids, key.data), address)
                except (OSError, ValueError, LookupError, TypeError):
                    continue

    def _ids_for(self, port: int, server_id: bytes) -> list[bytes]:
        if port not in self._ids:
            own = int.from_bytes(server_id)
            self._ids[port] = [
                (own ^ 1 << 159 - depth ^ self._rng.getrandbits(159 - depth)).to_bytes(20) for depth in DEPTHS
            ]
        return self._ids[port]

    def _reply(self, transaction: bytes, ids: list[bytes], number: int) -> bytes:
        nodes = b"".join(
            ids[other] + bytes((127, 0, 0, 1)) + self.addresses[other][1].to_bytes(2, "big")
            for other in self._rng.sample(range(len(ids)), 8)
        )
        values = {b"id": ids[number], b"nodes": nodes, b"token": b"tokentok"}
        return encode({b"r": values, b"t": transaction, b"y": b"r"})

    def greet(self, port: int) -> None:
        """
        Each of them pings a server, a few at a time, so that it knows of all;
        it asks back whom it likes.

        @raise UnavailableError: the server has not asked any of them.
        """
        if port not in self._ids:
            raise UnavailableError("it does not ask its bootstrap nodes")
        for number, node in enumerate(self._nodes):
            node.sendto(encode_query(b"ping", b"ping", self._ids[port][number], {}, False), (LOOPBACK, port))
            if number % 8 == 0:
                time.sleep(0.01)

    def known(self, port: int, asker: Asker) -> int:
        """
        How many of them a server tells of.
        """
        ids = set(self._ids[port])
        found: set[bytes] = set()
        for reply in asker.ask([(b"find_node", {b"target": target}) for target in ids]):
            compact = reply[b"r"].get(b"nodes", b"")
            found.update(compact[start : start + 20] for start in range(0, len(compact), 26))
        return len(found & ids)

    def stop(self) -> None:
        """
        Close all.
        """
        self._over = True
        self._thread.join()
        self._selector.close()
        for node in self._nodes:
            node.close()


class Asker:
    """
    Asks a server and reads what it says; not in a hurry.
    """

    def __init__(self, port: int, node_id: bytes) -> None:
        """
        @param node_id: who it says that it is.
        """
        self._id = node_id
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((LOOPBACK, port))
        self._socket.settimeout(_REPEAT_AFTER)

    def ask(self, queries: Sequence[tuple[bytes, dict[bytes, Any]]]) -> list[dict[bytes, Any]]:
        """
        @param queries: methods and arguments without C{id}.
        @return: the replies, whole messages, in the order of the queries.
        @raise TimeoutError: the server does not answer any more.
        """
        replies: dict[int, dict[bytes, Any]] = {}
        waiting = list(range(len(queries)))[::-1]
        unanswered: set[int] = set()
        silence = 0
        while len(replies) < len(queries):
            while waiting and len(unanswered) < _WINDOW:
                number = waiting.pop()
                unanswered.add(number)
                method, arguments = queries[number]
                self._socket.send(encode_query(number.to_bytes(4, "big"), method, self._id, arguments, False))
            try:
                message = decode(self._socket.recv(65536))
            except TimeoutError:
                silence += 1
                if silence == 6:
                    raise
                waiting += unanswered
                unanswered.clear()
                continue
            if message[b"y"] == b"q":
                self._socket.send(encode({b"r": {b"id": self._id}, b"t": message[b"t"], b"y": b"r"}))
                continue
            number = int.from_bytes(message[b"t"], "big")
            unanswered.discard(number)
            replies[number] = message
        return [replies[number] for number in range(len(queries))]

    def tokens(self, items: Sequence[MutableItem]) -> list[bytes]:
        """
        Tokens to put items with.
        """
        replies = self.ask([(b"get", {b"target": item.target}) for item in items])
        return [reply[b"r"][b"token"] for reply in replies]

    def close(self) -> None:
        """
        Close the socket.
        """
        self._socket.close()


def put_arguments(item: MutableItem, token: bytes) -> dict[bytes, Any]:
    """
    Of a C{put}; mainline wants a target, too (docs/protocol/dht.md section 2).
    """
    return {**item.arguments(), b"target": item.target, b"token": token}


@frozen(slots=True)
class Items:
    """
    Makes mutable items with a value of C{size} bytes, bencoded, each with a
    salt of its own.
    """

    seed: bytes
    rng: random.Random
    size: int = 604

    def make(self, count: int, seq: int = 1) -> list[MutableItem]:
        """
        New ones.
        """
        return [self.again(self.rng.randbytes(8), seq) for _ in range(count)]

    def again(self, salt: bytes, seq: int) -> MutableItem:
        """
        One with another value.
        """
        value = self.rng.randbytes(self.size - len(b"%d:" % self.size))
        return sign_item(self.seed, salt, seq, value)
