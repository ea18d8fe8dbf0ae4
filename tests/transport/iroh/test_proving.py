"""
Tests for L{dtt.transport.iroh.proving}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dtt.testing.iroh.streams import MemoryBiStream
from dtt.transport.admission import MAX_UNMATCHED
from dtt.transport.iroh.proofs import Proofs
from dtt.transport.iroh.receiving import ReceiveStreams
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import ProvingTestCase, RawPeer


class StreamTests(ProvingTestCase):
    """
    The stream of proofs between a transport and a raw peer.
    """

    def test_hostile_streams(self) -> None:
        """
        Garbage on the stream of proofs ends the connection; an end of the stream, a
        flood of tags and a reset do not, and cost nothing.
        """
        rng = Random(1)
        for data, expected in (
            (b"\xff" * 8, {"bad proof": 1}),
            (prefix(b"n" * 32), {}),
            (b"".join(prefix(rng.randbytes(32)) for _ in range(3000)), {}),
        ):
            self.a.counters.clear()
            raw = RawPeer(self, 30 + len(data) % 7)
            connection = raw.connect(self.a)
            stream: MemoryBiStream = raw.call(connection.open_bi())
            raw.call(stream.send().write_all(data))
            self.advance(1)
            self.assertEqual(self.closed(), expected)
            if not expected:
                self.assertEqual(raw.call(stream.recv().read(100))[:4], bytes((0, 0, 0, 32)))
                raw.call(stream.send().finish())
                self.advance(0.5)
                self.assertEqual(self.closed(), {})
                for mine in self.a.peers.connections():
                    if mine.peer_id == raw.key.peer_id:
                        self.assertLessEqual(len(mine.proofs._tags), MAX_UNMATCHED)

    def test_acceptor_may_not_open(self) -> None:
        """
        Only the side that dialled opens the stream.
        """
        raw = RawPeer(self, 9)
        dialled = self.a.dial(raw.key.peer_id, [raw.address])
        self.advance(0.1)
        connection = raw.accept()
        self.successResultOf(dialled)
        stream: Any = raw.call(connection.open_bi())
        raw.call(stream.send().write_all(b"x"))
        self.advance(0.2)
        self.assertEqual(self.closed(), {"bidirectional stream": 1})

    def test_ended_at_once(self) -> None:
        """
        A connection that what has arrived before ends at its start proves nothing.
        """
        self.patch(ReceiveStreams, "start", lambda receiving: receiving._on_failed("too soon"))
        raw = RawPeer(self, 9)
        raw.connect(self.a)
        self.assertEqual(self.closed(), {"too soon": 1})
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nonces_differ(self) -> None:
        """
        Each connection has a separate nonce.
        """
        nonces = set()
        for number in range(10, 15):
            raw = RawPeer(self, number)
            connection = raw.connect(self.a)
            stream: Any = raw.call(connection.open_bi())
            raw.call(stream.send().write_all(prefix(b"n" * 32)))
            self.advance(0.2)
            nonces.add(raw.call(stream.recv().read(36)))
        self.assertEqual(len(nonces), 5)

    def test_failure_in_the_owner(self) -> None:
        """
        A fault of our own ends the connection, and is logged.
        """

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(Proofs, "received", fail)
        raw = RawPeer(self, 9)
        connection = raw.connect(self.a)
        stream: Any = raw.call(connection.open_bi())
        raw.call(stream.send().write_all(prefix(b"n" * 32)))
        self.advance(0.2)
        self.assertEqual(self.closed(), {"internal error": 1})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reset(self) -> None:
        """
        A peer that resets the stream has proved nothing, and stays connected.
        """
        raw = RawPeer(self, 9)
        connection = raw.connect(self.a)
        stream: Any = raw.call(connection.open_bi())
        raw.call(stream.send().write_all(prefix(b"n" * 32)))
        stream.send().reset()
        self.advance(0.5)
        self.assertEqual(self.closed(), {})
        self.assertTrue(self.a.is_connected(raw.key.peer_id))

    def test_second_stream(self) -> None:
        """
        The side that dialled opens one stream, not two.
        """
        raw = RawPeer(self, 9)
        connection = raw.connect(self.a)
        for _ in range(2):
            self.assertEqual(self.closed(), {})
            stream: Any = raw.call(connection.open_bi())
            raw.call(stream.send().write_all(prefix(b"n" * 32)))
            self.advance(0.2)
        self.assertEqual(self.closed(), {"bidirectional stream": 1})
