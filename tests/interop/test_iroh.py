"""
The iroh transport with the real bindings: members, disconnections, and invalid input.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from dtt.counters import snake_case
from dtt.errors import ListenError
from dtt.events import Event, PeerRefused
from dtt.gossip.proto.messages import Join, Neighbor, Priority, encode
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh import connections as quic_peers
from dtt.transport.iroh import receiving as quic_receiving
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.endpoint import Servers
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.settings import TransportSettings
from dtt.wire.addresses import IROH, PeerAddress, RelayAddress
from dtt.wire.length_prefix import prefix
from dtt.wire.postcard import encode_varint
from tests.interop.gossip_member import TOPIC as GOSSIP_MEMBER_TOPIC
from tests.interop.gossip_trio import MemberProcess
from tests.interop.iroh_peers import SECRET_HASH, TOPIC, IrohMember, IrohTestCase, RawPeer
from tests.interop.support import LOOPBACK, NO_IROH, until

reactor: Any = global_reactor

#: The relay in C{tests/interop/rust}.
RELAY = (
    Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).parent / "rust" / "target")
    / "release"
    / "relay"
)


class MemberTests(IrohTestCase):
    """
    Members of one swarm.
    """

    async def trio(self) -> list[IrohMember]:
        """
        Three members, all neighbours of each other.
        """
        members = [self.member(number) for number in (1, 2, 3)]
        for member in members[1:]:
            member.join(members[0])
        await until(reactor, lambda: all(len(member.member.neighbors()) == 2 for member in members))
        return members

    async def test_proofs(self) -> None:
        """
        Members prove the secret to each other; one that requires it meets them, and
        refuses a peer that has another secret or proves nothing.
        """
        events: list[Event] = []
        settings = TransportSettings(require_secret=True, emit=events.append)
        strict, both = (self.member(number, settings=settings) for number in (1, 2))
        plain = self.member(3)
        both.join(strict)
        plain.join(strict)
        members = (strict, both, plain)
        await until(reactor, lambda: all(len(member.member.neighbors()) == 2 for member in members))
        await plain.member.broadcast(b"proved")
        await strict.listener.heard(reactor, 1)
        self.assertEqual(events, [])

        raw = self.raw(4)
        connection = await raw.connect(strict.transport)
        await raw.write(connection, prefix(TOPIC) + prefix(encode(Join(b""))))
        await until(reactor, lambda: bool(events))
        self.assertEqual([type(event) for event in events], [PeerRefused])
        await raw.closed(connection)
        self.assertNotIn(raw.peer_id, strict.member.neighbors())
        self.assertEqual(strict.transport.counters["refused_not_proved"], 1)

    async def test_contents(self) -> None:
        """
        Contents of all sizes reach both others.
        """
        members = await self.trio()
        contents = [os.urandom(size) for size in (0, 1, 127, 128, 4055)]
        for content in contents:
            await members[1].member.broadcast(content)
        for member in (members[0], members[2]):
            await member.listener.heard(reactor, len(contents))
            self.assertEqual(sorted(member.listener.contents), sorted(contents))

    async def test_ten_thousand_broadcasts(self) -> None:
        """
        Each of 10 000 contents reaches both others, once.
        """
        members = await self.trio()
        contents = [number.to_bytes(100, "big") for number in range(10_000)]
        for content in contents:
            await members[0].member.broadcast(content)
        for member in members[1:]:
            await member.listener.heard(reactor, len(contents))
            self.assertEqual(sorted(member.listener.contents), contents)

    async def test_simultaneous_joins(self) -> None:
        """
        Two members that join each other at the same time become neighbours, and stay
        neighbours while there are two connections.
        """
        one, other = self.member(1), self.member(2)
        one.join(other)
        other.join(one)
        await until(reactor, lambda: one.member.neighbors() and other.member.neighbors())
        await deferLater(reactor, 2)
        await one.member.broadcast(b"from one")
        await other.member.broadcast(b"from the other")
        await until(reactor, lambda: one.listener.contents and other.listener.contents)
        self.assertEqual(one.listener.contents + other.listener.contents, [b"from the other", b"from one"])

    async def test_leaving(self) -> None:
        """
        A member that leaves is gone immediately, its connections are closed a second
        later, and the others continue; it may return.
        """
        members = await self.trio()
        await members[2].member.leave()
        await until(reactor, lambda: all(len(member.member.neighbors()) == 1 for member in members[:2]))
        await until(reactor, lambda: not members[2].transport.peers.connections())
        await members[2].transport.stop()
        again = self.member(3)
        again.join(members[0])
        await until(reactor, lambda: len(again.member.neighbors()) == 2)

    async def test_vanishing(self) -> None:
        """
        A member that vanishes is noticed when its connections time out.
        """
        process = MemberProcess("iroh")
        self.addCleanup(process.stop)
        peer_id = bytes.fromhex(process.peer)
        member = self.member(1, topic=GOSSIP_MEMBER_TOPIC)
        member.book.learn(peer_id, [PeerAddress(*each) for each in process.addresses], "record")
        member.member.join([peer_id])
        await until(reactor, member.member.neighbors)
        os.kill(process.pid, signal.SIGKILL)
        await until(reactor, lambda: not member.member.neighbors())
        self.assertEqual(member.transport.counters["closed_timed_out"], 1)

    test_vanishing.timeout = 180  # type: ignore[attr-defined]


class BadInputTests(IrohTestCase):
    """
    Invalid input from an unknown peer ends at most its connection, for a counted reason.
    """

    async def reason(self, transport: IrohTransport, raw: RawPeer, data: bytes, finish: bool = False) -> str:
        """
        Send C{data} on a stream of a new connection.

        @return: the reason why it was closed.
        """
        before = transport.counters.copy()
        connection = await raw.connect(transport)
        stream = await raw.write(connection, data)
        if finish:
            await raw.call(stream.finish())
        await raw.closed(connection)
        (reason,) = (transport.counters - before).keys() - {"accepted"}
        return reason

    async def test_malformed_streams(self) -> None:
        """
        Invalid frames and headers, and streams that end within a frame, end the
        connection.
        """
        transport, links = self.transport(1)
        raw = self.raw(2)
        header = prefix(TOPIC)
        for data, finish, reason in (
            (header + b"\x00\x00\x10\x01", False, "frame too large"),
            (header + b"\xff\xff\xff\xff", False, "frame too large"),
            (header + bytes(4), False, "bad frame length"),
            (prefix(b"short"), False, "bad stream header"),
            (b"GET / HTTP/1.1\r\n\r\n", False, "frame too large"),
            (header + b"\x00\x00\x00\x05abc", True, "stream ended within a frame"),
        ):
            self.assertEqual(await self.reason(transport, raw, data, finish), "closed_" + snake_case(reason))
        self.assertEqual(links.messages, [])
        # Honest peers are served as before.
        connection = await raw.connect(transport)
        await raw.write(connection, header + prefix(bytes(4095)) + prefix(bytes(4096)))
        await until(reactor, lambda: len(links.messages) == 2)
        self.assertTrue(transport.is_connected(raw.peer_id))

    async def test_malformed_messages(self) -> None:
        """
        Frames that are not gossip messages end the connection.
        """
        member = self.member(1)
        raw = self.raw(2)
        for message in (b"\x02", b"\x00\x06", b"\x01\x00" + bytes(31), os.urandom(1) + b"\xff" * 4000):
            reason = await self.reason(member.transport, raw, prefix(TOPIC) + prefix(message))
            self.assertTrue(reason.startswith("closed_"), reason)

    async def test_peer_data(self) -> None:
        """
        PeerData that are garbage, huge or full of addresses do not affect their message.
        """
        member = self.member(1)
        many = b"\x00" + encode_varint(500) + b"\x00\x0a\x00\x00\x01\x50" * 500
        relay = b"\x01" + encode_varint(3000) + b"x" * 3000 + b"\x00"
        for number, data in enumerate((b"\xff" * 3900, many, relay, os.urandom(3900), b"\x00"), 2):
            raw = self.raw(number)
            connection = await raw.connect(member.transport)
            message = prefix(TOPIC) + prefix(encode(Join(data)))
            stream = await raw.write(connection, message)
            await member.neighbor(reactor, raw.peer_id)
            await raw.call(stream.write_all(prefix(encode(Neighbor(Priority.LOW, data)))))
        self.assertEqual(member.transport.counters["accepted"], 5)
        self.assertEqual([name for name in member.transport.counters if name.startswith("closed")], [])

    async def test_resets_and_stops(self) -> None:
        """
        A stream that is reset, one that the peer stops, and a second bidirectional one
        end the connection.
        """
        transport, _ = self.transport(1)
        raw = self.raw(2)

        connection = await raw.connect(transport)
        stream = await raw.write(connection, prefix(TOPIC))
        await until(reactor, lambda: transport.is_connected(raw.peer_id))
        await deferLater(reactor, 0.1)
        await raw.call(stream.reset(7))
        await raw.closed(connection)
        self.assertEqual(transport.counters["closed_stream_reset"], 1)

        connection = await raw.connect(transport)
        await until(reactor, lambda: transport.is_connected(raw.peer_id))
        transport.send(raw.peer_id, TOPIC, b"hello")
        stream = await raw.call(connection.accept_uni())
        await raw.call(stream.stop(0))
        await deferLater(reactor, 0.1)
        transport.send(raw.peer_id, TOPIC, b"hello")
        await raw.closed(connection)
        self.assertEqual(transport.counters["closed_stream_stopped"], 1)

        connection = await raw.connect(transport)
        opened: Any = connection
        proofs = await raw.call(opened.open_bi())
        await raw.call(proofs.send().write_all(prefix(bytes(32))))
        self.assertEqual((await raw.call(proofs.recv().read(100)))[:4], bytes((0, 0, 0, 32)))
        both = await raw.call(opened.open_bi())
        await raw.call(both.send().write_all(b"hello"))
        await raw.closed(connection)
        self.assertEqual(transport.counters["closed_bidirectional_stream"], 1)

    async def test_late_header(self) -> None:
        """
        A stream without a header, and a connection without a stream, are closed after a
        while.
        """
        self.patch(quic_receiving, "HEADER_TIMEOUT", 0.3)
        self.patch(quic_peers, "FIRST_USE", 0.6)
        transport, links = self.transport(1)
        raw = self.raw(2)
        reason = await self.reason(transport, raw, prefix(TOPIC)[:20])
        self.assertEqual(reason, "closed_no_stream_header")
        connection = await raw.connect(transport)
        await raw.closed(connection)
        self.assertEqual(links.disconnected, [])

    async def test_wrong_alpn(self) -> None:
        """
        A peer with another ALPN protocol gets no connection.
        """
        transport, _ = self.transport(1)
        raw = self.raw(2, b"/iroh-gossip/0")
        await self.assertFailure(Deferred.fromCoroutine(raw.connect(transport)), IrohFailure)
        await until(reactor, lambda: transport.counters["closed_handshake_failed"])
        raw.listen()
        self.assertEqual(await self.dial_error(transport, raw.peer_id, raw), "protocol mismatch")

    async def test_unknown_topic(self) -> None:
        """
        Messages of a topic that is not open are dropped, and delivered once it is.
        """
        transport, _ = self.transport(1)
        raw = self.raw(2)
        connection = await raw.connect(transport)
        stream = await raw.write(connection, prefix(b"u" * 32) + prefix(b"too early"))
        await until(reactor, lambda: transport.counters["received_unknown_topic"])
        links = RecordingLinks()
        transport.open_topic(b"u" * 32, SECRET_HASH, links)
        await raw.call(stream.write_all(prefix(b"in time")))
        await until(reactor, lambda: links.messages)
        self.assertEqual(links.messages, [(raw.peer_id, b"in time")])

    async def test_slow_reader(self) -> None:
        """
        A peer that reads nothing is waited for, and disconnected when too much is queued.
        """
        transport, links = self.transport(1)
        raw = self.raw(2)
        connection = await raw.connect(transport)
        await until(reactor, lambda: transport.is_connected(raw.peer_id))
        for _ in range(1000):
            transport.send(raw.peer_id, TOPIC, bytes(4095))
        await deferLater(reactor, 0.5)
        writable = transport.when_writable([raw.peer_id])
        self.assertFalse(writable.called)
        for _ in range(5000):
            transport.send(raw.peer_id, TOPIC, bytes(4095))
        await writable
        self.assertEqual(transport.counters["closed_slow_reader"], 1)
        self.assertEqual(links.disconnected, [raw.peer_id])
        await raw.closed(connection)

    async def test_many_connections(self) -> None:
        """
        A peer has at most four connections: the oldest ones are closed.
        """
        transport, links = self.transport(1)
        raw = self.raw(2)
        for _ in range(20):
            connection = await raw.connect(transport)
            await raw.write(connection, prefix(TOPIC) + prefix(b"hello"))
        await until(reactor, lambda: len(links.messages) >= 20)
        self.assertLessEqual(len(transport.peers.connections()), 4)
        self.assertEqual(links.disconnected, [])
        self.assertEqual(links.connected, [raw.peer_id])


class ListenTests(IrohTestCase):
    """
    Sockets.
    """

    def test_taken(self) -> None:
        """
        The error for a port in use contains the port and the reason.
        """
        transport, _ = self.transport(1)
        other = IrohTransport(reactor, PeerKey.from_seed(b"o" * 32))
        error = self.assertRaises(ListenError, other.listen, LOOPBACK, transport.port or 0)
        self.assertEqual(
            str(error), f"can't listen on UDP 127.0.0.1 port {transport.port}: Address already in use"
        )

    async def test_freed(self) -> None:
        """
        A stopped transport does not keep its port, even if it is not garbage-collected:
        another one can bind it.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        one, _ = self.transport(1)
        two, links = self.transport(2)
        await one.dial(two.peer_id, two.addresses())
        one.send(two.peer_id, TOPIC, b"hello")
        await until(reactor, lambda: links.messages)
        two.send(one.peer_id, TOPIC, b"hello")
        ports = [one.port or 0, two.port or 0]
        await one.stop()
        await two.stop()
        for number, port in enumerate(ports, 3):
            again = IrohTransport(reactor, PeerKey.from_seed(bytes((number,)) * 32))
            again.listen(LOOPBACK, port)
            await again.stop()

    def test_restricted(self) -> None:
        """
        A transport that listens on loopback has no other socket.
        """
        transport, _ = self.transport(1)
        sockets = transport._endpoint.sockets()
        self.assertEqual({host for host, _ in sockets} - {LOOPBACK, "::1"}, set())
        self.assertEqual(transport.addresses(), (PeerAddress(IROH, LOOPBACK, transport.port or 0),))


class RelayTests(IrohTestCase):
    """
    Connections through a relay of iroh-relay on loopback.
    """

    skip = NO_IROH or (None if RELAY.exists() else f"{RELAY} has not been built (cargo build --release)")

    def setUp(self) -> None:
        super().setUp()
        self.process = subprocess.Popen([RELAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.addCleanup(self.end_relay)

    def end_relay(self) -> None:
        """
        Stop the relay by closing its input.
        """
        self.process.communicate(timeout=10)

    async def test_by_relay_alone(self) -> None:
        """
        Members that know only ids and the relay join and exchange messages; both report
        changed addresses when they have connected to the relay.
        """
        notified: list[int] = []
        one = self.member(
            1,
            servers=Servers(relay_urls=[self.url]),
            settings=TransportSettings(on_addresses_changed=lambda: notified.append(1)),
        )
        other = self.member(
            2,
            servers=Servers(relay_urls=[self.url]),
            settings=TransportSettings(on_addresses_changed=lambda: notified.append(2)),
        )
        relay = RelayAddress(self.url)
        await until(reactor, lambda: relay in one.transport.addresses())
        await until(reactor, lambda: relay in other.transport.addresses())
        await until(reactor, lambda: set(notified) == {1, 2})
        one.book.learn(other.peer_id, [relay], "record")
        one.member.join([other.peer_id])
        await until(reactor, lambda: one.member.neighbors() and other.member.neighbors())
        contents = [os.urandom(size) for size in (0, 1, 4055)]
        for content in contents:
            await one.member.broadcast(content)
        await other.listener.heard(reactor, len(contents))
        self.assertEqual(sorted(other.listener.contents), sorted(contents))

    async def test_a_bad_relay_beside_good_addresses(self) -> None:
        """
        An unusable relay does not affect a peer's other addresses.
        """
        one = self.member(1, servers=Servers(relay_urls=[self.url]))
        other = self.member(2)
        for url in ("no url", "https://relay.invalid/", "http://127.0.0.1:9/"):
            transport = self.member(3, servers=Servers(relay_urls=[self.url])).transport
            await transport.dial(other.peer_id, [*other.transport.addresses(), RelayAddress(url)])
            await transport.stop()
        self.assertTrue(one.transport.finds_peers is False)
