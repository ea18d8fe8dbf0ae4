"""
A C{twistd dtt} on loopback under churn and hostile traffic, whose memory and descriptors
are measured: C{python -m tests.interop.soak [--minutes M] [--seed N]}.

Other members of its topic join, speak and leave; strangers open TCP connections that are
silent, send garbage or finish a TLS handshake; and from a hundred addresses come garbage
datagrams, queries of all kinds, false replies and floods of puts.  It prints one line a
minute, and at the end the growth after the warm-up, by least squares.  It exits with code
1 if memory grows by more than C{--most} MB/h, or if descriptors accumulate.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall, deferLater, react

from dtt.dht.node import DHTNode
from dtt.errors import DTTError
from dtt.identity import PeerKey
from dtt.krpc.bencode import encode
from dtt.krpc.items import sign_item
from dtt.krpc.messages import Response, decode, encode_query
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.interop.support import LOOPBACK, Member, dtt_swarm, stop_all, until
from tests.interop.test_twistd import Twistd

TOPIC, SECRET = "soak", b"a secret of the soak"

#: Hostile hosts, 127.1.0.1 and so on, and what they send together in datagrams per second.
HOSTS = 100
RATE = 200

#: Connections of strangers: new ones per second, and those that are open at most.
CONNECTIONS, OPEN = 8, 40

#: Other members: how long each stays in seconds, and how many there are.
STAY, MEMBERS = 12.0, 3

#: The share of the time after which growth is measured, at most 25 minutes: until then, tables fill.
WARM_UP, LONGEST_WARM_UP = 0.4, 1500.0


@frozen(slots=True)
class Sample:
    """
    @ivar seconds: since the start.
    @ivar resident: the RSS in bytes.
    @ivar descriptors: the number of open descriptors.
    """

    seconds: float
    resident: int
    descriptors: int

    @classmethod
    def of(cls, pid: int, seconds: float) -> Sample:
        """
        Take a sample of a process.
        """
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(seconds, pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")))


@frozen(slots=True)
class Growth:
    """
    @ivar resident: MB an hour.
    @ivar descriptors: descriptors an hour.
    @ivar highest: the most descriptors at a time.
    @ivar last: the RSS in MB at the end.
    @ivar samples: how many samples were used.
    """

    resident: float
    descriptors: float
    highest: int
    last: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Growth:
        """
        Measure the growth after the warm-up.
        """
        end = samples[-1].seconds
        warm = [each for each in samples if each.seconds >= min(WARM_UP * end, LONGEST_WARM_UP)]
        return cls(
            slope([(each.seconds, each.resident) for each in warm]) * 3600 / 1e6,
            slope([(each.seconds, each.descriptors) for each in warm]) * 3600,
            max(each.descriptors for each in samples),
            samples[-1].resident / 1e6,
            len(warm),
        )

    def __str__(self) -> str:
        return (
            f"{self.resident:+.2f} MB/h and {self.descriptors:+.1f} descriptors/h after the warm-up"
            f" ({self.samples} samples); at the end {self.last:.1f} MB; at most {self.highest} descriptors"
        )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """
    Return the slope of a line through C{points}, by least squares; 0 if there is one.
    """
    count = len(points)
    middle = sum(x for x, _ in points) / count
    mean = sum(y for _, y in points) / count
    spread = sum((x - middle) ** 2 for x, _ in points)
    return sum((x - middle) * (y - mean) for x, y in points) / spread if spread else 0.0


class Attacker(DatagramProtocol):
    """
    One hostile host: what it sends is drawn at random.
    """

    def __init__(self, rng: Random, victim: tuple[str, int]) -> None:
        self._rng = rng
        self._victim = victim
        # What to send with the token of a reply: the method and its arguments.
        self._asked: dict[bytes, tuple[bytes, dict[bytes, Any]]] = {}

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Put and announce with the tokens of the replies.
        """
        with suppress(DTTError):
            message = decode(datagram)
            asked = self._asked.pop(message.transaction, None)
            if asked is not None and isinstance(message, Response) and b"token" in message.values:
                method, arguments = asked
                self._send(method, {**arguments, b"token": message.values[b"token"]})

    def attack(self) -> None:
        """
        Send one datagram.
        """
        rng = self._rng
        kind = rng.randrange(8)
        if kind == 0:
            datagram = rng.randbytes(rng.randrange(1, 1400))
        elif kind == 1:
            datagram = (
                b"d1:ad2:id20:" + rng.randbytes(20) + b"9:info_hash20:" + rng.randbytes(rng.randrange(40))
            )
        elif kind == 2:
            datagram = encode({b"t": rng.randbytes(4), b"y": b"r", b"r": self._nodes()})
        elif kind <= 5:
            item = sign_item(rng.randbytes(32), b"", 1, encode(rng.randbytes(rng.randrange(1, 900))))
            self._send(b"get", {b"target": item.target}, (b"put", item.arguments()))
            return
        elif kind == 6:
            info_hash = {b"info_hash": rng.randbytes(20)}
            self._send(b"get_peers", info_hash, (b"announce_peer", {**info_hash, b"port": 1}))
            return
        else:
            method = rng.choice((b"find_node", b"sample_infohashes", b"ping", b"put"))
            self._send(method, {b"target": rng.randbytes(20)})
            return
        self._write(datagram)

    def _nodes(self) -> dict[bytes, bytes]:
        rng = self._rng
        nodes = b"".join(
            rng.randbytes(20) + bytes((127, 1, 0, rng.randrange(256))) + b"\x1a\xe1" for _ in range(8)
        )
        return {b"id": rng.randbytes(20), b"nodes": nodes}

    def _send(
        self,
        method: bytes,
        arguments: dict[bytes, Any],
        then: tuple[bytes, dict[bytes, Any]] | None = None,
    ) -> None:
        """
        Send a query, and C{then} another with the token of the reply.
        """
        rng = self._rng
        transaction = rng.randbytes(4)
        if then is not None:
            if len(self._asked) > 16:
                self._asked.clear()
            self._asked[transaction] = then
        self._write(encode_query(transaction, method, rng.randbytes(20), arguments, rng.random() < 0.2))

    def _write(self, datagram: bytes) -> None:
        assert self.transport is not None
        self.transport.write(datagram, self._victim)


class Soak:
    """
    The member and what happens to it.

    @ivar samples: one a second.
    @ivar met: how many members it has had as a neighbour.
    """

    def __init__(self, reactor: Any, folder: Path, rng: Random) -> None:
        self.samples: list[Sample] = []
        self.met = 0
        self._loops: list[LoopingCall] = []
        self._ports: list[Any] = []
        self._reactor = reactor
        self._rng = rng
        self._folder = folder
        self._strangers: list[socket.socket] = []
        self._stopping = False

    async def run(self, seconds: float, say: Any) -> Growth:
        """
        Run for C{seconds}.

        @param say: called with a line of text, once a minute.
        """
        reactor = self._reactor
        nodes = await dtt_swarm(reactor, 6)
        twistd = self._twistd = self._start(nodes[0].port)
        loops: list[Deferred[Any]] = []
        try:
            await until(reactor, lambda: b"Started as" in twistd.out or twistd.ended.called)
            assert not twistd.ended.called, twistd.lines()
            attackers = await self._attackers()
            for act, interval in ((self._connect, 1 / CONNECTIONS), (lambda: self._flood(attackers), 0.05)):
                loop = LoopingCall(act)
                loops.append(loop.start(interval))
                self._loops.append(loop)
            loops += [Deferred.fromCoroutine(self._members(nodes[0])) for _ in range(MEMBERS)]
            loops.append(Deferred.fromCoroutine(self._handshakes()))
            began = reactor.seconds()
            while (passed := reactor.seconds() - began) < seconds:
                assert not twistd.ended.called, twistd.lines()[-20:]
                self.samples.append(Sample.of(twistd.process.pid, passed))
                if len(self.samples) % 60 == 0:
                    last = self.samples[-1]
                    size = f"{last.resident / 1e6:.1f} MB, {last.descriptors} descriptors"
                    say(f"{passed / 60:.0f} min: {size}, {self.met} members met")
                await deferLater(reactor, 1.0)
        finally:
            self._stopping = True
            for loop in self._loops:
                loop.stop()
            for each in loops:
                await each
            for stranger in self._strangers:
                stranger.close()
            for port in self._ports:
                await port.stopListening()
            if not twistd.ended.called:
                twistd.process.signalProcess("TERM")
                await twistd.ended
            await stop_all(nodes)
        assert "Traceback" not in "".join(twistd.lines()), twistd.lines()[-40:]
        return Growth.of(self.samples)

    def _start(self, bootstrap: int) -> Twistd:
        self._tcp = _free_port(socket.SOCK_STREAM)
        self._udp = _free_port(socket.SOCK_DGRAM)
        secret = self._folder / "secret"
        secret.touch(mode=0o600)
        secret.write_bytes(SECRET)
        options = ["--state-dir", str(self._folder / "state"), "--transport", "streams", "--topic", TOPIC]
        options += ["--listen", f"{LOOPBACK}:{self._tcp}", "--dht-port", str(self._udp)]
        options += ["--secret-file", str(secret), "--bootstrap", f"{LOOPBACK}:{bootstrap}"]
        return Twistd(self._reactor, options, self._folder)

    async def _attackers(self) -> list[Attacker]:
        attackers = []
        for number in range(HOSTS):
            attacker = Attacker(Random(self._rng.random()), (LOOPBACK, self._udp))
            host = f"127.1.{number % 4}.{1 + number // 4}"
            self._ports.append(self._reactor.listenUDP(0, attacker, interface=host))
            attackers.append(attacker)
        return attackers

    def _flood(self, attackers: Sequence[Attacker]) -> None:
        for _ in range(RATE // 20):
            self._rng.choice(attackers).attack()

    def _connect(self) -> None:
        rng = self._rng
        stranger = socket.socket()
        stranger.setblocking(False)
        self._strangers.append(stranger)
        with suppress(OSError):
            stranger.bind((f"127.2.{rng.randrange(4)}.{rng.randrange(1, 250)}", 0))
            stranger.connect_ex((LOOPBACK, self._tcp))
        if len(self._strangers) > 4:
            with suppress(OSError):
                self._strangers[-4].send(rng.choice((b"", b"GET / HTTP/1.0\r\n\r\n", rng.randbytes(300))))
        if len(self._strangers) > OPEN:
            self._strangers.pop(rng.randrange(len(self._strangers) - 4)).close()

    async def _members(self, bootstrap: DHTNode) -> None:
        """
        Members that come and go, one after another.
        """
        rng, reactor = self._rng, self._reactor
        while not self._stopping:
            member = Member(reactor, [(LOOPBACK, bootstrap.port)], TOPIC, SECRET)
            member.start()
            with suppress(DeferredTimeoutError):
                await member.topic.when_joined().addTimeout(30, reactor)
                self.met += 1
                for _ in range(10):
                    member.topic.broadcast(rng.randbytes(rng.randrange(1, 2000))).addErrback(lambda _: None)
                    if not self._stopping:
                        await deferLater(reactor, rng.uniform(0, STAY / 5))
            await member.stop()

    async def _handshakes(self) -> None:
        """
        Strangers that finish the TLS handshake, but do not know the secret.
        """
        rng, reactor = self._rng, self._reactor
        (found,) = re.findall(rb"Started as ([0-9a-f]{64})", self._twistd.out)
        peer, where = bytes.fromhex(found.decode()), [PeerAddress(STREAMS, LOOPBACK, self._tcp)]
        while not self._stopping:
            stranger = StreamsTransport(reactor, PeerKey.from_seed(rng.randbytes(32)))
            await stranger.dial(peer, where).addTimeout(5, reactor).addErrback(lambda _: None)
            await deferLater(reactor, rng.uniform(0, 1))
            await stranger.stop()


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(type=kind) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


async def soak(reactor: Any, seconds: float, seed: int, say: Any = lambda text: None) -> tuple[Growth, Soak]:
    """
    Run a soak in a separate folder.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        run = Soak(reactor, folder, Random(seed))
        return await run.run(seconds, say), run
    finally:
        shutil.rmtree(folder)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.interop.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=float, default=1.0, help="MB/h")
    options = parser.parse_args(arguments)

    async def run() -> None:
        growth, _ = await soak(
            reactor, 60 * options.minutes, options.seed, lambda text: print(text, flush=True)
        )
        print(growth)
        if growth.resident > options.most or growth.descriptors > 60:
            raise SystemExit(1)

    return Deferred.fromCoroutine(run())


if __name__ == "__main__":
    react(main, sys.argv[1:])
