"""
Tests for L{dtt.transport.streams.frames}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.transport.streams.frames import (
    MAX_FRAME,
    MAX_MESSAGE,
    ClockTime,
    Close,
    Data,
    Early,
    Frame,
    FrameParser,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    Rendezvous,
    Unknown,
    encode_frame,
)

TAG = bytes(range(32))

#: Frames and their bytes, written by hand from docs/protocol/streams.md section 2.
KNOWN: list[tuple[Frame, str]] = [
    (Open(5, TAG), "00000022" + "00" + "05" + TAG.hex()),
    (Open(300, TAG), "00000023" + "00" + "ac02" + TAG.hex()),
    (Data(0, b"hi"), "00000004" + "01" + "00" + "6869"),
    (Data(128, b"hi"), "00000005" + "01" + "8001" + "6869"),
    (Data(7, b""), "00000002" + "01" + "07"),
    (Close(65535), "00000004" + "02" + "ffff03"),
    (Ping(b"12345678"), "00000009" + "03" + "3132333435363738"),
    (Pong(b"12345678"), "00000009" + "04" + "3132333435363738"),
    (
        Rendezvous(300, True, TAG, TAG[::-1], (("1.2.3.4", 300), ("2001:db8::1", 7))),
        "0000005e"
        + "05"
        + "ac02"
        + "01"
        + TAG.hex()
        + TAG[::-1].hex()
        + "02"
        + "00"
        + "01020304"
        + "ac02"
        + "01"
        + "20010db8000000000000000000000001"
        + "07",
    ),
    (Rendezvous(0, False, TAG, TAG, ()), "00000044" + "05" + "00" + "00" + 2 * TAG.hex() + "00"),
    (Early(5, TAG), "00000022" + "06" + "05" + TAG.hex()),
    (ClockTime(0x1A3185C5000), "00000009" + "0c" + "000001a3185c5000"),
    (Early(300, TAG[:16]), "00000013" + "06" + "ac02" + TAG[:16].hex()),
]


def parse(data: bytes) -> list[ReceivedFrame]:
    """
    The frames in C{data}.

    @raise DecodeError: a frame is malformed.
    """
    parser = FrameParser()
    frames = parser.feed(data)
    if parser.fault is not None:
        raise DecodeError(parser.fault)
    return frames


class EncodeTests(SynchronousTestCase):
    """
    Tests for L{encode_frame}.
    """

    def test_known_bytes(self) -> None:
        """
        Each kind has the specified bytes, both ways.
        """
        for frame, encoded in KNOWN:
            self.assertEqual(encode_frame(frame).hex(), encoded)
            self.assertEqual(parse(bytes.fromhex(encoded)), [frame])

    def test_repr_has_no_content(self) -> None:
        """
        Neither a tag nor a message is in a repr.
        """
        self.assertEqual(repr(Early(1, bytes(20))), "Early(channel=1, sealed=<20 bytes>)")
        self.assertEqual(repr(Data(1, b"secret")), "Data(channel=1, message=<6 bytes>)")
        self.assertNotIn("x01", repr(Open(1, TAG)))


class FrameParserTests(SynchronousTestCase):
    """
    Tests for L{FrameParser}.
    """

    def assert_malformed(self, data: bytes, reason: str) -> None:
        """
        Assert that C{data} is refused for C{reason}.
        """
        error = self.assertRaises(DecodeError, parse, data)
        self.assertEqual(str(error), reason)

    def test_any_pieces(self) -> None:
        """
        The result does not depend on how the bytes are split.
        """
        seed = 20261123
        rng = Random(seed)
        frames = [frame for frame, _ in KNOWN] + [Data(1, rng.randbytes(MAX_MESSAGE)) for _ in range(3)]
        stream = b"".join(map(encode_frame, frames))
        for most in (1, 2, 3, 5, 40, 5000, len(stream)):
            parser = FrameParser()
            found: list[ReceivedFrame] = []
            offset = 0
            while offset < len(stream):
                size = rng.randint(1, most)
                found += parser.feed(stream[offset : offset + size])
                offset += size
            self.assertEqual(found, frames, f"seed {seed}, pieces of {most}")

    def test_frames_before_a_malformed_one(self) -> None:
        """
        Frames before a malformed one are returned.
        """
        for bad, fault in ((b"\x00\x00\x00\x01\x03", "bad ping"), (bytes(4), "bad frame length")):
            parser = FrameParser()
            self.assertEqual(parser.feed(encode_frame(Close(1)) + bad), [Close(1)])
            self.assertEqual(parser.fault, fault)

    def test_length(self) -> None:
        """
        A length of 0 or above 8192 is refused as soon as it has arrived.
        """
        self.assert_malformed(bytes(4), "bad frame length")
        self.assert_malformed((MAX_FRAME + 1).to_bytes(4, "big"), "frame too large")
        self.assert_malformed(b"\xff\xff\xff\xff", "frame too large")
        self.assertEqual(parse(MAX_FRAME.to_bytes(4, "big")), [])

    def test_other_size(self) -> None:
        """
        The largest message is a parameter; frames may have 4096 bytes more.
        """
        for size in (512, 65_536):
            for message, fault in (
                (bytes(size), None),
                (bytes(size + 1), "message too large"),
                (bytes(size + 4096), "frame too large"),
            ):
                parser = FrameParser(size)
                found = parser.feed(encode_frame(Data(1, message)))
                self.assertEqual((found, parser.fault), ([Data(1, message)] if fault is None else [], fault))

    def test_message_size(self) -> None:
        """
        A message has at most 4096 bytes, and 16 more when encrypted.
        """
        self.assertEqual(parse(encode_frame(Data(300, bytes(4096)))), [Data(300, bytes(4096))])
        self.assert_malformed(encode_frame(Data(300, bytes(4097))), "message too large")
        self.assertEqual(parse(encode_frame(Early(300, bytes(4112)))), [Early(300, bytes(4112))])
        self.assert_malformed(encode_frame(Early(300, bytes(4113))), "message too large")

    def test_unknown_kinds(self) -> None:
        """
        A frame of unknown kind is returned without its body, up to the largest length;
        the frames after it are parsed.
        """
        for kind in (13, 77, 255):
            for size in (0, 1, MAX_FRAME - 1):
                frame = (1 + size).to_bytes(4, "big") + bytes((kind,)) + bytes(size)
                self.assertEqual(parse(frame + encode_frame(Close(1))), [Unknown(kind), Close(1)])

    def test_malformed_bodies(self) -> None:
        """
        A body must have exactly the size that its kind requires.
        """
        for body, reason in (
            ("00", "truncated"),
            ("0005" + TAG[:31].hex(), "truncated"),
            ("0005" + TAG.hex() + "00", "bytes after the frame"),
            ("01", "truncated"),
            ("0180", "truncated"),
            ("01808004", "varint overflow"),
            ("0180808001", "varint too long"),
            ("02", "truncated"),
            ("06", "truncated"),
            ("0605" + TAG[:15].hex(), "truncated"),
            ("020500", "bytes after the frame"),
            ("0500" + "02" + 64 * "00" + "00", "bad rendezvous"),
            ("0500" + "00" + 64 * "00" + "05" + 5 * "000102030401", "bad rendezvous"),
            ("0500" + "00" + 64 * "00" + "01" + "0001020304", "truncated"),
            ("0500" + "00" + 64 * "00" + "0000", "bytes after the frame"),
            ("0500" + "00" + 63 * "00", "truncated"),
            ("03", "bad ping"),
            ("0331323334353637", "bad ping"),
            ("04313233343536373839", "bad ping"),
        ):
            data = bytes.fromhex(body)
            self.assert_malformed(len(data).to_bytes(4, "big") + data, reason)

    def test_random_bytes(self) -> None:
        """
        Arbitrary bytes yield frames or a L{DecodeError}.
        """
        for seed in range(300):
            rng = Random(seed)
            body = bytes((rng.randrange(8),)) + rng.randbytes(rng.randrange(40))
            try:
                frames = parse(len(body).to_bytes(4, "big") + body)
            except DecodeError:
                continue
            except Exception as error:
                self.fail(f"seed {seed}: {error!r}")
            self.assertEqual(len(frames), 1, f"seed {seed}")
