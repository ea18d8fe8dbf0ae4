"""
Shared by the benchmarks of DHT servers: the servers, their neighbours, and the queries
sent to them.

A server is a separate process. Its arguments are C{HOST:PORT} of bootstrap nodes; it
prints C{ready PORT}, and serves until its standard input is closed.
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

#: For each fake neighbour, the number of bits that its id shares with a server's id. In a DHT of
#: millions of nodes, every bucket is as full as the server allows: k is 8 for dtt, 20 for
#: bittorrent-dht and mainline; libtorrent allows 128, 64, 32 and 16 in its first buckets ("extended
#: routing table").
DEPTHS = [depth for depth in range(22) for _ in range(max(20, 128 >> depth))]

#: The startup timeout of a server, in seconds.
_STARTS_WITHIN = 20.0

#: The timeout of a build or an installation, in seconds.
_BUILT_WITHIN = 900.0

#: The number of concurrent queries of L{Asker}, and the seconds until a query is repeated.
_WINDOW = 32
_REPEAT_AFTER = 0.5

Address = tuple[str, int]


class UnavailableError(Exception):
    """
    A server is not available on this machine; the message gives the reason.
    """


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_BUILT_WITHIN
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{' '.join(command)}: timed out") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{' '.join(command)}: {words[-1] if words else done.returncode}")


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not installed")


def _mainline() -> list[str]:
    binary = _CARGO / "target" / "release" / "mainline-server"
    source = _CARGO / "src" / "main.rs"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        _needs("cargo")
        print("building the mainline server, which takes minutes the first time", flush=True)
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


#: Functions that return the command of each server. They raise L{UnavailableError} if the server can't
#: run here.
SERVERS = {
    "dtt": lambda: _python("dtt_server.py"),
    "libtorrent": _libtorrent,
    "bittorrent-dht": _bittorrent_dht,
    "mainline": _mainline,
}

#: Functions that return the command of an echo server, for comparison.
ECHOES = {
    "Twisted echo": lambda: [*_python("echo_server.py"), "twisted"],
    "epoll echo": lambda: [*_python("echo_server.py"), "epoll"],
}


class Server:
    """
    A running server.

    @ivar name: a key of L{SERVERS} or L{ECHOES}.
    @ivar port: its UDP port on loopback.
    @ivar pid: its process id.
    """

    def __init__(self, name: str, core: int | None = None, bootstrap: Sequence[Address] = ()) -> None:
        """
        @param core: the core for all its threads.
        @raise UnavailableError: the server can't run here.
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
        Stop the server.
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
        For each thread, the seconds that it has run, and that it has waited for its core.
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
        The RSS of the server, in bytes.
        """
        return resident(self.pid)


def pin(pid: int, core: int) -> None:
    """
    Pin a process that has just started to one core.
    """
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def resident(pid: int) -> int:
    """
    The RSS of a process, in bytes.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class FakeNodes:
    """
    Nodes on loopback, all in one thread, that answer every query: the neighbours of each
    server.

    For each server they have other ids, which share the numbers of bits in L{DEPTHS} with
    the server's id. So all servers are offered the same, and each fills its buckets as it
    would in the real DHT.

    @ivar addresses: (host, port) of each node.
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
        # By the port of the server.
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
        Let each node ping a server, a few at a time, so that the server knows of all of
        them. The server queries those that it wants to keep.

        @raise UnavailableError: the server has not queried any of them.
        """
        if port not in self._ids:
            raise UnavailableError("it does not query its bootstrap nodes")
        for number, node in enumerate(self._nodes):
            node.sendto(encode_query(b"ping", b"ping", self._ids[port][number], {}, False), (LOOPBACK, port))
            if number % 8 == 0:
                time.sleep(0.01)

    def known(self, port: int, asker: Asker) -> int:
        """
        The number of fake nodes that a server returns.
        """
        ids = set(self._ids[port])
        found: set[bytes] = set()
        for reply in asker.ask([(b"find_node", {b"target": target}) for target in ids]):
            compact = reply[b"r"].get(b"nodes", b"")
            found.update(compact[start : start + 20] for start in range(0, len(compact), 26))
        return len(found & ids)

    def stop(self) -> None:
        """
        Close all sockets.
        """
        self._over = True
        self._thread.join()
        self._selector.close()
        for node in self._nodes:
            node.close()


class Asker:
    """
    Sends queries to a server and returns the replies. Not optimized for speed.
    """

    def __init__(self, port: int, node_id: bytes) -> None:
        """
        @param node_id: the node id in the queries.
        """
        self._id = node_id
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((LOOPBACK, port))
        self._socket.settimeout(_REPEAT_AFTER)

    def ask(self, queries: Sequence[tuple[bytes, dict[bytes, Any]]]) -> list[dict[bytes, Any]]:
        """
        Send queries and wait for the replies.

        @param queries: methods and arguments without C{id}.
        @return: the replies, whole messages, in the order of the queries.
        @raise TimeoutError: the server has stopped answering.
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
        Get tokens for puts.
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
    The arguments of a C{put}; mainline also requires a target (docs/protocol/dht.md
    section 2).
    """
    return {**item.arguments(), b"target": item.target, b"token": token}


@frozen(slots=True)
class Items:
    """
    Creates mutable items with a value of C{size} bytes, bencoded, each with its own salt.
    """

    seed: bytes
    rng: random.Random
    size: int = 604

    def make(self, count: int, seq: int = 1) -> list[MutableItem]:
        """
        New items.
        """
        return [self.again(self.rng.randbytes(8), seq) for _ in range(count)]

    def again(self, salt: bytes, seq: int) -> MutableItem:
        """
        A new version of an item, with another value.
        """
        value = self.rng.randbytes(self.size - len(b"%d:" % self.size))
        return sign_item(self.seed, salt, seq, value)
