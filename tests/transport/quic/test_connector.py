"""
Tests for L{dtt.transport.quic.connector} and L{dtt.transport.quic.endpoint}: what comes
from addresses whose path is not proved, and from hostile members.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.errors import DialFailed
from dtt.krpc.messages import encode_query
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.udp import Datagram
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, MAX_UNAUTHENTICATED
from dtt.transport.quic import traversal
from dtt.transport.quic.connector import MAX_HELD, MAX_NETWORKS, MAX_PER_SECOND, MAX_UNASKED
from dtt.transport.quic.endpoint import MIN_INITIAL
from dtt.transport.quic.probes import PING, PONG, PROBE_SIZE
from dtt.transport.quic.session import Session
from dtt.transport.quic.stream import ByteStream
from dtt.transport.quic.traversal import LEARNT, MAX_LEARNT_PEERS, MAX_UNANSWERED, Path
from dtt.transport.streams.transport import StreamsTransport
from tests.sweeps import sized
from tests.transport.quic.network import KEYS, PROBED, SECRET, QuicNetwork, quic_addresses
from tests.transport.quic.packets import first_packet

VICTIM = ("198.51.100.9", 9)


class ConnectorCase(SynchronousTestCase):
    """
    Alice, whose key is the smallest, and others.
    """

    def setUp(self) -> None:
        self.network = QuicNetwork()
        self.alice, self.bob = (self.network.transport(n) for n in (1, 2))
        assert self.alice.quic is not None
        self.quic = self.alice.quic
        self.address = quic_addresses(self.alice)[0]
        self.sent_to: list[Datagram] = []
        self.network.udp.observers.append(self.sent_to.append)

    def send(self, source: tuple[str, int], data: bytes) -> None:
        """
        Send a datagram to Alice with any source.
        """
        self.quic.datagram_received(data, *source)

    def bytes_to(self, *addresses: tuple[str, int]) -> int:
        """
        Return how much was sent to some addresses.
        """
        return sum(len(each.data) for each in self.sent_to if each.destination in addresses)

    def ping(self, sender: int = 2, seed: object = 0) -> bytes:
        """
        Return a PING of a member to Alice.
        """
        probes = type(self.quic.traversal.probes)(KEYS[sender].peer_id)
        probes.open_topic(PROBED, SECRET)
        now = self.network.clock.seconds()
        return probes.ping(PROBED, self.alice.peer_id, Random(str(seed)).randbytes(12), now)

    def prove(self, address: tuple[str, int], peer_id: bytes) -> None:
        """
        Let the path to an address count as proved.
        """
        self.quic.traversal._proved[address] = (self.network.clock.seconds(), peer_id)

    def dial(self, dialler: StreamsTransport, peer: StreamsTransport) -> None:
        """
        Dial, and check that it works.
        """
        dialled = dialler.dial(peer.peer_id, peer.addresses())
        self.network.advance(0.9)
        self.successResultOf(dialled)


class PathTests(ConnectorCase):
    """
    What is said of a connection.
    """

    def test_path(self) -> None:
        """A connection over QUIC has the peer's address, and the round trip that was measured."""
        self.assertIsNone(self.alice.path(self.bob.peer_id))
        self.dial(self.alice, self.bob)
        path = self.alice.path(self.bob.peer_id)
        assert path is not None
        host, port = quic_addresses(self.bob)[0]
        self.assertEqual((path.transport, path.address), ("quic", f"{host}:{port}"))
        assert path.round_trip is not None
        self.assertTrue(0 < path.round_trip < 1, path.round_trip)


class StrangerTests(ConnectorCase):
    """
    Datagrams of anyone, with forged sources.
    """

    def test_no_answer(self) -> None:
        """
        Nothing that a stranger can send is answered, and nothing of it is kept.
        """
        rng = Random(1)
        for number in range(2000):
            source = (f"198.51.{number % 200}.{number % 7}", 1 + number)
            for data in (
                first_packet(rng.randbytes(8)),
                first_packet(rng.randbytes(20), b"\x00\x44\x00" + rng.randbytes(800)),
                first_packet(rng.randbytes(8), size=MIN_INITIAL - 1),
                b"\xc0\x00\x00\x00\x00" + rng.randbytes(1300),
                b"\xc0\x0a\x0a\x0a\x0a" + rng.randbytes(1300),
                b"\xff" + rng.randbytes(60),
                b"\x40" + rng.randbytes(60),
                PING + rng.randbytes(PROBE_SIZE - 4),
                PONG + rng.randbytes(PROBE_SIZE - 4),
                PING,
                bytes((rng.randrange(256),)) + rng.randbytes(rng.randrange(1500)),
                b"\xc0",
                b"\xc0\x00\x00\x00\x01\xff",
                rng.randbytes(65507) if number < 3 else b"\x80",
            ):
                self.send(source, data)
        self.network.advance(20.0)
        self.assertEqual(self.sent_to, [])
        traversal = self.quic.traversal
        self.assertEqual((len(self.quic.endpoint), self.quic._held, traversal._targets), (0, {}, {}))
        self.assertEqual((len(self.alice.connections), len(self.alice.handshakes)), (0, 0))

    def test_flood_harms_nobody(self) -> None:
        """
        A flood from more networks than are counted does not keep members out.
        """
        rng = Random(2)
        for number in range(MAX_NETWORKS + 500):
            source = (f"{1 + number % 200}.{number // 200}.{number % 250}.1", 1 + number)
            self.send(source, PING + rng.randbytes(PROBE_SIZE - 4))
            self.send(source, first_packet(rng.randbytes(8)))
        self.dial(self.bob, self.alice)

    def test_held(self) -> None:
        """
        A first packet waits only if our PING to its source is open; few do,
        for a second; and none is answered before the path is proved.
        """
        addresses = [(f"198.51.{n}.9", 9) for n in range(60)]
        for n, address in enumerate(addresses):
            self.quic.attempt(n.to_bytes(32, "big"), [address], None).addErrback(lambda _: None)
        self.network.advance(0.01)
        before = self.bytes_to(*addresses)
        for address in addresses:
            for seed in range(3):
                self.send(address, first_packet(Random(seed).randbytes(8)))
            self.send(("198.51.200.1", 9), first_packet(b"x" * 8))
        self.assertEqual(len(self.quic._held), MAX_HELD)
        self.assertEqual((self.bytes_to(*addresses), len(self.quic.endpoint)), (before, 0))
        self.network.advance(2.0)
        self.send(addresses[-1], first_packet(b"x" * 8))
        self.assertEqual(set(self.quic._held), {addresses[-1]})

    def test_unreadable_first_packets(self) -> None:
        """
        First packets that can't be read, from a proved address: their connections
        end when the time for handshakes is over.
        """
        self.prove(VICTIM, KEYS[5].peer_id)
        printed = io.StringIO()
        with redirect_stderr(printed):
            for number, rest in enumerate((b"\x7f\xff" + bytes(9), b"\x00\x7f\xff", b"\x00\x44\x00", b"")):
                self.send(VICTIM, first_packet(bytes((number,)) * 8, rest))
            self.assertEqual(len(self.alice.connections), 4)
            self.network.advance(HANDSHAKE_TIMEOUT + 1)
        self.assertEqual((len(self.alice.connections), len(self.quic.endpoint)), (0, 0))
        self.assertLessEqual(self.bytes_to(VICTIM), MIN_INITIAL)
        self.assertEqual(printed.getvalue(), "")

    def test_unfinished_handshakes(self) -> None:
        """
        Clients that begin handshakes and do not continue: not more than 50 a second
        from one address, never more than 64 at a time, none after 10 s, and no more than
        three times as much goes there as came from there.
        """
        for count, most in ((1, MAX_PER_SECOND), (29, MAX_UNAUTHENTICATED)):
            self.setUp()
            clients = [(f"198.51.100.{n}", 9) for n in range(count)]
            came = 0
            for address in clients:
                self.prove(address, KEYS[5].peer_id)
            for number in range(sized(80, 200)):
                session = Session(
                    self.quic.endpoint._client, KEYS[5], Random(number).randbytes, dialled=self.alice.peer_id
                )
                session.connect(self.address, self.network.clock.seconds())
                ((datagram, _),) = session.datagrams(self.network.clock.seconds())
                came += len(datagram)
                self.send(clients[number % len(clients)], datagram)
                self.assertLessEqual(len(self.alice.handshakes), most)
                self.network.advance(0.002)
            self.assertEqual(len(self.alice.connections), most)
            self.network.advance(HANDSHAKE_TIMEOUT + 2)
            self.assertEqual((len(self.alice.connections), len(self.quic.endpoint)), (0, 0))
            self.assertLessEqual(self.bytes_to(*clients), 3 * came)

    def test_retransmitted(self) -> None:
        """
        The same first packet again begins no second connection.
        """
        self.prove(VICTIM, KEYS[5].peer_id)
        for _ in range(5):
            self.send(VICTIM, first_packet(b"x" * 8))
        self.assertEqual(len(self.alice.connections), 1)

    def test_unauthenticated_packets(self) -> None:
        """
        Version Negotiation and Retry, with the right connection ids, change nothing: a dial continues.
        """
        dialled = self.bob.dial(self.alice.peer_id, self.alice.addresses())
        assert self.bob.quic is not None
        while not self.bob.quic.endpoint._streams:
            self.network.advance(0.005)
        for connection_id in list(self.bob.quic.endpoint._streams):
            for head in (b"\xc0\x00\x00\x00\x00", b"\xff\x00\x00\x00\x00", b"\xf0\x00\x00\x00\x01"):
                data = head + b"\x08" + connection_id + b"\x08" + b"s" * 8 + b"\x6b\x33\x43\xcf" + bytes(32)
                self.bob.quic.datagram_received(data, *self.address)
        self.assertGreaterEqual(self.bob.counters["dropped_quic"], 3)
        self.network.advance(1.0)
        self.successResultOf(dialled)


class MemberTests(ConnectorCase):
    """
    Hostile members: they can write probes.
    """

    def test_forged_source(self) -> None:
        """
        An address that PINGs seem to come from gets an answer to each, and at most three
        probes, under however many names they come; and no connection.
        """
        came = 0
        for number in range(60):
            ping = self.ping(2 + number % 20, number)
            came += len(ping)
            self.send(VICTIM, ping)
            self.network.advance(0.3)
        self.network.advance(1.0)
        self.assertLessEqual(self.bytes_to(VICTIM), came + LEARNT * PROBE_SIZE)
        self.assertEqual(self.alice.counters["sent_ping"], LEARNT)
        self.assertEqual(len(self.alice.connections), 0)

    def test_many_forged_sources(self) -> None:
        """
        What is kept of addresses that PINGs came from is bounded; own dials have room,
        also to the peer in whose name they were sent.
        """
        most = sized(512, traversal.MAX_COUNTED)
        self.patch(traversal, "MAX_COUNTED", most)
        for number in range(2 * most):
            source = (f"{1 + number // 250}.{number % 250}.1.1", 9)
            self.quic._counted.clear()
            self.send(source, self.ping(2 + number % 22 if number % 2 else 2, number))
            if number % 100 == 0:
                self.network.advance(1.0)
        kept = self.quic.traversal
        self.assertLessEqual(len(kept._targets), MAX_LEARNT_PEERS)
        self.assertLessEqual(len(kept._learnt), most)
        self.assertLessEqual(len(kept._unanswered), most)
        self.assertGreater(len(kept._unanswered), most // 4)
        self.dial(self.alice, self.bob)

    def test_replay(self) -> None:
        """
        A PING that comes again, from wherever, gets no answer.
        """
        ping = self.ping()
        self.send(VICTIM, ping)
        before = self.bytes_to(VICTIM)
        self.assertGreater(before, 0)
        for number in range(50):
            self.send(("203.0.113.1", 1 + number), ping)
            self.send(VICTIM, ping)
        self.assertEqual(self.bytes_to(VICTIM), before)
        self.assertEqual([each for each in self.sent_to if each.destination[0] == "203.0.113.1"], [])

    def test_records_that_name_victims(self) -> None:
        """
        However many records of however many members name eight victims, at whichever
        ports, each IP address gets 60 datagrams within 10 minutes.
        """
        victims = [f"198.51.100.{n}" for n in range(8)]
        for minute in range(10):
            for number in range(40):
                addresses = [(host, 1 + 100 * minute + number) for host in victims]
                self.quic.attempt(Random(f"{minute} {number}").randbytes(32), addresses, None).addErrback(
                    lambda _: None
                )
            self.network.advance(59.0)
        for host in victims:
            sent = [each for each in self.sent_to if each.destination[0] == host]
            self.assertLessEqual(len(sent), MAX_UNANSWERED)
            self.assertLessEqual(sum(len(each.data) for each in sent), MAX_UNANSWERED * PROBE_SIZE)

    def test_unasked(self) -> None:
        """
        A member that proves paths under many names makes us begin few handshakes.
        """
        quic = self.bob.quic
        assert quic is not None
        low = [n.to_bytes(32, "big") for n in range(2 * MAX_UNASKED)]
        for n, peer_id in enumerate(low):
            quic._path_proved(Path(peer_id, ("198.51.100.1", 1 + n), 0.0))
        self.assertEqual(len(self.bob.connections), MAX_UNASKED)
        self.network.advance(HANDSHAKE_TIMEOUT + 1)
        self.assertEqual((len(self.bob.connections), len(quic.endpoint)), (0, 0))

    def test_wrong_key(self) -> None:
        """
        A peer that answers probes with another id gets no further: the dial fails, and the path is no longer
        proved.
        """
        claimed = KEYS[9].peer_id
        assert self.bob.quic is not None
        self.bob.quic.traversal.probes._own_id = claimed
        dialled = self.alice.dial(claimed, self.bob.addresses())
        self.network.advance(1.0)
        self.assertEqual(str(self.failureResultOf(dialled, DialFailed).value), "wrong peer key")
        self.assertFalse(self.alice.is_connected(claimed))
        self.assertIsNone(self.quic.traversal.path_to(claimed, self.network.clock.seconds()))

    def test_no_proof(self) -> None:
        """
        A client that sends nothing, garbage or another's proof inside the connection is
        not let in: at once, or after 10 s.
        """
        for hello, wait in (
            (b"", HANDSHAKE_TIMEOUT),
            (bytes(128), 1.0),
            (b"x" * 5000, 1.0),
            (b"x" * 127, 11.0),
        ):
            self.setUp()
            self.patch(
                Session,
                "_greet",
                lambda session, found, greet=Session._greet, hello=hello: (
                    session._quic.send_stream_data(2, hello)
                    if session._is_client and not session._violation and session._greeted
                    else greet(session, found)
                ),
            )
            dialled = self.bob.dial(self.alice.peer_id, self.alice.addresses())
            self.network.advance(wait + 1.0)
            self.failureResultOf(dialled, DialFailed)
            self.assertEqual(self.alice.counters["accepted"], 0)
            self.assertEqual((len(self.alice.connections), len(self.alice.handshakes)), (0, 0))
            self.network.advance(12.0)
            self.assertEqual(len(self.quic.endpoint), 0)


class SharedSocketTests(SynchronousTestCase):
    """
    QUIC and a DHT node on one socket.
    """

    def setUp(self) -> None:
        self.network = QuicNetwork()
        self.bob = self.network.transport(2)
        self.node = DHTNode(self.network.udp.reactor("10.0.0.1"), port=6881, rng=Random(1))
        self.alice = StreamsTransport(
            self.network.tcp.reactor("10.0.0.1"),
            KEYS[1],
            tcp=False,
            quic_rng=Random(1),
            interface_addresses=lambda: ("10.0.0.1",),
        )
        self.links = RecordingLinks()
        assert self.alice.quic is not None
        self.quic = self.alice.quic
        self.alice.open_topic(PROBED, SECRET, self.links)
        self.bob.quic.traversal.probes.close_topic(PROBED)  # type: ignore[union-attr]
        self.bob.open_topic(PROBED, SECRET, RecordingLinks())
        self.node.share(self.quic.datagram_received, self.quic.connection_ids)
        self.node.startService()
        self.alice.attach(self.node.send_datagram, self.node.bound_addresses())
        self.addCleanup(self.node.stopService)
        self.answers: list[bytes] = []
        self.network.udp.observers.append(self._sent)

    def _sent(self, datagram: Datagram) -> None:
        if datagram.destination == ("10.0.0.9", 9) and datagram.data[:1] == b"d":
            self.answers.append(datagram.data)

    def receive(self, data: bytes, source: tuple[str, int] = ("10.0.0.9", 9)) -> None:
        """
        Let the node's socket receive a datagram.
        """
        self.node.krpc.datagramReceived(data, source)

    def query(self) -> bool:
        """
        Return whether the DHT node answers a query.
        """
        before = len(self.answers)
        query = encode_query(b"aa", b"ping", b"q" * 20, {}, False)
        self.receive(query)
        return len(self.answers) > before

    def test_chosen_connection_id(self) -> None:
        """
        A client that chooses what KRPC messages begin with as the connection id of its
        first packet gets none of them, and is served.
        """
        for beginning in (b"1:ad2:id", b"2:ip6:\x0a\x00", b"1:rd2:id"):

            def connect(
                session: Session,
                address: Any,
                now: float,
                chosen: bytes = beginning,
                original: Any = Session.connect,
            ) -> None:
                session._quic._peer_cid.cid = chosen
                session._quic._original_destination_connection_id = chosen
                original(session, address, now)

            patch = self.patch(Session, "connect", connect)
            dialled = self.bob.dial(self.alice.peer_id, self.alice.addresses())
            while beginning not in self.quic.endpoint._chosen and not dialled.called:
                self.network.advance(0.002)
            self.assertIn(beginning, self.quic.endpoint._chosen)
            self.assertNotIn(beginning, self.quic.connection_ids)
            self.assertTrue(self.query())
            self.network.advance(2.0)
            self.successResultOf(dialled)
            self.assertTrue(self.query())
            patch.restore()
            for connection in list(self.bob.connections):
                connection.abort("silent")
            self.network.advance(30.0)
            self.assertNotIn(beginning, self.quic.endpoint._chosen)

    def test_first_byte(self) -> None:
        """
        A packet of an open connection may begin with any byte from 0x40 to 0x7f, C{d}
        included; a KRPC message in the middle of it is answered, and one that carries a
        connection id is not.
        """
        self.bob.dial(self.alice.peer_id, self.alice.addresses())
        self.network.advance(1.0)
        self.bob.send(self.alice.peer_id, PROBED, b"hello")
        self.network.advance(1.0)
        firsts: set[int] = set()
        (stream,) = {id(s): s for s in self.quic.endpoint._streams.values()}.values()
        original = ByteStream.datagram_received

        def received(this: ByteStream, datagram: bytes, address: tuple[str, int]) -> None:
            if this is stream:
                firsts.add(datagram[0])
            original(this, datagram, address)

        self.patch(ByteStream, "datagram_received", received)
        for number in range(300):
            self.bob.send(self.alice.peer_id, PROBED, b"%d" % number)
            self.network.advance(0.05)
            if number % 10 == 0:
                self.assertTrue(self.query())
        self.assertIn(0x64, firsts)
        self.assertGreater(len(firsts), 10)
        self.assertEqual([m for _, m in self.links.messages], [b"hello", *(b"%d" % n for n in range(300))])
        (connection_id, *_) = stream.connection_ids
        before = len(self.answers)
        self.receive(b"d" + connection_id + encode_query(b"aa", b"ping", b"q" * 20, {}, False)[9:])
        self.assertEqual(len(self.answers), before)
        self.network.advance(1.0)
        self.assertTrue(self.alice.is_connected(self.bob.peer_id))

    def test_flood(self) -> None:
        """
        A flood of what is not KRPC does not count towards the limits of the DHT: queries
        are answered, also those of the same address; and it keeps nothing busy.
        """
        rng = Random(4)
        kinds = (b"\xc0\x00\x00\x00\x01\x08", b"\x40", PING, PONG, b"\xff", b"\x00", b"\x64")
        for number in range(20_000):
            head = kinds[number % len(kinds)]
            size = (1200, 60, PROBE_SIZE, 30)[number % 4]
            source = ("10.0.0.9", 9) if number % 2 else (f"45.{number % 250}.{number % 99}.1", 1)
            if head != b"\x64":
                self.receive((head + rng.randbytes(24)).ljust(size, b"\x00"), source)
            if number % 1000 == 0:
                self.assertTrue(self.query(), number)
        self.assertTrue(self.query())
        self.assertEqual((len(self.quic.endpoint), len(self.quic._held)), (0, 0))
        self.bob.dial(self.alice.peer_id, self.alice.addresses())
        self.network.advance(2.0)
        self.assertTrue(self.alice.is_connected(self.bob.peer_id))
