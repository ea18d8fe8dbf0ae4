"""
Tests for L{dtt.transport.appstreams.flow}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.transport.appstreams.flow import WINDOW, Backlog, Incoming, Outgoing
from tests.sweeps import sized


class FlowTests(SynchronousTestCase):
    """
    One direction of a stream.
    """

    def test_credit(self) -> None:
        """A side sends what it is allowed to, at most 4096 bytes at a time."""
        backlog = Backlog()
        outgoing = Outgoing(backlog)
        outgoing.write(bytes(6000))
        self.assertFalse(outgoing.ready)
        outgoing.credited(5000)
        self.assertEqual([len(outgoing.take()), len(outgoing.take())], [4096, 904])
        self.assertFalse(outgoing.ready)
        self.assertEqual((len(outgoing), backlog.size), (1000, 1000))
        outgoing.clear()
        self.assertEqual((len(outgoing), backlog.size), (0, 0))

    def test_bad_credit(self) -> None:
        """Credit for nothing, or for more than a window together, is a violation."""
        outgoing = Outgoing(Backlog())
        outgoing.credited(WINDOW)
        for size in (0, 1, 2**32 - 1):
            with self.assertRaises(DecodeError):
                outgoing.credited(size)

    def test_too_much(self) -> None:
        """More than was allowed is a violation, also after the application has taken some."""
        incoming = Incoming()
        incoming.received(WINDOW)
        with self.assertRaises(DecodeError):
            incoming.received(1)
        self.assertEqual(incoming.taken(WINDOW // 4 - 1), 0)
        with self.assertRaises(DecodeError):
            incoming.received(1)
        self.assertEqual(incoming.taken(1), WINDOW // 4)
        incoming.received(WINDOW // 4)

    def test_random(self) -> None:
        """Whatever the sizes, both sides agree, and never more than a window is kept."""
        for seed in range(sized(10, 300)):
            rng = Random(seed)
            outgoing, incoming = Outgoing(Backlog()), Incoming()
            outgoing.credited(WINDOW)
            kept = sent = taken = 0
            while taken < 3 * WINDOW:
                if rng.random() < 0.5:
                    outgoing.write(bytes(rng.randrange(20_000)))
                while outgoing.ready and rng.random() < 0.95:
                    size = len(outgoing.take())
                    incoming.received(size)
                    kept += size
                    sent += size
                self.assertLessEqual(kept, WINDOW, f"seed {seed}")
                size = rng.randrange(kept + 1)
                kept -= size
                taken += size
                more = incoming.taken(size)
                if more:
                    outgoing.credited(more)
            self.assertEqual(sent, taken + kept, f"seed {seed}")
