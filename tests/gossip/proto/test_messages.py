"""
Tests for L{dtt.gossip.proto.messages}: docs/protocol/gossip.md sections 2, 3, 10 and 13.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.gossip.proto.messages import (
    Disconnect,
    ForwardJoin,
    Gossip,
    Graft,
    IHave,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Priority,
    Prune,
    Shuffle,
    ShuffleReply,
    _read,
    _read_usual_gossip,
    _read_usual_ihave,
    decode,
    encode,
    message_id,
)
from tests.sweeps import sized

VECTORS = Path(__file__).parents[2] / "vectors" / "gossip.json"

ID1, ID2, ID3, ID4 = (bytes((byte,)) * 32 for byte in (0x11, 0x22, 0x33, 0x44))
E1_DATA = bytes.fromhex("0001007f000001d122")
E3_DATA = bytes.fromhex(
    "0112" + b"https://r.example/".hex() + "0300c000020750" + "00c0000207bb03" + "01" + "00" * 15 + "01ffff03"
)
HELLO_ID = bytes.fromhex("ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f")


def frame(text: str) -> bytes:
    """The body of a frame, given in hex with its length prefix."""
    data = bytes.fromhex(text)
    assert int.from_bytes(data[:4], "big") == len(data) - 4, text
    return data[4:]


EXAMPLES: list[tuple[str, Message]] = [
    ("0000000d 00000109 0001007f000001d122", Join(E1_DATA)),
    ("0000000e 0004000109 0001007f000001d122", Neighbor(Priority.HIGH, E1_DATA)),
    ("00000004 00040100", Neighbor(Priority.LOW)),
    ("0000003a 00000136" + E3_DATA.hex(), Join(E3_DATA)),
    ("00000004 00000100", Join(b"")),
    ("00000003 000000", Join()),
    ("0000002e 0001" + "11" * 32 + "01090001007f000001d12206", ForwardJoin(PeerInfo(ID1, E1_DATA), 6)),
    ("0000002a 0100" + HELLO_ID.hex() + "0568656c6c6f0000", Gossip(HELLO_ID, b"hello", 0)),
    ("0000002a 0100" + HELLO_ID.hex() + "0568656c6c6f0001", Gossip(HELLO_ID, b"hello", 1)),
    ("0000002b 0100" + HELLO_ID.hex() + "0568656c6c6f00ac02", Gossip(HELLO_ID, b"hello", 300)),
    ("00000029 0100" + HELLO_ID.hex() + "0568656c6c6f01", Gossip(HELLO_ID, b"hello", None)),
    ("00000002 0101", Prune()),
    ("00000024 010201" + "33" * 32 + "02", Graft(ID3, 2)),
    ("00000004 01020000", Graft(None, 0)),
    ("00000046 010302" + "33" * 32 + "01" + "44" * 32 + "8201", IHave(((ID3, 1), (ID4, 130)))),
    ("00000024 000301" + "22" * 32 + "00", ShuffleReply((PeerInfo(ID2),))),
    ("00000004 00050000", Disconnect(False)),
    ("00000004 00050100", Disconnect(True)),
    ("00000003 000300", ShuffleReply()),
    (
        "00000070 0002" + "11" * 32 + "02" + "22" * 32 + "00" + "11" * 32 + "01090001007f000001d12206",
        Shuffle(ID1, (PeerInfo(ID2), PeerInfo(ID1, E1_DATA)), 6),
    ),
]

ids = st.binary(min_size=32, max_size=32)
u16 = st.integers(0, 0xFFFF)
data = st.none() | st.binary(max_size=200)
nodes = st.lists(st.builds(PeerInfo, ids, data), max_size=5).map(tuple)
messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(Join, data),
    st.builds(ForwardJoin, st.builds(PeerInfo, ids, data), u16),
    st.builds(Shuffle, ids, nodes, u16),
    st.builds(ShuffleReply, nodes),
    st.builds(Neighbor, st.sampled_from(Priority), data),
    st.builds(Disconnect, st.booleans()),
    st.builds(Gossip, ids, st.binary(max_size=300), st.none() | u16),
    st.just(Prune()),
    st.builds(Graft, st.none() | ids, u16),
    st.builds(IHave, st.lists(st.tuples(ids, u16), max_size=5).map(tuple)),
)


class MessagesTests(SynchronousTestCase):
    """
    Tests for L{encode} and L{decode}.
    """

    def test_worked_examples(self) -> None:
        """Every example of section 10 encodes to and decodes from its bytes."""
        for text, message in EXAMPLES:
            self.assertEqual(encode(message), frame(text), message)
            self.assertEqual(decode(frame(text)), message)

    def test_rust_frames(self) -> None:
        """
        Frames recorded from Rust machines are decoded, and encoded to the same bytes;
        all ten types occur.
        """
        frames = json.loads(VECTORS.read_text())["frames"]
        kinds = set()
        for recorded in frames:
            body = bytes.fromhex(recorded["state_message"])[32:]
            message = decode(body)
            kinds.add(type(message))
            self.assertEqual(encode(message), body)
            if isinstance(message, Gossip):
                self.assertEqual(message_id(message.content), message.message_id)
        self.assertEqual(len(kinds), 10)

    def test_message_id(self) -> None:
        """A MessageId is the BLAKE3 hash of the content."""
        self.assertEqual(message_id(b"hello"), HELLO_ID)

    def test_rejected(self) -> None:
        """Invalid bools, options, discriminants and overflowing varints are rejected."""
        for text in (
            "00050200",
            "00050002",
            "000002",
            "02",
            "0006",
            "0104",
            "00040200",
            "0100" + "33" * 32 + "0002",
            "010200808004",
            "010200ffffff01",
            "010202",
            "ffffffffff01",
        ):
            with self.assertRaises(DecodeError, msg=text):
                decode(bytes.fromhex(text))

    def test_truncated(self) -> None:
        """No proper prefix of an example is a message."""
        for text, message in EXAMPLES:
            body = frame(text)
            for length in range(len(body)):
                with self.assertRaises(DecodeError, msg=f"{message} cut to {length}"):
                    decode(body[:length])

    def test_huge_counts(self) -> None:
        """
        A count larger than the remaining bytes allow is refused before anything is
        allocated.
        """
        for text in ("0003ffffffff0f", "0103ffffffffffffffff7f", "0100" + "33" * 32 + "ffffffffffffffffff01"):
            with self.assertRaises(DecodeError):
                decode(bytes.fromhex(text))

    def test_trailing_bytes(self) -> None:
        """Bytes after a message are ignored."""
        for text, message in EXAMPLES:
            self.assertEqual(decode(frame(text) + b"\xff\x00"), message)

    def test_non_minimal_varints(self) -> None:
        """Varints and discriminants that are longer than necessary are accepted."""
        self.assertEqual(decode(bytes.fromhex("81008200008000")), Graft(None, 0))
        self.assertEqual(decode(bytes.fromhex("80008300") + b"\x80\x00"), ShuffleReply())

    def test_obsolete_respond(self) -> None:
        """The obsolete field of a Disconnect is ignored."""
        self.assertEqual(decode(bytes.fromhex("00050101")), Disconnect(True))

    def test_content_is_not_in_repr(self) -> None:
        """A message's repr does not contain its content."""
        self.assertNotIn("secret", repr(Gossip(ID1, b"secret", 0)))

    @settings(max_examples=sized(25, 300))
    @given(messages)
    def test_round_trip(self, message: Message) -> None:
        """Decoding reverses encoding."""
        self.assertEqual(decode(encode(message)), message)

    @settings(max_examples=sized(25, 300))
    @given(st.binary(max_size=200) | st.builds(bytes.__add__, st.sampled_from([b"\0", b"\1"]), st.binary()))
    def test_garbage(self, garbage: bytes) -> None:
        """Arbitrary bytes yield a message or a L{DecodeError}."""
        try:
            message = decode(garbage)
        except DecodeError:
            return
        self.assertEqual(decode(encode(message)), message)

    @settings(max_examples=sized(25, 300))
    @given(messages, st.integers(0, 5000), st.integers(0, 255), st.integers(0, 3))
    def test_quick_readers(self, message: Message, at: int, byte: int, cut: int) -> None:
        """
        The fast paths give the same results as the general decoder, for damaged and
        truncated input, too.
        """
        data = bytearray(encode(message))
        data[at % len(data)] = byte
        for damaged in (encode(message), bytes(data), bytes(data[: len(data) - cut])):
            quick = _read_usual_gossip(damaged) or _read_usual_ihave(damaged)
            if quick is not None:
                self.assertEqual(quick, _read(damaged))

    def test_read_in_one_go(self) -> None:
        """Contents of all usual lengths, and full announcements, take the fast path."""
        for size in (0, 1, 127, 128, 129, 4055):
            gossip = Gossip(ID1, bytes(size), 0x7F)
            self.assertEqual(_read_usual_gossip(encode(gossip)), gossip)
        for count in (0, 1, 116):
            ihave = IHave(((ID1, 0x7F),) * count)
            self.assertEqual(_read_usual_ihave(encode(ihave)), ihave)
