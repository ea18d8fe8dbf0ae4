"""
Tests for L{dtt.transport.iroh.stream_parser} and L{dtt.wire.length_prefix}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.gossip.proto.messages import Disconnect, encode
from dtt.transport.iroh.stream_parser import DISCONNECT, StreamParser
from dtt.wire.length_prefix import prefix

TOPIC = b"\xaa" * 32


class EncodeTests(SynchronousTestCase):
    """
    What dtt writes.
    """

    def test_example(self) -> None:
        """
        The first bytes of a stream are those of docs/protocol/gossip.md section 10, E1.
        """
        self.assertEqual(prefix(TOPIC), bytes.fromhex("00000020") + TOPIC)
        join = bytes.fromhex("000001090001007f000001d122")
        self.assertEqual(prefix(join), bytes.fromhex("0000000d") + join)

    def test_disconnect(self) -> None:
        """
        A C{Disconnect} is recognised by its first bytes.
        """
        self.assertTrue(encode(Disconnect(True)).startswith(DISCONNECT))


class StreamParserTests(SynchronousTestCase):
    """
    Tests for L{StreamParser}.
    """

    def test_any_pieces(self) -> None:
        """
        The result does not depend on how the stream is split.
        """
        messages = [b"a", b"b" * 127, b"c" * 4096, b"d" * 4095]
        data = prefix(TOPIC) + b"".join(map(prefix, messages))
        for seed in range(100):
            rng = Random(seed)
            parser = StreamParser()
            found: list[bytes] = []
            rest = data
            while rest:
                size = rng.choice((1, 3, 4, 5, 36, 100, 5000))
                found += parser.feed(rest[:size])
                rest = rest[size:]
            parser.end()
            self.assertEqual((parser.topic_id, found), (TOPIC, messages), f"seed {seed}")

    def test_header_alone(self) -> None:
        """
        A header yields no message; bytes after its topic id are ignored.
        """
        parser = StreamParser()
        self.assertEqual(parser.feed(prefix(TOPIC + b"more")), [])
        self.assertEqual(parser.topic_id, TOPIC)
        parser.end()

    def test_bad_lengths(self) -> None:
        """
        Empty and oversize frames are malformed; messages before them are returned.
        """
        for bad, fault in (
            (bytes(4), "bad frame length"),
            (b"\x00\x00\x10\x01", "frame too large"),
            (b"\xff\xff\xff\xff", "frame too large"),
        ):
            parser = StreamParser()
            self.assertEqual(parser.feed(prefix(TOPIC) + prefix(b"good") + bad), [b"good"])
            self.assertEqual(parser.fault, fault)

    def test_other_size(self) -> None:
        """
        The largest body is a parameter.
        """
        for size in (512, 65_536):
            parser = StreamParser(size)
            self.assertEqual(parser.feed(prefix(TOPIC) + prefix(bytes(size))), [bytes(size)])
            self.assertEqual((parser.feed(prefix(bytes(size + 1))), parser.fault), ([], "frame too large"))

    def test_bad_header(self) -> None:
        """
        A header must be a topic id.
        """
        parser = StreamParser()
        self.assertEqual(parser.feed(prefix(bytes(31)) + prefix(b"good")), [])
        self.assertEqual(parser.fault, "bad stream header")

    def test_end(self) -> None:
        """
        A stream may end between frames and within a length, but not within a body.
        """
        for rest, fine in (
            (b"", True),
            (b"\x00\x00", True),
            (b"\x00\x00\x00\x05", False),
            (b"\0\0\0\5abc", False),
        ):
            parser = StreamParser()
            self.assertEqual(parser.feed(prefix(TOPIC) + rest), [])
            if fine:
                parser.end()
            else:
                error = self.assertRaises(DecodeError, parser.end)
                self.assertEqual(str(error), "stream ended within a frame")
