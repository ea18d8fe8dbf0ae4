"""
A common interface to four kinds of DHT nodes: dtt, libtorrent, bittorrent-dht (npm) and
the Rust crate mainline.

A L{Peer} puts and gets values with its own program's API. The latter two are the small
programs of benchmarks/servers, which read commands from standard input; their
dependencies are built on the first use, in folders that git ignores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from benchmarks.dht_support import SERVERS, UnavailableError
from dtt.dht.node import DHTNode
from dtt.krpc.bencode import decode, encode
from tests.interop.support import LOOPBACK, Address

if find_spec("libtorrent") is not None:
    from tests.interop.libtorrent_swarm import LibtorrentClient

#: The root of the checkout.
ROOT = Path(__file__).parents[2]

#: The C{seq} of all puts: bittorrent-dht can't answer a put with 2^63-1
#: (docs/protocol/dht.md section 1).
SEQ = 1


class Peer(Protocol):
    """
    A DHT node.

    @ivar kind: the program.
    @ivar address: its host and port.
    """

    kind: str
    address: Address

    def meet(self, address: Address) -> None:
        """
        Add a node that was started later; only libtorrent needs it (docs/protocol/dht.md
        section 5).
        """

    async def put(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        Store a byte string as a mutable item.
        """

    async def get(self, public_key: bytes, salt: bytes) -> bytes | None:
        """
        The value of a mutable item.
        """

    async def put_immutable(self, value: bytes) -> None:
        """
        Store a byte string as an immutable item.
        """

    async def get_immutable(self, target: bytes) -> bytes | None:
        """
        The byte string of an immutable item.
        """

    async def stop(self) -> None:
        """
        Stop the node.
        """


def immutable_target(value: bytes) -> bytes:
    """
    The target of a byte string.
    """
    return sha1(b"%d:%b" % (len(value), value)).digest()


class DTTPeer:
    """
    A dtt node in this process.
    """

    kind = "dtt"

    def __init__(self, reactor: Any, bootstrap: Sequence[Address]) -> None:
        self.node = DHTNode(reactor, interface=LOOPBACK, closed=True, bootstrap=bootstrap)
        self.node.privilegedStartService()
        self.node.startService()
        self.address = (LOOPBACK, self.node.port)

    def meet(self, address: Address) -> None:
        """
        Do nothing.
        """

    async def put(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        Store a mutable item.
        """
        result = await self.node.put_latest(seed, value, SEQ, salt)
        assert result.stored, result

    async def get(self, public_key: bytes, salt: bytes) -> bytes | None:
        """
        The value of a mutable item.
        """
        return next(iter((await self.node.get_mutable(public_key, salt)).values()), None)

    async def put_immutable(self, value: bytes) -> None:
        """
        Store an immutable item.
        """
        result = await self.node.put_immutable(encode(value))
        assert result.stored, result

    async def get_immutable(self, target: bytes) -> bytes | None:
        """
        The byte string of an immutable item.
        """
        encoded = await self.node.get_immutable(target)
        if encoded is None:
            return None
        value = decode(encoded)
        assert type(value) is bytes
        return value

    async def stop(self) -> None:
        """
        Stop the node.
        """
        await self.node.stopService()


class LibtorrentPeer:
    """
    A libtorrent session in this process.
    """

    kind = "libtorrent"

    def __init__(self, reactor: Any, bootstrap: Sequence[Address]) -> None:
        self.client = LibtorrentClient(reactor, list(bootstrap))
        self.address = self.client.address
        self.meet = self.client.meet

    async def put(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        Store a mutable item.
        """
        # With an empty table it gives up immediately.
        await self.client.known(1)
        self.client.put_mutable(seed, public_key, salt, value)
        assert await self.client.put_done(), "stored nowhere"

    async def get(self, public_key: bytes, salt: bytes) -> bytes | None:
        """
        The value of a mutable item.
        """
        return (await self.client.get_first(public_key, salt)).value

    async def put_immutable(self, value: bytes) -> None:
        """
        Store an immutable item.
        """
        await self.client.known(1)
        self.client.put_immutable(value)
        assert await self.client.put_done(), "stored nowhere"

    async def get_immutable(self, target: bytes) -> bytes | None:
        """
        The byte string of an immutable item.
        """
        return (await self.client.get_immutable(target)).value

    async def stop(self) -> None:
        """
        Stop the session.
        """
        self.client.stop()


class Program(ProcessProtocol):
    """
    A process that prints C{ready}, C{PORT} or C{HOST:PORT}, and answers each numbered
    line of its input with a line that has the same number.

    @ivar port: fires with its port.
    """

    transport: IProcessTransport

    def __init__(self, reactor: Any, command: Sequence[str]) -> None:
        self.port: Deferred[int] = Deferred()
        self._ended: Deferred[None] = Deferred()
        self._waiting: dict[int, Deferred[str]] = {}
        self._number = 0
        self._rest = self._errors = b""
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        reactor.spawnProcess(self, command[0], list(command), env=environ)

    def outReceived(self, data: bytes) -> None:
        """
        Parse lines.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode()
            if text.startswith("ready "):
                self.port.callback(int(text.split()[1].rpartition(":")[2]))
            else:
                number, _, answer = text.partition(" ")
                self._waiting.pop(int(number)).callback(answer)

    def errReceived(self, data: bytes) -> None:
        """
        Keep the output.
        """
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        """
        Fail what is pending.
        """
        error = RuntimeError(f"ended: {reason.value} {self._errors.decode()}")
        if not self.port.called:
            self.port.errback(error)
        for answer in self._waiting.values():
            if not answer.called:
                answer.errback(error)
        self._ended.callback(None)

    def command(self, *words: bytes | int | str) -> Deferred[str]:
        """
        Send a command.

        @param words: the command; bytes are sent in hex.
        """
        texts = [(word.hex() or "-") if isinstance(word, bytes) else str(word) for word in words]
        answer: Deferred[str] = Deferred()
        self._number += 1
        self._waiting[self._number] = answer
        self.transport.write(" ".join([str(self._number), *texts]).encode() + b"\n")
        return answer

    async def stop(self) -> None:
        """
        Kill the process.
        """
        if not self._ended.called:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
            await self._ended


class ProgramPeer:
    """
    A program of benchmarks/servers.
    """

    def __init__(self, kind: str, program: Program, port: int) -> None:
        self.kind = kind
        self.address = (LOOPBACK, port)
        self._program = program

    def meet(self, address: Address) -> None:
        """
        Do nothing.
        """

    async def _command(self, *words: bytes | int | str) -> bytes | None:
        answer = await self._program.command(*words)
        assert not answer.startswith("error"), (self.kind, words, answer)
        return None if answer == "-" else bytes.fromhex(answer)

    async def put(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        Store a mutable item.
        """
        await self._command("put", seed, salt, SEQ, value)

    async def get(self, public_key: bytes, salt: bytes) -> bytes | None:
        """
        The value of a mutable item.
        """
        return await self._command("get", public_key, salt)

    async def put_immutable(self, value: bytes) -> None:
        """
        Store an immutable item.
        """
        assert await self._command("put_immutable", value) == immutable_target(value)

    async def get_immutable(self, target: bytes) -> bytes | None:
        """
        The byte string of an immutable item.
        """
        return await self._command("get_immutable", target)

    async def stop(self) -> None:
        """
        Stop the program.
        """
        await self._program.stop()


def require(kind: str) -> list[str]:
    """
    The command of a program, which is built if necessary.

    @raise SkipTest: it is not available here.
    """
    try:
        return SERVERS[kind]()
    except UnavailableError as error:
        raise SkipTest(f"{kind} is not available: {error}") from None


def dtt_command(bootstrap: Sequence[Address]) -> list[str]:
    """
    C{dtt node --closed}.
    """
    command = [sys.executable, "-m", "dtt", "node", "--closed", "--bind", LOOPBACK]
    for host, port in bootstrap:
        command += ["--bootstrap", f"{host}:{port}"]
    return command


async def start_peer(reactor: Any, kind: str, bootstrap: Sequence[Address], serves: bool = True) -> Peer:
    """
    Start a node of the given kind.

    @param serves: if false, a mainline node only sends queries.
    """
    if kind == "dtt":
        return DTTPeer(reactor, bootstrap)
    command = require(kind)
    if kind == "libtorrent":
        return LibtorrentPeer(reactor, bootstrap)
    if kind == "mainline" and not serves:
        command.append("--client")
    program = Program(reactor, [*command, *(f"{host}:{port}" for host, port in bootstrap)])
    return ProgramPeer(kind, program, await program.port)
