"""
Tests for L{dtt.transport.quic.session}: peers that break the rules of QUIC.
"""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr
from random import Random

from aioquic.quic.connection import MAX_NETWORK_PATHS
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.quic.library import MAX_HOLES, kept
from dtt.transport.quic.session import (
    MAX_KEPT,
    PAUSE_ABOVE,
    WINDOW,
    Event,
    Received,
    Session,
    Terminated,
)
from tests.sweeps import sized
from tests.transport.quic.packets import ACK, crypto_frame, numbers, packet, stream_frame
from tests.transport.quic.sessions import Pair

#: The first byte of the client's stream after its proof.
FIRST = 128


class HostileTests(SynchronousTestCase):
    """
    What a peer with an open connection can do to us.
    """

    def setUp(self) -> None:
        self.pair = Pair()
        self.client, self.server = self.pair.connect()

    def send(self, frames: bytes) -> list[Event]:
        """
        Send frames to the server.
        """
        self.server.receive(packet(self.client._quic, frames), self.pair.client_address, self.pair.now)
        found = self.server.events()
        self.server.datagrams(self.pair.now)
        return found

    def test_window(self) -> None:
        """
        What is kept of a stream that begins with a hole is bounded, however much has
        arrived before: neither what lies behind the hole nor what was delivered long ago
        lets the peer send more.
        """
        for before in (0, 4 * WINDOW):
            self.setUp()
            self.client.write(bytes(before))
            self.pair.run()
            start = FIRST + before + 1
            self.assertLessEqual(self.server._quic._local_max_data.value, FIRST + before + WINDOW)
            furthest = 0
            for number in range(200):
                offset = start + number * (WINDOW // 64)
                if self.send(stream_frame(offset, b"x")):
                    break
                furthest = offset - start
            self.assertTrue(self.server.ended)
            self.assertGreater(furthest, WINDOW // 2)
            stream = self.server._quic._streams[2]
            self.assertLessEqual(len(stream.receiver._buffer), WINDOW)

    def test_much(self) -> None:
        """
        The window moves on with what arrives.
        """
        data = Random(1).randbytes(5 * WINDOW)
        self.client.write(data)
        self.pair.run()
        received = b"".join(e.data for e in self.pair.server_events if isinstance(e, Received))
        self.assertEqual(received, data)

    def test_holes(self) -> None:
        """
        A peer that sends its stream, or its part of a handshake, in thousands of pieces
        is disconnected.
        """
        for kind in (stream_frame, crypto_frame):
            self.setUp()
            found: list[Event] = []
            for number in range(2 * MAX_HOLES // 50):
                pieces = range(50 * number, 50 * number + 50)
                found += self.send(b"".join(kind(2000 + 2 * piece, b"x") for piece in pieces))
                if found:
                    break
            self.assertEqual(found, [Terminated("too many pieces")], kind)

    def test_acknowledges_what_was_not_sent(self) -> None:
        """
        A peer that acknowledges what was never sent is disconnected.
        """
        for largest in (self.server._quic._packet_number, 2**40):
            self.setUp()
            found = self.send(bytes((ACK,)) + numbers(largest, 0, 0, 0))
            self.assertEqual(found, [Terminated("bad acknowledgement")])

    def test_acknowledges_all_but_one(self) -> None:
        """
        What is kept for a peer that acknowledges everything but one packet is bounded:
        nothing more is written.
        """
        quic = self.client._quic
        stream = quic._streams[2]
        original = stream.sender.on_data_delivery
        start = stream.sender._buffer_stop

        def acknowledge(delivery: object, first: int, *args: object) -> None:
            if first != start:
                original(delivery, first, *args)  # type: ignore[arg-type]

        stream.sender.on_data_delivery = acknowledge  # type: ignore[method-assign, assignment]
        written = 0
        while not self.client.has_backlog():
            self.client.write(bytes(4000))
            written += 4000
            self.pair.run()
            self.assertLess(written, 2 * MAX_KEPT)
        self.assertLessEqual(kept(quic, 2), MAX_KEPT + 4000)
        self.assertFalse(self.client.has_drained())

    def test_never_acknowledges(self) -> None:
        """
        What is written for a peer that never acknowledges anything becomes a backlog.
        """
        while not self.client.has_backlog():
            self.client.write(bytes(4000))
            self.client.datagrams(self.pair.now)
        self.assertLess(kept(self.client._quic, 2), 3 * PAUSE_ABOVE)

    def test_stop_sending(self) -> None:
        """
        A peer that does not want our stream is disconnected.
        """
        self.assertEqual(self.send(b"\x05" + numbers(3, 0)), [Terminated("stream reset")])

    def test_many_streams(self) -> None:
        """
        A peer that opens many streams is disconnected, with few of them.
        """
        found = self.send(b"".join(stream_frame(0, b"x", 2 + 4 * n) for n in range(1, 100)))
        self.assertEqual(found, [Terminated("unexpected stream")])
        self.assertLess(len(self.server._quic._streams), 200)

    def test_broken_frames(self) -> None:
        """
        Whatever the frames are, nothing is raised, and nothing is logged: neither to
        the loggers of the application nor to standard error.
        """
        logged: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        self.addCleanup(logging.getLogger().removeHandler, handler)
        rng = Random(3)
        printed = io.StringIO()
        with redirect_stderr(printed):
            for seed in range(sized(25, 200)):
                self.pair = Pair(seed=seed)
                self.client, self.server = self.pair.connect()
                first = bytes((rng.randrange(0x1F),))
                self.send(first + rng.randbytes(rng.randrange(1, 60)))
                for _ in range(3):
                    self.pair.exchange()
        self.assertEqual((logged, printed.getvalue()), ([], ""))

    def move(self, address: tuple[str, int], datagram: bytes) -> int:
        """
        Let a datagram arrive from another address.

        @return: the bytes that are sent there.
        """
        self.server.receive(datagram, address, self.pair.now)
        self.server.events()
        return sum(len(data) for data, to in self.server.datagrams(self.pair.now) if to == address)

    def test_forged_migration(self) -> None:
        """
        An address that a connection seems to move to gets no more bytes than came from
        there, as long as it does not answer; then the connection continues at the old address.
        """
        victim = ("198.51.100.9", 9)
        self.server.write(bytes(100_000))
        came = went = 0
        for _ in range(20):
            datagram = packet(self.client._quic, b"\x01" + bytes(50))
            came += len(datagram)
            went += self.move(victim, datagram)
            self.assertLessEqual(went, came)
        while (due := self.server.timer()) is not None and due < self.pair.now + 20:
            self.pair.now = max(self.pair.now, due)
            self.server.handle_timer(self.pair.now)
            self.server.events()
            went += sum(len(data) for data, to in self.server.datagrams(self.pair.now) if to == victim)
            if self.server.address != victim:
                break
        self.assertLessEqual(went, came)
        self.assertEqual(self.server.address, self.pair.client_address)

    def test_migration(self) -> None:
        """
        A client whose address has changed is followed, within a second or two.
        """
        self.pair.client_address = ("203.0.113.77", 7)
        self.client.write(b"moved")
        self.pair.wait(2.0)
        self.assertIn(Received(b"moved"), self.pair.server_events)
        self.assertEqual(self.server.address, self.pair.client_address)
        self.server.write(bytes(100_000))
        self.pair.wait(2.0)
        received = sum(len(e.data) for e in self.pair.client_events if isinstance(e, Received))
        self.assertEqual(received, 100_000)

    def test_many_addresses(self) -> None:
        """
        The addresses of one connection are bounded.
        """
        for number in range(100):
            address = ("198.51.100.9", 1 + number)
            datagram = packet(self.client._quic, b"\x01" + bytes(30))
            self.assertLessEqual(self.move(address, datagram), len(datagram))
        self.assertLessEqual(len(self.server._quic._network_paths), MAX_NETWORK_PATHS)

    def test_coalesced(self) -> None:
        """
        Packets in one datagram are handled one by one; garbage among them is dropped.
        """
        good = [packet(self.client._quic, stream_frame(FIRST, b"x"))]
        garbage = (
            b"\xe0\x00\x00\x00\x01\x08"
            + self.server._quic.host_cid
            + b"\x08"
            + bytes(8)
            + b"\x14"
            + bytes(20)
        )
        datagram = garbage * 20 + good[0]
        self.server.receive(datagram, self.pair.client_address, self.pair.now)
        self.assertEqual(self.server.events(), [Received(b"x")])

    def test_updates_keys(self) -> None:
        """
        A peer that updates its keys again and again is served.
        """
        for _ in range(20):
            self.client._quic.request_key_update()
            self.client.write(b"x")
            self.pair.run()
        self.assertEqual(self.pair.server_events.count(Received(b"x")), 20)


class FirstPacketTests(SynchronousTestCase):
    """
    A server that has not read anything yet.
    """

    def test_nothing_readable(self) -> None:
        """
        A session whose first datagram can't be read has nothing to send, and ends when
        the time is up.
        """
        pair = Pair()
        for rest in (b"\x7f\xff" + bytes(20), b"\x00\x7f\xff", b"\x00\x44\x00" + bytes(1100), b""):
            session = Session(
                pair._server_configuration,
                pair.client._key,
                Random(1).randbytes,
                destination=b"d" * 8,
            )
            head = b"\xc0\x00\x00\x00\x01\x08" + b"d" * 8 + b"\x08" + b"s" * 8
            session.receive((head + rest).ljust(1200, b"\x00"), pair.client_address, 0.0)
            self.assertEqual(session.events(), [])
            self.assertEqual(session.datagrams(0.0), [])
            due = session.timer()
            assert due is not None
            session.handle_timer(due)
            self.assertEqual(session.events(), [Terminated("timed out")])
