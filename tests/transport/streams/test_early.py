"""
Tests for L{dtt.transport.streams.early}, and for the round trips that an EARLY saves.
"""

from __future__ import annotations

import hashlib
import hmac
from random import Random

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.book import AddressBook
from dtt.errors import DecodeError
from dtt.gossip.member import GossipMember
from dtt.gossip.proto.messages import Join, Neighbor, Priority, encode
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, PeerId
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.admission import topic_key
from dtt.transport.streams.channels import Channels
from dtt.transport.streams.early import early_key, is_join, seal, unseal
from dtt.transport.streams.frames import MAX_MESSAGE, SEAL_SIZE, Early, Open, encode_frame
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress

# Test vectors: what a peer sends first on a connection.  All inputs are arbitrary and consecutive:
# 00 to 1f, 20 to 3f, and so on.
TOPIC, SECRET, EXPORTER, SENDER, RECEIVER = (bytes(range(n, n + 32)) for n in range(0, 160, 32))
TOPIC_KEY = "1a09e8c5af7ea0a3ad05fa793067c6aae0cd0c0d083c2ebb9623183bd2b02461"
TAG = "e80e5b52055e533b1550dbb05da32dbf16bf4be047f7f79f4250f539877d1257"
EARLY_KEY = "579feb69eb1a24744b08c9072408c35910b1811e2bd7a5b95e70610ae22496e4"

#: Message (a Join without PeerData; one from 192.0.2.7:4433), channel, frame.
VECTORS = (
    ("000000", 5, "00000015" + "06" + "05" + "4a998c" + "8fea84c3b42fb1e94d218942694a07e6"),
    ("000000", 300, "00000016" + "06" + "ac02" + "4a998c" + "8fea84c3b42fb1e94d218942694a07e6"),
    (
        "00000109000100c0000207d122",
        5,
        "0000001f" + "06" + "05" + "4a998d825cbe30af68706f18b0" + "fe81b568e3cd5c26cbf1ae5eae393055",
    ),
)
KEY = bytes.fromhex(EARLY_KEY)

#: The one-way latency in seconds.
LATENCY = 1 / 16


class EarlyTests(SynchronousTestCase):
    """
    Tests for L{seal} and L{unseal}.
    """

    def assert_refused(self, key: bytes, sealed: bytes, reason: str) -> None:
        """
        Check that C{sealed} is refused for C{reason}.
        """
        self.assertEqual(str(self.assertRaises(DecodeError, unseal, key, sealed)), reason)

    def test_vectors(self) -> None:
        """
        Keys and frames equal the recorded test vectors.
        """
        key = topic_key(TOPIC, SECRET)
        self.assertEqual(key.hex(), TOPIC_KEY)
        self.assertEqual(early_key(key, EXPORTER, SENDER, RECEIVER).hex(), EARLY_KEY)
        for message, channel, frame in VECTORS:
            sealed = seal(KEY, bytes.fromhex(message))
            self.assertEqual(encode_frame(Early(channel, sealed)).hex(), frame)
            self.assertEqual(unseal(KEY, sealed).hex(), message)
        (opened,) = Channels(EXPORTER, SENDER, RECEIVER).open(TOPIC, key)
        self.assertEqual(opened, Open(0, bytes.fromhex(TAG)))

    def test_definition(self) -> None:
        """
        Key and content are as the module documents, computed with other libraries.
        """
        topic = hashlib.sha512(b"dtt/1 admission" + TOPIC + SECRET).digest()[:32]
        key = hmac.new(topic, b"early" + EXPORTER + SENDER + RECEIVER, "sha256").digest()
        self.assertEqual(key, KEY)
        join = encode(Join(b"x" * 300))
        self.assertEqual(ChaCha20Poly1305(key).encrypt(bytes(12), join, None), seal(key, join))
        self.assertEqual(len(seal(key, join)), len(join) + SEAL_SIZE)

    def test_other_connection_direction_or_secret(self) -> None:
        """
        Only the receiver on this connection can decrypt it, with the topic's secret.
        """
        sealed = seal(KEY, encode(Join()))
        topic = topic_key(TOPIC, SECRET)
        for key in (
            early_key(topic, bytes(32), SENDER, RECEIVER),
            early_key(topic, EXPORTER, RECEIVER, SENDER),
            early_key(topic_key(TOPIC, bytes(32)), EXPORTER, SENDER, RECEIVER),
            early_key(topic_key(SECRET, SECRET), EXPORTER, SENDER, RECEIVER),
        ):
            self.assert_refused(key, sealed, "early not authentic")

    def test_changed(self) -> None:
        """
        Changing, removing or adding a byte is detected.
        """
        sealed = seal(KEY, encode(Join(b"data")))
        for offset in range(len(sealed)):
            changed = bytearray(sealed)
            changed[offset] ^= 1
            self.assert_refused(KEY, bytes(changed), "early not authentic")
            self.assert_refused(KEY, sealed[:offset], "early not authentic")
        self.assert_refused(KEY, sealed + b"\x00", "early not authentic")

    def test_content(self) -> None:
        """
        Only a Join is accepted as content.
        """
        for message in (
            b"",
            b"\x00",
            b"\x00\x00",
            b"\x00\x00\x01\x09short",
            b"hello",
            encode(Neighbor(Priority.HIGH)),
            bytes((1, 1)),
        ):
            self.assertFalse(is_join(message), message)
            self.assert_refused(KEY, seal(KEY, message), "early not a join")
        for message in (encode(Join()), encode(Join(bytes(MAX_MESSAGE - 5)))):
            self.assertEqual(unseal(KEY, seal(KEY, message)), message)


class Ups:
    """
    An observer that records when neighbours came up.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.times: list[float] = []

    def neighbor_up(self, peer_id: PeerId) -> None:
        """Record the time."""
        self.times.append(self.clock.seconds())

    def neighbor_down(self, peer_id: PeerId) -> None:
        """Not expected."""
        raise AssertionError("a neighbour went")

    def message_received(self, message: GossipMessage) -> None:
        """Do nothing."""


class TripsTests(SynchronousTestCase):
    """
    The number of one-way trips until two members are neighbours, over TCP and TLS.
    """

    def setUp(self) -> None:
        # A fraction that can be added without rounding.
        self.clock = Clock()
        self.net = MemoryTCPNetwork(self.clock, latency=LATENCY)
        self.members: list[GossipMember] = []
        self.observers: list[Ups] = []
        self.transports = [self.add(n) for n in (1, 2)]
        self.ids = [transport.peer_id for transport in self.transports]

    def add(self, n: int) -> StreamsTransport:
        """
        Add a member that knows the addresses of the others.
        """
        host = f"10.0.0.{n}"
        reactor = self.net.reactor(host)
        transport = StreamsTransport(reactor, PeerKey.from_seed(bytes((n,)) * 32))
        transport.listen(host, 4433)
        book = AddressBook(self.clock, Random(n), transport.addresses, transport.peer_id)
        for other in (1, 2):
            address = PeerAddress(STREAMS, f"10.0.0.{other}", 4433)
            book.learn(PeerKey.from_seed(bytes((other,)) * 32).peer_id, (address,), "record")
        services = GossipServices(reactor, Random(n), transport.peer_id, transport, book)
        member = GossipMember(services, TOPIC, SECRET)
        member.start()
        self.members.append(member)
        self.observers.append(Ups(self.clock))
        member.subscribe(self.observers[-1])
        return transport

    def trips(self) -> list[float]:
        """
        Let two seconds pass, and return after how many one-way trips each member had
        its neighbour.
        """
        begun = self.clock.seconds()
        self.net.advance(2)
        for observer in self.observers:
            self.assertEqual(len(observer.times), 1)
        return [(observer.times[0] - begun) / LATENCY for observer in self.observers]

    def test_one_dials(self) -> None:
        """
        TCP, TLS, OPEN with EARLY answered by OPEN and Neighbor: three round trips, and
        half a round trip less for the other side.
        """
        self.members[0].join([self.ids[1]])
        self.assertEqual(self.trips(), [6, 5])

    def test_both_dial(self) -> None:
        """
        When both dial simultaneously the first connection counts, though only one
        stays: five one-way trips for both.
        """
        self.members[0].join([self.ids[1]])
        self.members[1].join([self.ids[0]])
        self.assertEqual(self.trips(), [5, 5])

    def test_both_dial_one_after_the_other(self) -> None:
        """
        A dial from the other side never delays it, whenever that starts.
        """
        for delay in range(1, 12):
            self.setUp()
            self.members[0].join([self.ids[1]])
            self.clock.callLater(delay / 2 * LATENCY, self.members[1].join, [self.ids[0]])
            first, second = self.trips()
            self.assertLessEqual(first, 6, f"{delay / 2} trips later")
            self.assertLessEqual(second, 5, f"{delay / 2} trips later")

    def test_connected_already(self) -> None:
        """
        On an existing connection, for example of another topic, it takes one round
        trip.
        """
        self.transports[0].dial(self.ids[1], self.transports[1].addresses())
        self.net.advance(0.5)
        self.members[0].join([self.ids[1]])
        self.assertEqual(self.trips(), [2, 1])
