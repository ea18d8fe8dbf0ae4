"""
A file of 100 MB over an application stream, on real sockets, while gossip continues.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.interop.support import NO_INTEROP, Member, dtt_swarm, stop_all, until

#: Bytes of the file.
SIZE = 100_000_000


class Hasher(Protocol):
    """
    Hashes what it gets.

    @ivar size: the number of bytes.
    @ivar ended: fires at the end of the stream.
    """

    def __init__(self) -> None:
        self.size = 0
        self.hash = hashlib.sha256()
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """
        Hash it.
        """
        self.size += len(data)
        self.hash.update(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note the end.
        """
        self.ended.callback(None)


class FileTests(TestCase):
    """
    Two members in one process.
    """

    skip = NO_INTEROP
    timeout = 300

    async def send(self, transport: str) -> float:
        """
        Send the file; return the MB/s.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / "file"
        block = Random(1).randbytes(1_000_000)
        with path.open("wb") as file:
            for number in range(SIZE // len(block)):
                file.write(number.to_bytes(8, "big") + block[8:])
        nodes = await dtt_swarm(reactor, 3)
        bootstrap = [("127.0.0.1", nodes[0].port)]
        members = [Member(reactor, bootstrap, "files", b"secret", transport=transport) for _ in range(2)]
        for member in members:
            member.start()
        one, other = members
        await one.topic.when_joined()
        await other.topic.when_joined()
        hasher = Hasher()
        factory: Any = Factory.forProtocol(lambda: hasher)
        await other.tracker.server_endpoint(b"file/1").listen(factory)
        client: Any = await one.tracker.client_endpoint(other.tracker.peer_id, b"file/1").connect(
            Factory.forProtocol(Protocol)
        )
        most, said = 0, 0

        def look() -> None:
            nonlocal most, said
            most = max(most, client.transport.unsent)
            said += 1
            one.topic.broadcast(b"%d" % said)

        looking = LoopingCall(look)
        began = time.monotonic()
        looking.start(0.02)
        with path.open("rb") as source:
            await FileSender().beginFileTransfer(source, client.transport)
        client.transport.loseConnection()
        await hasher.ended
        seconds = time.monotonic() - began
        looking.stop()
        await until(reactor, lambda: len(other.listener.contents) == said)
        self.assertEqual(hasher.size, SIZE)
        with path.open("rb") as source:
            self.assertEqual(hasher.hash.digest(), hashlib.file_digest(source, "sha256").digest())
        self.assertLess(most, 200_000)
        self.assertGreater(said, 1)
        for member in members:
            self.assertEqual([event for event in member.events if event.name == "link.broken"], [])
            await member.stop()
        await stop_all(nodes)
        os.unlink(path)
        return SIZE / seconds / 1e6

    def test_streams(self) -> Deferred[Any]:
        """The file arrives whole over TCP, and each message of the gossip does."""
        return Deferred.fromCoroutine(self.send("streams")).addCallback(self.tell)

    def test_quic(self) -> Deferred[Any]:
        """The same over QUIC."""
        return Deferred.fromCoroutine(self.send("quic")).addCallback(self.tell)

    def tell(self, rate: float) -> None:
        """
        Print the rate.
        """
        print(f"{rate:.1f} MB/s")
