"""
Tests for L{dtt.transport.streams.shared_tls}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.share import UNITS, Share
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.frames import Data, Open, Ping, Pong, encode_frame
from dtt.transport.streams.tls import export_key
from tests.sweeps import sized
from tests.transport.streams.common import BOB, KEY, SECRET, TOPIC, Stranger, StreamsTestCase


class ShareTests(StreamsTestCase):
    """
    What peers send is handled in portions; those who have not been admitted get small
    ones.
    """

    def setUp(self) -> None:
        super().setUp()
        self.links = RecordingLinks()
        self.b.open_topic(TOPIC, SECRET, self.links)

    def turns(self, count: Callable[[], int], total: int) -> list[int]:
        """
        Return how much is handled in each turn, until C{total}.
        """
        counts = [count()]
        original = Share._next_turn

        def next_turn(share: Share) -> None:
            counts.append(count())
            original(share)
            counts.append(count())

        self.patch(Share, "_next_turn", next_turn)
        self.net.advance(1)
        self.assertEqual(count(), total)
        return [after - before for before, after in pairwise(counts)]

    def admitted(self, number: int) -> Stranger:
        """
        Return a member that has opened the topic.
        """
        key = PeerKey.from_seed(bytes((number, 7)) * 16)
        stranger = self.stranger(key, f"10.1.{number}.1")
        tag = admission_tag(KEY, export_key(stranger.secured.connection), key.peer_id, BOB.peer_id)
        self.write(stranger, encode_frame(Open(0, tag)))
        return stranger

    def flood(self, stranger: Stranger, data: bytes) -> None:
        """
        Let C{stranger} send C{data}, without waiting.
        """
        cast(Any, stranger.transport).write(data)

    def test_messages(self) -> None:
        """
        Members that send thousands of messages share the turns evenly.
        """
        for stranger in [self.admitted(number) for number in range(5)]:
            self.flood(stranger, encode_frame(Data(0, b"x")) * 2000)
        turns = self.turns(lambda: len(self.links.messages), 10_000)
        self.assertLessEqual(max(turns), UNITS)
        early = Counter(peer_id for peer_id, _ in self.links.messages[:4000])
        self.assertEqual(len(early), 5)
        self.assertLessEqual(max(early.values()) - min(early.values()), 2 * UNITS)

    def test_small_records(self) -> None:
        """
        The same applies if each message is in a separate TLS record.
        """
        stranger = self.admitted(1)
        for _ in range(2000):
            cast(Any, stranger.transport)._aggregator._write(encode_frame(Data(0, b"x")))
        self.assertLessEqual(max(self.turns(lambda: len(self.links.messages), 2000)), UNITS)

    def test_strangers_wait(self) -> None:
        """
        Messages of a member are handled within a few turns, however many strangers
        flood.
        """
        keys = [PeerKey.from_seed(bytes((number, 9)) * 16) for number in range(sized(40, 100))]
        strangers = [self.stranger(key, f"10.2.{number}.1") for number, key in enumerate(keys)]
        member = self.admitted(1)
        for stranger in strangers:
            self.flood(stranger, b"\x00\x00\x00\x01\x0d" * 1000)
        self.flood(member, encode_frame(Data(0, b"x")) * 20)
        when: list[int] = []
        self.links.on_message = lambda *_: when.append(self.b.counters["received_unknown_frame"])
        turns = self.turns(lambda: self.b.counters["received_unknown_frame"], 1000 * len(keys))
        self.assertLessEqual(max(turns), UNITS)
        self.assertEqual(len(when), 20)
        self.assertLess(when[-1], 5 * UNITS)

    def test_reading_stops(self) -> None:
        """
        While a connection waits for its turn nothing more is read from it.
        """
        stranger = self.admitted(1)
        self.flood(stranger, encode_frame(Data(0, bytes(4000))) * 1000)
        (connection,) = self.b.connections

        def held() -> int:
            parts = [*connection._received, connection._parser._pieces._data]
            return sum(map(len, parts + list(cast(Any, connection.transport)._encrypted)))

        most: list[int] = []
        self.links.on_message = lambda *_: most.append(held())
        self.net.advance(1)
        self.assertEqual(len(self.links.messages), 1000)
        self.assertLess(max(most), 100_000)

    def test_end_while_waiting(self) -> None:
        """
        What a peer has sent before it closed its connection is handled; what one has
        sent that misbehaved is not.
        """
        stranger = self.admitted(1)
        self.flood(stranger, encode_frame(Data(0, b"x")) * 5000)
        cast(Any, stranger.transport).loseConnection()
        self.turns(lambda: len(self.links.messages), 5000)
        self.assertEqual(self.b.connections, {})
        self.links.messages.clear()
        stranger = self.admitted(2)
        self.flood(stranger, encode_frame(Data(0, b"x")) * 1000 + bytes(4) + encode_frame(Data(0, b"x")))
        self.turns(lambda: len(self.links.messages), 1000)
        self.assertEqual(self.b.counters["closed_bad_frame_length"], 1)
        self.assertEqual(self.b.connections, {})
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() < 1e9][1:], [])

    def test_pings(self) -> None:
        """
        A stranger that sends PINGs and reads nothing gets few answers, and stays cheap;
        one that reads gets the last of several.
        """
        stranger = self.stranger()
        self.flood(stranger, b"".join(encode_frame(Ping(bytes((n,)) * 8)) for n in range(4)))
        self.net.advance(0.1)
        self.assertEqual(stranger.received, encode_frame(Pong(b"\3" * 8)))
        cast(Any, stranger.transport).pauseProducing()
        for _ in range(40):
            self.flood(stranger, encode_frame(Ping(bytes(8))) * 2000)
            self.net.advance(0.1)
            (connection,) = self.b.connections
            self.assertLessEqual(connection.unsent, len(encode_frame(Pong(bytes(8)))))
        self.assertFalse(stranger.lost)

    def test_unsent_to_strangers(self) -> None:
        """
        Far less may be unsent for a peer that has proved nothing than for a member.
        """
        for admitted in (False, True):
            stranger = self.admitted(1) if admitted else self.stranger()
            cast(Any, stranger.transport).pauseProducing()
            (connection,) = self.b.connections
            for _ in range(100):
                connection.send(encode_frame(Data(0, bytes(4000))))
                self.net.advance(0.01)
            self.assertEqual(self.b.counters["closed_slow_reader"], 1)
            self.assertEqual(len(self.b.connections), int(admitted))
