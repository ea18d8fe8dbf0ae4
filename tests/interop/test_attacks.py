"""
Attacks on the listening transports of a member in its own process. They print figures.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from random import Random
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from dtt.deferreds import cancel_if_active
from dtt.gossip.proto.messages import (
    Disconnect,
    ForwardJoin,
    Gossip,
    Graft,
    IHave,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Priority,
    Shuffle,
    ShuffleReply,
    encode,
    message_id,
)
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.admission import topic_key
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.receiving import MAX_PER_TOPIC, MAX_UNKNOWN, MAX_WITHOUT_HEADER
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.frames import Close, Data, Open, Ping, encode_frame
from dtt.transport.streams.tls import ConnectionCreator, SecuredConnection, export_key
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress
from dtt.wire.length_prefix import prefix
from tests.interop.gossip_member import SECRET_HASH, TOPIC
from tests.interop.gossip_trio import MemberProcess
from tests.interop.iroh_peers import RawPeer
from tests.interop.support import LOOPBACK, NO_INTEROP, NO_IROH, until

reactor: Any = global_reactor

#: The longest turn of the reactor that an attack may cause, in seconds of CPU time.
LONGEST_TURN = 0.020

MB = 1_000_000


def report(text: str) -> None:
    """
    Print a line.
    """
    print(text, file=sys.__stdout__, flush=True)


class Attacker(Protocol):
    """
    A TLS client that sends what the test says.
    """

    secured: SecuredConnection

    def __init__(self, key: PeerKey) -> None:
        self.key = key
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """
        Ignore the data.
        """

    def connectionLost(self, reason: object = None) -> None:
        """
        Record the end.
        """
        self.lost = True

    def send(self, data: bytes) -> None:
        """
        Send C{data}.
        """
        cast(Any, self.transport).write(data)

    def end(self) -> None:
        """
        Abort the connection, if it is not gone.
        """
        if not self.lost:
            cast(Any, self.transport).abortConnection()

    def open_topic(self, victim: bytes) -> None:
        """
        Prove membership.
        """
        key = topic_key(TOPIC, SECRET_HASH)
        tag = admission_tag(key, export_key(self.secured.connection), self.key.peer_id, victim)
        self.send(encode_frame(Open(0, tag)))


class Target:
    """
    A transport to connect to, as L{MemberProcess} describes it.

    @ivar peer_id: its peer id, 32 bytes.
    @ivar port: its port.
    @ivar addresses: transport, host and port.
    """

    def __init__(self, peer_id: bytes, port: int) -> None:
        self.peer_id = peer_id
        self.port = port
        self.addresses = [(STREAMS, LOOPBACK, port)]


class AttackTests(TestCase):
    """
    One member in its own process, attacked from here.
    """

    timeout = 240

    def victim(self, transport: str, host: str = LOOPBACK) -> MemberProcess:
        """
        Start a member.
        """
        member = MemberProcess(transport, host)
        self.addCleanup(member.stop)
        return member

    async def settled(self, member: MemberProcess) -> int:
        """
        Wait until a new member is quiet, and return its RSS.
        """
        await deferLater(reactor, 0.5)
        member.longest_turn()
        return member.resident()

    async def attacker(self, member: MemberProcess | Target, number: int) -> Attacker:
        """
        Return a TLS client that has finished its handshake.
        """
        attacker = Attacker(PeerKey.from_seed(number.to_bytes(32, "big")))
        factory = TLSMemoryBIOFactory(
            ConnectionCreator(attacker.key), True, Factory.forProtocol(lambda: attacker), reactor
        )
        _, host, port = member.addresses[0]
        await TCP4ClientEndpoint(reactor, host, port).connect(factory)
        await until(reactor, lambda: cast(Any, attacker.transport)._handshakeDone or attacker.lost)
        self.addCleanup(attacker.end)
        return attacker


class SilentConnectionsTests(AttackTests):
    """
    Connections that prove nothing.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    async def honest_handshakes(self, host: str, opening: bytes) -> int:
        """
        Hold as many connections as the victim allows, eight new ones a second, which
        send C{opening} and no more, and return how many of 55 honest handshakes succeed.
        """
        member = self.victim("streams", host)
        _, _, port = member.addresses[0]
        held: list[socket.socket] = []
        self.addCleanup(lambda: list(map(socket.socket.close, held)))

        def connect() -> None:
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((host, port), 5))
                held[-1].sendall(opening)

        for _ in range(100):
            connect()
        succeeded = 0
        for number in range(55):
            for _ in range(2):
                connect()
            honest = StreamsTransport(reactor, PeerKey.from_seed(number.to_bytes(32, "little")))
            dialled = honest.dial(bytes.fromhex(member.peer), [PeerAddress(STREAMS, host, port)])
            outcome = await dialled.addTimeout(5, reactor).addCallbacks(lambda _: True, lambda _: False)
            succeeded += outcome
            await honest.stop()
            await deferLater(reactor, 0.2)
        report(f"connections that send {len(opening)} bytes, {host}: {succeeded} of 55 honest handshakes")
        return succeeded

    async def test_ipv4(self) -> None:
        """
        Silent connections keep few others out.
        """
        self.assertGreaterEqual(await self.honest_handshakes(LOOPBACK, b""), 50)

    async def test_ipv6(self) -> None:
        """
        The same over IPv6.
        """
        self.assertGreaterEqual(await self.honest_handshakes("::1", b""), 50)

    async def test_half_a_handshake(self) -> None:
        """
        Neither do connections that send the first half of a handshake message.
        """
        opening = bytes.fromhex("1603010200010001fc0303") + bytes(100)
        self.assertGreaterEqual(await self.honest_handshakes(LOOPBACK, opening), 50)


class FloodTests(AttackTests):
    """
    Messages faster than they can be handled.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    async def flood(self, member: MemberProcess, attackers: list[Attacker], data: bytes, name: str) -> None:
        """
        Send C{data} again and again for a second, and check the longest turn: up to three
        times, because other processes make turns longer, too.
        """
        member.longest_turn()
        before = member.resident()
        sending = [attacker for attacker in attackers if not attacker.lost]
        for attacker in sending:
            pumping = Pumping(attacker, data)
            self.addCleanup(pumping.stopProducing)
            cast(Any, attacker.transport).registerProducer(pumping, True)
        for _ in range(3):
            for _ in range(10):
                await deferLater(reactor, 0.1)
            turn = member.longest_turn()
            if turn <= LONGEST_TURN:
                break
        grown = (member.resident() - before) / MB
        report(f"flood of {name}: longest turn {turn * 1000:.1f} ms, memory {grown:+.1f} MB")
        self.assertLessEqual(turn, LONGEST_TURN, name)
        self.assertLessEqual(grown, 10, name)

    async def test_messages(self) -> None:
        """
        Each kind of gossip message, small and large, from a member.
        """
        rng = Random(1)
        ids = [PeerKey.from_seed(rng.randbytes(32)).peer_id for _ in range(100)]
        some = tuple(PeerInfo(peer_id) for peer_id in ids)
        content = rng.randbytes(4000)
        floods: dict[str, Callable[[], list[Message]]] = {
            "Neighbor, Disconnect": lambda: [Neighbor(Priority.HIGH, None), Disconnect(True)],
            "Join": lambda: [Join(None)],
            "ForwardJoin": lambda: [ForwardJoin(peer, 6) for peer in some],
            "Shuffle": lambda: [Shuffle(peer_id, some, 1) for peer_id in ids],
            "ShuffleReply": lambda: [ShuffleReply(some)],
            "IHave": lambda: [IHave(tuple((peer_id, 0) for peer_id in ids))],
            "Graft": lambda: [Graft(message_id(content), 0)],
            "Gossip": lambda: [
                Gossip(message_id(each), each, 0) for each in (rng.randbytes(10) for _ in range(500))
            ],
            "large Gossip": lambda: [Gossip(message_id(content), content, 0)],
        }
        member = self.victim("streams")
        await self.settled(member)
        for number, (name, messages) in enumerate(floods.items(), 1):
            attacker = await self.attacker(member, number)
            attacker.open_topic(bytes.fromhex(member.peer))
            attacker.send(encode_frame(Data(0, encode(Neighbor(Priority.HIGH, None)))))
            await deferLater(reactor, 0.1)
            data = b"".join(encode_frame(Data(0, encode(message))) for message in messages())
            await self.flood(member, [attacker], data * (1 + 20_000 // len(data)), name)
            attacker.end()

    async def test_strangers(self) -> None:
        """
        Thirty strangers that send frames and read nothing: PINGs, frames of unknown
        kind, OPENs and CLOSEs.
        """
        opening = encode_frame(Open(0, b"x" * 32)) + encode_frame(Close(0))
        for name, data in (
            ("PING", encode_frame(Ping(bytes(8)))),
            ("unknown frames", b"\x00\x00\x00\x01\x05"),
            ("OPEN and CLOSE", opening),
        ):
            member = self.victim("streams")
            before = await self.settled(member)
            attackers = [await self.attacker(member, number) for number in range(1, 31)]
            for attacker in attackers:
                cast(Any, attacker.transport).pauseProducing()
            await self.flood(member, attackers, data * (20_000 // len(data)), f"{name} by 30 strangers")
            grown = (member.resident() - before) / MB
            report(f"30 strangers with {name}: {grown:+.1f} MB in all")
            self.assertLessEqual(grown, 10)

    async def test_handshakes_at_once(self) -> None:
        """
        Sixty handshakes that begin at the same moment.
        """
        member = self.victim("streams")
        await self.settled(member)
        await gatherResults(
            [Deferred.fromCoroutine(self.attacker(member, number)) for number in range(1, 61)]
        )
        turn = member.longest_turn()
        report(f"60 handshakes at once: longest turn {turn * 1000:.1f} ms")
        self.assertLessEqual(turn, LONGEST_TURN)


class EndTests(AttackTests):
    """
    The end of a connection that has sent more than is handled in a turn.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    async def test_closed_by_the_peer(self) -> None:
        """
        All messages are handled, then the connection is gone, whether the peer waits for
        our answer or not.
        """
        for number in (1, 2):
            await self.closed_by_the_peer(number, abruptly=number == 2)

    async def closed_by_the_peer(self, number: int, abruptly: bool) -> None:
        """
        Let one peer send much and close its connection.
        """
        key = PeerKey.from_seed(b"v" * 32)
        transport, links = StreamsTransport(reactor, key), RecordingLinks()
        self.addCleanup(transport.stop)
        transport.listen(LOOPBACK, 0)
        transport.open_topic(TOPIC, SECRET_HASH, links)
        attacker = await self.attacker(Target(key.peer_id, transport.port or 0), number)
        attacker.open_topic(key.peer_id)
        attacker.send(encode_frame(Data(0, b"x")) * 20_000)
        tls = cast(Any, attacker.transport)
        await deferLater(reactor, 0)
        (tls.transport if abruptly else tls).loseConnection()
        await until(reactor, lambda: len(links.messages) == 20_000)
        started = reactor.seconds()
        await until(reactor, lambda: not transport.connections)
        self.assertLess(reactor.seconds() - started, 5)


class Pumping:
    """
    A producer that sends the same data whenever there is room.
    """

    def __init__(self, attacker: Attacker, data: bytes) -> None:
        self._attacker = attacker
        self._data = data
        self._next: IDelayedCall | None = None
        self._pump()

    def _pump(self) -> None:
        if not self._attacker.lost:
            self._next = reactor.callLater(0.001, self._pump)
            self._attacker.send(self._data)

    def pauseProducing(self) -> None:
        """
        Stop for now.
        """
        self.stopProducing()

    def resumeProducing(self) -> None:
        """
        Continue.
        """
        self.stopProducing()
        self._pump()

    def stopProducing(self) -> None:
        """
        Stop.
        """
        cancel_if_active(self._next)


class IrohStreamsTests(AttackTests):
    """
    Many streams over iroh, by strangers.
    """

    if NO_IROH:
        skip = NO_IROH

    async def memory(self, data: bytes, name: str, count: int = 100) -> float:
        """
        Let 40 strangers open C{count} streams each, if they can, and write C{data} to
        each; return by how many MB the victim has grown at most.
        """
        member = self.victim("iroh")
        before = await self.settled(member)
        _, _, port = member.addresses[0]
        target = Target(bytes.fromhex(member.peer), port)
        sent = 0
        # A stream that is forgotten is finished.
        streams: list[Any] = []
        most = 0

        def close(raw: RawPeer) -> Deferred[None]:
            return Deferred.fromCoroutine(raw.call(raw.endpoint.close()))

        for number in range(1, 41):
            raw = RawPeer(reactor, number)
            self.addCleanup(close, raw)
            connection = await raw.connect(cast(Any, target))
            with contextlib.suppress(IrohFailure):
                for _ in range(count):
                    streams.append(await raw.write(connection, data))
                    sent += len(data)
            most = max(most, member.resident() - before)
        await deferLater(reactor, 0.5)
        most = max(most, member.resident() - before)
        turn = member.longest_turn()
        figures = f"{sent} bytes sent, {most / MB:+.1f} MB, longest turn {turn * 1000:.1f} ms"
        report(f"40 x {count} iroh streams, {name}: {figures}")
        return most / MB

    async def test_unknown_topic(self) -> None:
        """
        Streams of a topic that is not open.
        """
        self.assertLessEqual(await self.memory(prefix(b"unknown".ljust(32)), "unknown topic"), 20)

    async def test_many_topics(self) -> None:
        """
        Streams that carry messages of such a topic.
        """
        data = prefix(b"unknown".ljust(32)) + prefix(bytes(100)) * 10
        self.assertLessEqual(await self.memory(data, "unknown topic, messages"), 20)

    async def test_no_header(self) -> None:
        """
        Streams with the beginning of a header.
        """
        self.assertLessEqual(await self.memory(b"\x00\x00\x00", "no header"), 20)

    async def test_as_many_as_allowed(self) -> None:
        """
        As many streams as do not end the connection.
        """
        data = prefix(b"unknown".ljust(32))
        self.assertLessEqual(await self.memory(data, "unknown topic", MAX_UNKNOWN), 20)
        self.assertLessEqual(await self.memory(data[:3], "no header", MAX_WITHOUT_HEADER), 20)
        self.assertLessEqual(await self.memory(prefix(TOPIC), "known topic", MAX_PER_TOPIC), 20)

    async def test_known_topic(self) -> None:
        """
        Streams of the topic that the victim is in.
        """
        self.assertLessEqual(await self.memory(prefix(TOPIC), "known topic"), 20)
