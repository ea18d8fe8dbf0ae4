"""
Tests for L{dtt.testing.iroh.streams}: the behaviour of the bindings
(docs/protocol/gossip.md section 14), as far as the transport relies on it.
"""

from __future__ import annotations

from dtt.testing.net.clock import advance
from tests.testing.iroh.common import KEYS, NetworkTestCase


class StreamsTests(NetworkTestCase):
    """
    Streams of a connection.
    """

    def test_stream(self) -> None:
        """
        Bytes, the end of the stream and its acknowledgement arrive; a write waits for the
        window.
        """
        here, there = self.pair()
        writing = self.call(here.open_uni())
        written = self.begin(writing.write_all(bytes(1500)))
        self.assertNoResult(written)
        reading = self.call(there.accept_uni())
        self.assertEqual(len(self.call(reading.read(600))), 600)
        self.successResultOf(written)
        self.call(writing.finish())
        self.successResultOf(self.begin(writing.stopped()))
        self.assertEqual(len(self.call(reading.read(5000))), 900)
        self.assertEqual(self.call(reading.read(5000)), b"")

    def test_close(self) -> None:
        """
        Closing a connection fails all pending calls; data that had arrived can still be
        read.
        """
        here, there = self.pair()
        writing = self.call(here.open_uni())
        self.call(writing.write_all(b"hello"))
        accepting = self.begin(here.accept_uni())
        here.close(0, b"bye")
        advance(self.clock, 0.1)
        self.assertTrue(self.error(accepting).startswith("CONNECTION"))
        self.assertEqual(there.close_reason(), "closed by peer: bye (code 0)")
        reading = self.call(there.accept_uni())
        self.assertEqual(self.call(reading.read(100)), b"hello")
        self.assertIn("ConnectionLost", self.error(self.begin(reading.read(100))))
        self.assertTrue(self.error(self.begin(there.open_uni())).startswith("CONNECTION"))

    def test_reset(self) -> None:
        """
        A stream that is reset can't be read, not even what had arrived; others can.
        """
        here, there = self.pair()
        first, second = (self.call(here.open_uni()) for _ in range(2))
        for stream in (first, second):
            self.call(stream.write_all(b"hello"))
        first.reset()
        self.assertIn("Reset", self.error(self.begin(self.call(there.accept_uni()).read(100))))
        self.assertEqual(self.call(self.call(there.accept_uni()).read(100)), b"hello")

    def test_bidirectional(self) -> None:
        """
        Both ends of a bidirectional stream read what the other one writes; it is accepted once, with its
        first bytes.
        """
        here, there = self.pair()
        stream = self.call(here.open_bi())
        accepting = self.begin(there.accept_bi())
        self.assertNoResult(accepting)
        self.call(stream.send().write_all(b"ping"))
        accepted = self.successResultOf(accepting)
        self.assertEqual(self.call(accepted.recv().read(100)), b"ping")
        self.call(accepted.send().write_all(b"pong"))
        self.assertEqual(self.call(stream.recv().read(100)), b"pong")
        for end in (here, there):
            self.assertNoResult(self.begin(end.accept_uni()))
            self.assertNoResult(self.begin(end.accept_bi()))

    def test_bad_id(self) -> None:
        """
        An id that is no key is an error.
        """
        with self.assertRaises(self.bindings.IrohError):
            self.bindings.EndpointId.from_bytes(bytes(32))
        self.assertEqual(self.bindings.EndpointId.from_bytes(KEYS[1].peer_id).to_bytes(), KEYS[1].peer_id)
