"""
Tests for L{dtt.transport.iroh.connection}.
"""

from __future__ import annotations

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import NoRoom
from dtt.events import Event, LimitReached, PeerRefused
from dtt.identity import PeerKey
from dtt.interfaces import LinkPath
from dtt.testing.iroh.endpoints import MemoryEndpoint
from dtt.testing.iroh.network import MemoryIroh
from dtt.testing.iroh.streams import MemoryConnection
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls
from dtt.transport.iroh.connection import GOODBYE, QuicConnection
from dtt.transport.iroh.sending import FINISH_TIMEOUT
from dtt.transport.settings import TransportSettings
from dtt.transport.share import Share
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import TOPIC, ProvingTestCase

OWN, PEER = (PeerKey.from_seed(bytes((n,)) * 32).peer_id for n in (1, 2))


@frozen
class Path:
    """
    A path, as the bindings describe it.
    """

    is_selected: bool
    is_relay: bool
    remote_addr: str
    rtt_ms: int


class Owner:
    """
    Keeps the events of a connection.
    """

    own_id = OWN
    max_message_size = 4096

    def __init__(self, share: Share) -> None:
        self.share = share
        self.messages: list[bytes] = []
        self.lost: list[str] = []
        self.order: list[str] = []

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> bool:
        """One topic is open."""
        return topic_id == TOPIC

    def proof_received(self, connection: QuicConnection, frame: bytes) -> None:
        """Ignore it."""

    def outgoing_proofs(self, connection: QuicConnection) -> bytes:
        """Send none."""
        return b""

    def messages_received(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> None:
        """Keep them."""
        self.messages += messages

    def writable(self) -> None:
        """Ignore it."""

    def connection_lost(self, connection: QuicConnection, reason: str) -> None:
        """Keep the reason."""
        self.lost.append(reason)
        self.order.append("owner")


class ConnectionTests(SynchronousTestCase):
    """
    Tests for L{QuicConnection}, whose peer is what the bindings' connection does.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        net = MemoryIroh(self.clock)
        bindings = net.bindings("10.0.0.1")
        ends = [
            MemoryConnection(MemoryEndpoint(net, f"10.0.0.{n}", 1, own, None, []), peer)
            for n, own, peer in ((1, OWN, PEER), (2, PEER, OWN))
        ]
        self.near, self.far = ends
        self.near.other, self.far.other = self.far, self.near
        self.closes: list[tuple[int, bytes]] = []
        close = self.near.close

        def noted(error_code: int, reason: bytes) -> None:
            self.closes.append((error_code, reason))
            close(error_code, reason)

        self.patch(self.near, "close", noted)
        self.owner = Owner(Share(self.clock))
        calls = Calls(self.clock, bindings.IrohError)
        self.calls = calls
        self.connection = QuicConnection(
            self.clock,
            calls,
            self.near,
            True,
            self.owner,
            lambda: self.owner.order.append("closed"),
        )

    def advance(self, seconds: float) -> None:
        """
        Advance the clock.
        """
        advance(self.clock, seconds)

    def read(self, size: int = 1000) -> bytes:
        """
        What has arrived at the peer on its next stream.
        """
        accepting = self.calls.call(self.far.accept_uni())
        self.advance(0.1)
        reading = self.calls.call(self.successResultOf(accepting).read(size))
        self.advance(0.1)
        return self.successResultOf(reading)

    def test_names(self) -> None:
        """
        It knows the peer, and who has dialled.
        """
        self.assertEqual(self.connection.peer_id, PEER)
        self.assertEqual(repr(self.connection), f"<QuicConnection to {PEER.hex()[:10]}>")

    def test_path(self) -> None:
        """
        The selected path is that of the connection; the address of a relay is not one of the peer.  After
        the end there is none.
        """
        paths: list[Path] = []
        self.patch(self.near, "paths", lambda: paths)
        self.assertEqual(self.connection.path, LinkPath("iroh"))
        paths += [Path(False, False, "192.0.2.1:1", 5), Path(True, False, "192.0.2.2:2", 30)]
        self.assertEqual(self.connection.path, LinkPath("iroh", "192.0.2.2:2", 0.03))
        paths[:] = [Path(True, True, "https://relay.example/", 80)]
        self.assertEqual(self.connection.path, LinkPath("iroh", None, 0.08))
        self.connection.abort("test")
        self.assertEqual(self.connection.path, LinkPath("iroh"))

    def test_close(self) -> None:
        """
        What was sent is acknowledged first; then the connection is closed with code 0, the reason and no
        complaint.
        """
        self.connection.start()
        self.connection.send(TOPIC, b"hello")
        self.connection.close()
        self.connection.close()
        self.assertEqual(self.closes, [])
        self.assertEqual(self.read(), prefix(TOPIC) + prefix(b"hello"))
        self.advance(0.2)
        self.assertEqual(self.closes, [(0, GOODBYE)])
        self.assertEqual((self.owner.lost, self.owner.order), ([""], ["closed", "owner"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_does_not_wait_for_ever(self) -> None:
        """
        A peer that acknowledges nothing is left after 5 s.
        """
        self.patch(self.near.network, "window", 10)
        self.connection.start()
        self.connection.send(TOPIC, b"hello")
        self.advance(0.1)
        self.assertGreater(self.connection.unsent, 0)
        self.connection.close()
        self.advance(FINISH_TIMEOUT - 0.1)
        self.assertEqual(self.closes, [])
        self.advance(0.2)
        self.assertEqual((self.closes, self.owner.lost), ([(0, GOODBYE)], [""]))
        self.assertEqual(self.connection.unsent, 0)

    def test_abort(self) -> None:
        """
        An abort closes at once with code 1 and the reason, and once; afterwards all calls do nothing.
        """
        self.connection.start()
        self.connection.send(TOPIC, b"hello")
        self.connection.abort("bad frame")
        self.connection.abort("again")
        self.connection.close()
        self.connection.send(TOPIC, b"more")
        self.connection.finish(TOPIC)
        self.connection.prove(TOPIC)
        self.connection.send_proofs()
        self.assertEqual((self.closes, self.owner.lost), ([(1, b"bad frame")], ["bad frame"]))
        self.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_ended_by_the_peer(self) -> None:
        """
        The reason of an end that we did not cause is read from the library's words; while we close there is
        none.
        """
        for words, closing, reason in (
            ("closed by peer: bye (code 0)", False, "by peer"),
            ("TimedOut: timed out", False, "timed out"),
            ("closed by peer: Too Many Connections (code 1)", False, "the peer has too many connections"),
            ("closed by peer: bye (code 0)", True, ""),
        ):
            self.setUp()
            self.connection.start()
            self.patch(self.near.network, "window", 10)
            self.connection.send(TOPIC, b"hello")
            self.advance(0.1)
            if closing:
                self.connection.close()
            self.near.lose(words)
            self.advance(0.1)
            self.assertEqual(self.owner.lost, [reason])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_received(self) -> None:
        """
        Messages of an open topic reach the owner; what is malformed ends the connection.
        """
        self.connection.start()
        for data in (prefix(TOPIC) + prefix(b"hello"), b"\xff" * 8):
            opening = self.calls.call(self.far.open_uni())
            self.advance(0.1)
            self.calls.call(self.successResultOf(opening).write_all(data))
            self.advance(0.1)
        self.assertEqual(self.owner.messages, [b"hello"])
        self.assertEqual(len(self.owner.lost), 1)
        self.assertEqual(self.closes[0][0], 1)


class RoomTests(ProvingTestCase):
    """
    A transport that has no room for another connection.
    """

    def test_no_room(self) -> None:
        """
        Who is refused for lack of connections learns the reason, and who refuses
        reports the peer.
        """
        events: list[Event] = []
        full, on_full = self.transport(3, settings=TransportSettings(1, emit=events.append))
        first, _ = self.transport(4)
        self.dial(first, full)
        first.send(full.peer_id, TOPIC, b"hello")
        self.advance(0.5)
        second, on_second = self.transport(5)
        dialled = second.dial(full.peer_id, full.addresses())
        self.advance(0.02)
        self.successResultOf(dialled)
        second.send(full.peer_id, TOPIC, b"hello")
        self.advance(0.5)
        self.assertEqual(len(on_full.messages), 1)
        self.assertEqual(
            events,
            [LimitReached("connections", 1), PeerRefused(second.peer_id, "too many connections")],
        )
        self.assertEqual([reason for _, _, reason in on_second.broken], ["the peer has too many connections"])
        refused = self.failureResultOf(full.dial(second.peer_id, second.addresses()), NoRoom)
        self.assertEqual(str(refused.value), "too many connections")
        self.assertEqual(full.counters["dial_no_room"], 1)
