"""
Tests for L{dtt.wire.length_prefix}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.wire.length_prefix import HEADER_SIZE, LengthPrefixed, encode_length, prefix
from tests.sweeps import sized


def bodies(frames: LengthPrefixed, data: bytes, units: int = 1 << 30) -> list[bytes]:
    """
    Feed a chunk, and return the bodies of the complete frames.
    """
    buffer, pieces = frames.feed(data, units)
    return [buffer[start:end] for start, end in pieces]


class LengthPrefixedTests(SynchronousTestCase):
    """
    A stream of frames.
    """

    def setUp(self) -> None:
        self.frames = LengthPrefixed(5000)

    def test_prefix(self) -> None:
        """
        A frame is the length of its body in four bytes, big-endian, and the body.
        """
        self.assertEqual(prefix(b"x" * 258), b"\0\0\1\2" + b"x" * 258)
        self.assertEqual(HEADER_SIZE, 4)

    def test_any_chunks(self) -> None:
        """
        However the stream is chunked, and whatever the budget, the same frames are returned.
        """
        for seed in range(sized(30, 1000)):
            rng = Random(seed)
            sent = [rng.randbytes(rng.choice((1, 5, 1024, 5000))) for _ in range(10)]
            stream = b"".join(map(prefix, sent))
            frames = LengthPrefixed(5000)
            received: list[bytes] = []
            while stream or frames.pending:
                size = (
                    rng.choice((0, 1, 3, 4, 100, 6000)) if frames.pending else rng.choice((1, 3, 700, 6000))
                )
                received += bodies(frames, stream[:size], rng.choice((1, 3, 1 << 30)))
                stream = stream[size:]
            self.assertEqual(received, sent, f"seed {seed}")
            self.assertIsNone(frames.fault)
            self.assertFalse(frames.within())

    def test_largest(self) -> None:
        """
        A body of the largest size is accepted; of one byte more, the length is enough to
        refuse it. The frames before it are still returned.
        """
        self.assertEqual(bodies(self.frames, prefix(bytes(5000))), [bytes(5000)])
        self.assertEqual(bodies(self.frames, prefix(b"last") + encode_length(5001)), [b"last"])
        self.assertEqual(self.frames.fault, "frame too large")

    def test_empty(self) -> None:
        """
        A length of zero is a fault.
        """
        self.assertEqual(bodies(self.frames, encode_length(0)), [])
        self.assertEqual(self.frames.fault, "bad frame length")

    def test_units(self) -> None:
        """
        A frame costs one unit, and one more for each 1024 bytes. Once the units are used up,
        what is left is pending; a large frame may overdraw them.
        """
        stream = b"".join(map(prefix, (b"a", bytes(2048), b"b")))
        self.assertEqual(bodies(self.frames, stream, 2), [b"a", bytes(2048)])
        self.assertEqual((self.frames.unused, self.frames.pending), (-2, True))
        self.assertEqual(bodies(self.frames, b"", 0), [])
        self.assertEqual(bodies(self.frames, prefix(b"c"), 5), [b"b", b"c"])
        self.assertEqual((self.frames.unused, self.frames.pending), (3, False))

    def test_within(self) -> None:
        """
        A frame has begun with the last byte of its length.
        """
        frame = prefix(b"abc")
        for end, within in ((3, False), (4, True), (6, True), (7, False)):
            frames = LengthPrefixed(5000)
            bodies(frames, frame[:end])
            self.assertEqual(frames.within(), within, end)
