"""
Tests for L{dtt.transport.streams.transport}: what L{tests.transport.test_contract} does not cover.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any, cast

from dtt.errors import DialFailed, ListenError
from dtt.identity import PeerKey
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.streams.connection import StreamsConnection
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.sweeps import sized
from tests.transport.streams.common import CAROL, Stranger, StreamsTestCase


class HandshakesTests(StreamsTestCase):
    """
    Limits on unauthenticated connections.
    """

    def attack(self, hosts: Iterator[str], speak: bytes = b"") -> tuple[int, list[Stranger]]:
        """
        Connect eight times a second without a handshake, and let honest peers connect
        meanwhile.

        @param speak: what the attackers send.
        @return: how many of 20 honest peers succeed, and the attackers.
        """
        attackers: list[Stranger] = []
        served = 0
        for number in range(30):
            for _ in range(8):
                attackers.append(self.stranger(None, next(hosts)))
                if speak:
                    self.write(attackers[-1], speak)
                self.net.advance(0.02)
            if number >= 10:
                key = PeerKey.from_seed(bytes((number, 1)) * 16)
                honest = self.stranger(key, f"203.0.{number}.1")
                served += self.b.is_connected(key.peer_id)
                cast(Any, honest.transport).loseConnection()
        return served, attackers

    def test_silent_connections(self) -> None:
        """
        Connections that send nothing, or only the first half of a handshake, from a few
        networks, keep no honest peer out.
        """
        hello = bytes.fromhex("1603010200010001fc0303")
        for networks, speak in ((4, hello), (1, b""), (4, b""))[: sized(1, 3)]:
            self.setUp()
            served, attackers = self.attack(cycle(f"198.51.{n}.1" for n in range(networks)), speak)
            self.assertEqual(served, 20, f"{networks} {speak!r}")
            self.assertLessEqual(len(self.b.handshakes), 64)
            self.assertTrue(all(stranger.lost for stranger in attackers[:-64]))

    def test_one_of_their_network(self) -> None:
        """
        Not even one that shares the attackers' address.
        """
        self.attack(cycle(["203.0.1.1"]))
        for n in range(4, 12):
            self.stranger(PeerKey.from_seed(bytes((n,)) * 32), "203.0.1.1")
        self.assertEqual(self.b.counters["accepted"], 28)

    def test_time_under_pressure(self) -> None:
        """
        A handshake that is under way is closed after 3 s if there are many.
        """
        slow = self.stranger(None, "192.0.2.1")
        self.net.advance(3)
        for n in range(31):
            self.stranger(None, f"198.51.{n}.1")
        self.assertFalse(slow.lost)
        self.stranger(None, "192.0.2.2")
        self.assertTrue(slow.lost)
        self.assertEqual(self.b.counters["closed_handshake_timed_out"], 2)

    def test_authenticated_ones_do_not_count(self) -> None:
        """
        An authenticated connection frees its slot.
        """
        for n in range(4, 12):
            self.stranger(PeerKey.from_seed(bytes((n,)) * 32))
        self.assertEqual(self.b.counters["accepted"], 8)


class ListenTests(StreamsTestCase):
    """
    Tests for L{StreamsTransport.listen}, L{StreamsTransport.addresses} and
    L{StreamsTransport.stop}.
    """

    def listening(self, *hosts: str, interfaces: tuple[str, ...] = ()) -> StreamsTransport:
        """
        Return a transport that listens on some addresses of one host.
        """
        transport = StreamsTransport(
            self.net.reactor("10.0.0.5"), CAROL, interface_addresses=lambda: interfaces
        )
        for number, host in enumerate(hosts):
            transport.listen(host, 5000 + number)
        return transport

    def addresses(self, transport: StreamsTransport) -> list[str]:
        """
        The addresses as text.
        """
        return [str(address) for address in transport.addresses()]

    def test_port(self) -> None:
        """
        The bound port is available afterwards.
        """
        transport = StreamsTransport(self.net.reactor("10.0.0.5"), CAROL)
        self.assertIsNone(transport.port)
        self.assertEqual(transport.addresses(), ())
        transport.listen("10.0.0.5", 0)
        assert transport.port is not None
        self.assertGreater(transport.port, 0)
        self.assertEqual(self.addresses(transport), [f"10.0.0.5:{transport.port}"])

    def test_port_taken(self) -> None:
        """
        A port in use is a L{ListenError} of one line, which says what to do.
        """
        transport = StreamsTransport(self.net.reactor("10.0.0.1"), CAROL)
        error = self.assertRaises(ListenError, transport.listen, "10.0.0.1", 4433)
        self.assertEqual(
            str(error),
            "can't listen on TCP 10.0.0.1 port 4433: Address already in use; "
            "choose another port, or 0 for any",
        )

    def test_bound_to_all(self) -> None:
        """
        Bound to all addresses: the external address is first, then those of the
        interfaces, of the bound family.
        """
        transport = self.listening("", interfaces=("192.0.2.5", "2001:db8::5"))
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000"])
        transport.set_external_host("198.51.100.7")
        self.assertEqual(self.addresses(transport), ["198.51.100.7:5000", "192.0.2.5:5000"])
        transport.set_external_host("192.0.2.5")
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000"])
        transport.set_external_host(None)
        transport.listen("::", 5001)
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000", "[2001:db8::5]:5001"])

    def test_loopback(self) -> None:
        """
        Loopback is listed only if there are no other addresses.
        """
        self.assertEqual(self.addresses(self.listening("0.0.0.0")), ["127.0.0.1:5000"])
        self.net = MemoryTCPNetwork(self.clock)
        self.assertEqual(
            self.addresses(self.listening("", "::", interfaces=("192.0.2.5",))), ["192.0.2.5:5000"]
        )

    def test_at_most_twelve(self) -> None:
        """
        At most 12 addresses are listed.
        """
        interfaces = tuple(f"192.0.2.{n}" for n in range(1, 20))
        self.assertEqual(len(self.listening("", interfaces=interfaces).addresses()), 12)

    def test_stop_does_not_wait_for_ever(self) -> None:
        """
        A peer that does not answer delays the stop by at most 1.5 s; unauthenticated
        connections do not delay it.
        """
        self.share()
        self.stranger(None)
        self.net.silent.add("10.0.0.1")
        result = self.b.stop()
        self.net.advance(1.4)
        self.assertNoResult(result)
        self.net.advance(0.2)
        self.successResultOf(result)
        self.assertEqual(self.b.connections, {})

    def test_stop_and_strangers(self) -> None:
        """
        A connection in its handshake does not delay the stop.
        """
        stranger = self.stranger(None)
        result = self.b.stop()
        self.net.advance(0)
        self.successResultOf(result)
        self.net.advance(0.1)
        self.assertTrue(stranger.lost)

    def test_stop_cancelled(self) -> None:
        """
        Cancelling L{StreamsTransport.stop} aborts what is left.
        """
        self.share()
        self.net.silent.add("10.0.0.1")
        result = self.b.stop()
        result.cancel()
        self.failureResultOf(result)
        self.net.advance(0)
        self.assertEqual(self.b.connections, {})

    def test_nothing_accepted_after_stop(self) -> None:
        """
        A stopped transport does not listen.
        """
        self.successResultOf(self.b.stop())
        result = self.a.dial(self.b.peer_id, [PeerAddress(STREAMS, "10.0.0.2", 4433)])
        self.net.advance(0.1)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "connection refused")

    def test_connection_repr_before_the_handshake(self) -> None:
        """
        A connection has a repr at any time.
        """
        self.assertEqual(repr(StreamsConnection(self.clock, self.a, None)), "<StreamsConnection from >")
