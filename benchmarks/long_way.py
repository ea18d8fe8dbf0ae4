"""
Throughput over long round trips: two members in separate network namespaces, connected by
a simulated link with a delay.

C{python -m benchmarks.long_way [--transport NAME] [--delay MS] [--rate KBPS] [--seconds
N]}, in a checkout, on Linux, as root (it needs C{/dev/net/tun}, and C{unshare} and
C{ip}). One member broadcasts contents of 4000 bytes as fast as the other one accepts
them; the result counts the bytes that have arrived. The link is a program that forwards
IP packets, so TCP and QUIC see the delay as they would over the Internet.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from dtt.addresses.book import AddressBook
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.wire.addresses import PeerAddress
from tests.interop.gossip_member import TOPIC, TRANSPORTS, Counting

#: The members' names and addresses; the first one sends.
KEYS = tuple(PeerKey.from_seed(bytes([number]) * 32) for number in (1, 2))
HOSTS = ("10.9.0.1", "10.9.0.2")
PORT = 4444

#: The size of a content, in bytes.
SIZE = 4000

#: The capacity in bytes of the queue before a slow link; more is dropped.
QUEUE = 64 * 1024

#: The timeout for the members to find each other, in seconds.
JOINS_WITHIN = 20.0

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@define
class Way:
    """
    One direction of the link.

    @ivar waiting: packets, and when to forward each.
    @ivar free: when the last packet has passed the bottleneck.
    """

    source: int
    target: int
    waiting: deque[tuple[float, bytes]] = field(factory=deque)
    free: float = 0.0

    def read(self, now: float, delay: float, rate: float) -> None:
        """
        Read and queue the packets that have arrived.

        @param rate: bytes per second; 0: no limit.
        """
        with suppress(BlockingIOError):
            for _ in range(256):
                packet = os.read(self.source, 65536)
                if rate:
                    self.free = max(now, self.free)
                    if (self.free - now) * rate > QUEUE:
                        continue
                    self.free += len(packet) / rate
                self.waiting.append((max(now, self.free) + delay, packet))

    def write(self, now: float) -> None:
        """
        Forward the packets that are due.
        """
        while self.waiting and self.waiting[0][0] <= now:
            with suppress(BlockingIOError):
                os.write(self.target, self.waiting.popleft()[1])


def carry(ends: Sequence[int], delay: float, rate: float, members: Sequence[subprocess.Popen[str]]) -> None:
    """
    Run the link until one of C{members} has ended.
    """
    ways = Way(ends[0], ends[1]), Way(ends[1], ends[0])
    while all(member.poll() is None for member in members):
        now = time.monotonic()
        for way in ways:
            way.write(now)
        due = min((way.waiting[0][0] for way in ways if way.waiting), default=now + 0.2)
        readable, _, _ = select.select(ends, [], [], max(0.0, min(0.2, due - time.monotonic())))
        for way in ways:
            if way.source in readable:
                way.read(time.monotonic(), delay, rate)


def open_end(number: int) -> int:
    """
    Open this process's end of the link, in this network namespace.
    """
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", b"wire", _IFF_TUN | _IFF_NO_PI))
    for words in (
        "link set lo up",
        f"addr add {HOSTS[number]} peer {HOSTS[1 - number]} dev wire",
        "link set wire up mtu 1500 txqueuelen 10000",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return end


async def be_member(reactor: Any, number: int, transport: str, seconds: float) -> None:
    """
    Run one of the two members.
    """
    key, other = KEYS[number], KEYS[1 - number].peer_id
    listener = TRANSPORTS[transport](reactor, key)
    listener.listen(HOSTS[number], PORT)
    book = AddressBook(reactor, SystemRandom(), listener.addresses, key.peer_id)
    services = GossipServices(reactor, SystemRandom(), key.peer_id, listener, book)
    member = GossipMember(services, TOPIC, bytes(32))
    counting = Counting()
    member.subscribe(counting)
    member.start()
    gives_up = time.monotonic() + JOINS_WITHIN
    while not member.neighbors():
        if time.monotonic() > gives_up:
            raise RuntimeError("the members did not find each other")
        book.learn(other, [PeerAddress(listener.kinds[0], HOSTS[1 - number], PORT)], "record")
        if number == 0:
            member.join((other,))
        await deferLater(reactor, 0.5)
    began, sent = time.monotonic(), 0
    while time.monotonic() < began + seconds and member.neighbors():
        if number == 0:
            await member.broadcast(b"x " + sent.to_bytes(8, "big") + bytes(SIZE - 10))
            sent += 1
        if number or sent % 64 == 0:
            await deferLater(reactor, 0 if number == 0 else 0.1)
    cut_off = listener.counters["closed_slow_reader"]
    print(json.dumps({"received": sum(counting.counts.values()), "cut off": cut_off}), flush=True)
    await deferLater(reactor, 1.0)  # let the other member count before our end closes


def measure(transport: str, delay: float, rate: float, seconds: float) -> str:
    """
    Measure one line of the table.
    """
    members, ends = [], []
    try:
        for number in range(2):
            ours, theirs = socket.socketpair()
            command = ["unshare", "-n", sys.executable, "-m", "benchmarks.long_way", "--member", str(number)]
            command += ["--descriptor", str(theirs.fileno()), "--transport", transport]
            command += ["--seconds", str(seconds)]
            member = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=(theirs.fileno(),))
            members.append(member)
            theirs.close()
            with ours:
                ends += socket.recv_fds(ours, 1, 1)[1]
        carry(ends, delay, rate, members)
        answers = []
        for member in members:
            said, _ = member.communicate(timeout=JOINS_WITHIN)
            answers.append(json.loads(said))
    finally:
        for member in members:
            member.kill()
            member.wait()
        for end in ends:
            os.close(end)
    received = answers[1]["received"] * SIZE / seconds
    cut_off = ", cut off" if answers[0]["cut off"] else ""
    return f"{transport:8} round trip {2000 * delay:4.0f} ms: {received / 1e6:6.2f} MB/s{cut_off}"


def main(arguments: Sequence[str]) -> int:
    """
    Print a line for each transport and delay.
    """
    parser = argparse.ArgumentParser(prog="long_way")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--transport", action="append", choices=tuple(TRANSPORTS))
    parser.add_argument("--delay", action="append", type=float, help="one way, ms; default 0, 50, 100")
    parser.add_argument("--rate", type=float, default=0.0, help="of the link, kB/s; 0: no limit")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--member", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.member is not None:
        with socket.socket(fileno=options.descriptor) as parent:
            socket.send_fds(parent, [b"."], [open_end(options.member)])
        react(
            lambda reactor: Deferred.fromCoroutine(
                be_member(reactor, options.member, options.transport[0], options.seconds)
            )
        )
    for transport in options.transport or tuple(TRANSPORTS):
        for delay in options.delay or ((50.0,) if options.quick else (0.0, 50.0, 100.0)):
            seconds = 3.0 if options.quick else options.seconds
            print(measure(transport, delay / 1000, options.rate * 1000, seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
