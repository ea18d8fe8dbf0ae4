"""
Tests for L{dtt.transport.appstreams.frames}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.transport.appstreams.frames import (
    StreamCredit,
    StreamData,
    StreamEnd,
    StreamFrame,
    StreamOpen,
    StreamReset,
    decode_stream_frame,
    encode_stream_frame,
)
from dtt.transport.streams.frames import FrameParser, ReceivedFrame, Unknown
from tests.sweeps import sized

#: Frames and their bytes, written by hand from docs/protocol/streams.md section 7.
KNOWN: list[tuple[StreamFrame, str]] = [
    (StreamOpen(0, b"app/1"), "00000007" + "07" + "00" + "6170702f31"),
    (StreamOpen(300, b"x"), "00000004" + "07" + "ac02" + "78"),
    (StreamData(1, b"hi"), "00000004" + "08" + "01" + "6869"),
    (StreamData(128, b"hi"), "00000005" + "08" + "8001" + "6869"),
    (StreamCredit(0, 262144), "00000005" + "09" + "00" + "808010"),
    (StreamEnd(7), "00000002" + "0a" + "07"),
    (StreamReset(2**32 - 1, 3), "00000007" + "0b" + "ffffffff0f" + "03"),
]


def parse(data: bytes) -> list[ReceivedFrame]:
    """
    Parse complete frames.
    """
    parser = FrameParser()
    frames = parser.feed(data)
    if parser.fault is not None:
        raise DecodeError(parser.fault)
    return frames


class FramesTests(SynchronousTestCase):
    """
    Encoding and decoding.
    """

    def test_known(self) -> None:
        """Frames are encoded as the protocol page says, and decoded from that."""
        for frame, encoded in KNOWN:
            self.assertEqual(encode_stream_frame(frame).hex(), encoded)
            self.assertEqual(parse(bytes.fromhex(encoded)), [frame])

    def test_limits(self) -> None:
        """The largest name and the most data pass; one byte more, and none, do not."""
        for largest in (StreamOpen(5, bytes(255)), StreamData(5, bytes(4096))):
            self.assertEqual(parse(encode_stream_frame(largest)), [largest])
        for wrong in (StreamOpen(5, bytes(256)), StreamOpen(5, b""), StreamData(5, b"")):
            with self.assertRaises(DecodeError):
                parse(encode_stream_frame(wrong))
        with self.assertRaises(DecodeError):
            parse(encode_stream_frame(StreamData(5, bytes(4097))))

    def test_sizes(self) -> None:
        """Each body has exactly the size that its kind demands."""
        for frame, encoded in KNOWN:
            body = bytes.fromhex(encoded)[5:]
            kind = bytes.fromhex(encoded)[4]
            if not isinstance(frame, StreamOpen | StreamData):
                for wrong in (body[:-1], body + b"\x00"):
                    with self.assertRaises(DecodeError):
                        decode_stream_frame(kind, wrong)
            with self.assertRaises(DecodeError):
                decode_stream_frame(kind, b"")

    def test_random(self) -> None:
        """Random bodies are refused or decoded to what encodes to the same meaning, and nothing else."""
        for seed in range(sized(100, 5000)):
            rng = Random(seed)
            kind = rng.randrange(7, 12)
            body = rng.randbytes(rng.choice((0, 1, 2, 3, 6, 40)))
            try:
                frame = decode_stream_frame(kind, body)
            except DecodeError:
                continue
            self.assertEqual(parse(encode_stream_frame(frame)), [frame], f"seed {seed}")

    def test_next_kinds(self) -> None:
        """The kinds beside them are still unknown."""
        self.assertEqual(parse(bytes.fromhex("000000010d")), [Unknown(13)])
