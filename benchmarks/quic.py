"""
Throughput of QUIC, compared with TCP, between two members on loopback.

C{python -m benchmarks.quic [--quick] [--count N] [--runs N] [--size BYTES] [--only ROW]}, in
a checkout. Each member is a process with a
L{StreamsTransport<dtt.transport.streams.transport.StreamsTransport>}; one sends as fast as
the other one reads: messages, or as many bytes over an application stream ("file"). The row
"aioquic" is the QUIC library alone, with its own asyncio protocols: as many bytes over one of
its streams, with datagrams and windows of the same size. The runs alternate between the rows.
The result of each is the best one: other load on the machine only makes them slower.

A row has megabytes per second; messages per second of CPU time of both processes
together; messages per second of CPU time of the busier one; messages lost; and datagrams
lost at the receiver, which QUIC sent again.  Of a file, as many bytes count as a message.

Goals of QUIC with messages of 4000 bytes: 15 MB/s, 4000 messages a CPU second, nothing
lost.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Any, Final

from attrs import frozen
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks import quic_library
from benchmarks.quic_library import HOST, report
from dtt.interfaces import ITopicLinks

TOPIC: Final = b"t" * 32
SECRET: Final = b"s" * 32
#: The name of the application stream.
NAME: Final = b"file/1"

#: What is compared.
ROWS: Final = ("streams", "quic", "streams-file", "quic-file", "aioquic")

#: Seconds that one run may take.
_WITHIN: Final = 120.0


@frozen(slots=True)
class Row:
    """
    The result of one run.

    @ivar rate: megabytes per second.
    @ivar both: messages per second of CPU time of both members together.
    @ivar busier: messages per second of CPU time of the busier one.
    @ivar lost: messages.
    @ivar dropped: datagrams dropped by the receiver because it was busy.
    """

    rate: float
    both: float
    busier: float
    lost: int
    dropped: int


@implementer(ITopicLinks)
class Member:
    """
    The topic of a member: counts what arrives, or sends.
    """

    def __init__(self, reactor: Any, kind: str, count: int, size: int) -> None:
        from dtt.identity import PeerKey
        from dtt.transport.quic.socket import listen
        from dtt.transport.streams.transport import StreamsTransport

        self.reactor = reactor
        self.count = count
        self.size = size
        self.received = 0
        self.reported = False
        self.began: tuple[float, float] | None = None
        self.transport = StreamsTransport(
            reactor,
            PeerKey.generate(),
            tcp=kind.startswith("streams"),
            quic_rng=SystemRandom() if kind.startswith("quic") else None,
            interface_addresses=lambda: (HOST,),
        )
        self.transport.listen(HOST, 0)
        if kind.startswith("quic"):
            listen(reactor, self.transport, HOST)
        self.transport.open_topic(TOPIC, SECRET, self)

    # ITopicLinks

    def messages_received(self, peer_id: bytes, messages: Sequence[bytes]) -> None:
        """
        Count messages; answer after the last.
        """
        if self.began is None and self.received:
            self.began = (time.monotonic(), time.process_time())
        self.received += len(messages)
        if self.received == self.count:
            self.report()

    def peer_connected(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def peer_disconnected(self, peer_id: bytes) -> None:
        """
        End: what was not received is lost.
        """
        self.report()

    def link_broken(self, *args: object) -> None:
        """
        Do nothing.
        """

    def report(self) -> None:
        """
        Print the result, once.
        """
        if self.reported:
            return
        self.reported = True
        began = self.began or (time.monotonic(), time.process_time())
        report(began, self.received, self.transport.counters["dropped_quic_busy"])


class Reader(Protocol):
    """
    The receiver of a file: counts its bytes as messages.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """
        Count the bytes; answer after the last.
        """
        member = self._member
        if member.began is None:
            member.began = (time.monotonic(), time.process_time())
        self._size += len(data)
        member.received = self._size // member.size
        if member.received == member.count:
            member.report()


class Ending(Protocol):
    """
    Standard input, which ends when the process is to end.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End the process.
        """
        self._end()


def stop(reactor: Any) -> None:
    """
    Stop the reactor, if it runs.
    """
    with suppress(ReactorNotRunning):
        reactor.stop()


def main_receive(kind: str, count: int, size: int) -> None:
    """
    Be the receiver: print our id and address, then the result.
    """
    if kind == "aioquic":
        quic_library.receive(count, size)
        return
    from twisted.internet import reactor, stdio
    from twisted.internet.protocol import Factory

    from dtt.transport.appstreams.services import StreamPort

    member = Member(reactor, kind, count, size)
    factory: Any = Factory.forProtocol(lambda: Reader(member))
    StreamPort(member.transport.multiplexer.services, NAME, factory).startListening()
    (address, *_) = member.transport.addresses()
    print(member.transport.peer_id.hex(), address.transport, address.port, flush=True)
    stdio.StandardIO(Ending(lambda: stop(reactor)))
    reactor.run()


def main_send(kind: str, count: int, size: int, peer_id: bytes, transport: int, port: int) -> None:
    """
    Be the sender: send everything, and print the result when standard input ends.
    """
    if kind == "aioquic":
        quic_library.send(count, size, port)
        return
    from twisted.internet import reactor, stdio
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater
    from twisted.protocols.basic import FileSender

    from dtt.wire.addresses import PeerAddress

    member = Member(reactor, kind, count, size)

    async def run() -> None:
        await member.transport.dial(peer_id, [PeerAddress(transport, HOST, port)])
        if kind.endswith("-file"):
            stream = await member.transport.multiplexer.open_stream(peer_id, NAME)
            stream.connect(Protocol())
            member.began = (time.monotonic(), time.process_time())
            await FileSender().beginFileTransfer(io.BytesIO(b"m" * (count * size)), stream)
            return
        message = b"m" * size
        # Until the peer has admitted us, few messages may wait.
        member.transport.send(peer_id, TOPIC, message)
        await deferLater(reactor, 0.5)
        member.began = (time.monotonic(), time.process_time())
        for number in range(count - 1):
            member.transport.send(peer_id, TOPIC, message)
            if number % 16 == 15:
                await member.transport.when_writable([peer_id])

    def end() -> None:
        member.report()
        stop(reactor)

    stdio.StandardIO(Ending(end))
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addErrback(print))
    reactor.run()


def measure(kind: str, count: int, size: int) -> Row:
    """
    Run two members.
    """

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.quic", *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("--receive", kind, count, size) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdin is not None
        ready = receiver.stdout.readline().split()
        with start("--send", kind, count, size, *ready) as sender:
            try:
                received = json.loads(receiver.stdout.readline())
                sent = json.loads(sender.communicate(timeout=_WITHIN)[0].splitlines()[-1])
                receiver.communicate(timeout=_WITHIN)
            finally:
                sender.kill()
                receiver.kill()
    arrived = received["received"]
    return Row(
        arrived * size / 1e6 / received["seconds"],
        arrived / (received["cpu"] + sent["cpu"]),
        arrived / max(received["cpu"], sent["cpu"]),
        count - arrived,
        received["dropped"],
    )


def main() -> None:
    """
    Parse the arguments and print the table.
    """
    parser = argparse.ArgumentParser(description="Throughput of QUIC, compared with TCP, on loopback.")
    parser.add_argument(
        "--count", type=int, default=10_000, help="messages of one run (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=4000, help="bytes of a message (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--only", choices=ROWS, help="measure only this row")
    parser.add_argument("--receive", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        kind, count, size = options.receive
        main_receive(kind, int(count), int(size))
        return
    if options.send:
        kind, count, size, peer_id, transport, port = options.send
        main_send(kind, int(count), int(size), bytes.fromhex(peer_id), int(transport), int(port))
        return
    kinds = (options.only,) if options.only else ROWS
    best: dict[str, Row] = {}
    lost = dict.fromkeys(kinds, 0)
    runs, count = (1, 1000) if options.quick else (options.runs, options.count)
    for _ in range(runs):
        for kind in kinds:
            row = measure(kind, count * (8 if kind.startswith("streams") else 1), options.size)
            lost[kind] += row.lost
            if kind not in best or row.rate > best[kind].rate:
                best[kind] = row
    print(f"{'':12} {'MB/s':>7} {'messages/CPU s':>15} {'of the busier':>14} {'lost':>5} {'dropped':>8}")
    for kind, row in best.items():
        print(f"{kind:12} {row.rate:7.1f} {row.both:15.0f} {row.busier:14.0f} {lost[kind]:5} {row.dropped:8}")


if __name__ == "__main__":
    main()
