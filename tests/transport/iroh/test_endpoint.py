"""
Tests for L{dtt.transport.iroh.endpoint}.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import ListenError, UsageError
from dtt.testing.iroh.endpoints import MemoryEndpoint
from dtt.testing.iroh.network import MemoryEndpointBuilder, MemoryIroh
from dtt.testing.iroh.streams import IrohError
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls
from dtt.transport.iroh.endpoint import NO_SERVERS, QuicEndpoint, Servers
from dtt.wire.addresses import MAX_RELAY_URL, RelayAddress
from tests.transport.iroh.common import KEYS

HOST, URL = "10.0.0.1", "https://relay.example/"


class EndpointTestCase(SynchronousTestCase):
    """
    Endpoints of one host.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.net = MemoryIroh(self.clock)
        self.calls = Calls(self.clock, IrohError)
        self.bound: list[list[str]] = []
        self.failures: list[IrohError] = []
        original: Any = MemoryEndpointBuilder.bind
        addresses: list[str] = []

        def bind_addr(builder: MemoryEndpointBuilder, addr: str) -> None:
            addresses.append(addr)
            builder.port = builder.port or int(addr.rpartition(":")[2])

        async def bind(builder: MemoryEndpointBuilder) -> Any:
            self.bound.append(addresses[:])
            addresses.clear()
            if self.failures:
                raise self.failures.pop(0)
            return await original(builder)

        self.patch(MemoryEndpointBuilder, "bind_addr", bind_addr)
        self.patch(MemoryEndpointBuilder, "bind", bind)

    def endpoint(self, servers: Servers = NO_SERVERS, host: str = HOST) -> QuicEndpoint:
        """
        An endpoint that is not bound yet.
        """
        bindings: Any = self.net.bindings(host)
        return QuicEndpoint(self.clock, bindings, self.calls, KEYS[1], servers)


class ServersTests(EndpointTestCase):
    """
    The servers that are used.
    """

    def test_none(self) -> None:
        """
        By default there are none.
        """
        endpoint = self.endpoint()
        self.assertEqual((endpoint.has_relays, endpoint.finds_peers), (False, False))

    def test_relays(self) -> None:
        """
        Relays alone do not find peers; the preset of n0 has relays and finds peers.
        """
        for servers, has, finds in (
            (Servers(relay_urls=[URL]), True, False),
            (Servers("n0"), True, True),
            (Servers("n0", [URL]), True, True),
        ):
            endpoint = self.endpoint(servers)
            self.assertEqual((endpoint.has_relays, endpoint.finds_peers), (has, finds))

    def test_wrong(self) -> None:
        """
        An unknown preset and a relay's URL that the library refuses are errors of the application.
        """
        error = self.assertRaises(UsageError, self.endpoint, Servers("n1"))
        self.assertEqual(str(error), "unknown iroh preset 'n1'; choose one of: none, n0")
        error = self.assertRaises(UsageError, self.endpoint, Servers(relay_urls=["relay.example"]))
        self.assertEqual(str(error), "invalid relay URL: Failed to parse relay URL")

    def test_relay(self) -> None:
        """
        The relay is known while the library is connected to it, and one with too long a URL never.
        """
        for url in (URL, "https://" + "r" * MAX_RELAY_URL):
            endpoint = self.endpoint(Servers(relay_urls=[url]))
            self.assertIsNone(endpoint.relay())
            endpoint.bind(HOST, 0)
            self.assertIsNone(endpoint.relay())
            self.net.start_relay(url)
            self.assertEqual(endpoint.relay(), RelayAddress(url) if url == URL else None)


class BindTests(EndpointTestCase):
    """
    Binding.
    """

    def test_bound(self) -> None:
        """
        The socket is that which was asked for, and is known until the end.
        """
        endpoint = self.endpoint()
        self.assertEqual((endpoint.sockets(), endpoint.known_addresses()), ([], []))
        bound: Any = endpoint.bind(HOST, 4433)
        self.assertEqual(self.net.endpoints, [bound])
        self.assertEqual(endpoint.bound, [(HOST, 4433)])
        self.assertEqual(endpoint.sockets(), [(HOST, 4433)])
        bound.known = [f"{HOST}:4433", "[2001:db8::1]:5"]
        self.assertEqual(endpoint.known_addresses(), [(HOST, 4433), ("2001:db8::1", 5)])

    def test_other_family(self) -> None:
        """
        With one address of one family, the other family is bound to loopback; with all addresses, it is left
        to the library.
        """
        for host, expected in (
            (HOST, [f"{HOST}:4433", "[::1]:0"]),
            ("2001:db8::1", ["[2001:db8::1]:4433", "127.0.0.1:0"]),
            ("0.0.0.0", ["0.0.0.0:4433"]),
            ("::", ["[::]:4433"]),
        ):
            self.bound.clear()
            self.endpoint().bind(host, 4433)
            self.assertEqual(self.bound, [expected])

    def test_reachable_sockets(self) -> None:
        """
        Those that others can reach are those of the requested family; with all addresses those of both, the
        requested one first.
        """
        self.patch(MemoryEndpoint, "bound_sockets", lambda _: ["[::]:5", "0.0.0.0:4433"])
        for host, expected in (
            (HOST, [("0.0.0.0", 4433)]),
            ("0.0.0.0", [("0.0.0.0", 4433), ("::", 5)]),
            ("::", [("::", 5), ("0.0.0.0", 4433)]),
        ):
            endpoint = self.endpoint()
            endpoint.bind(host, 4433)
            self.assertEqual(endpoint.bound, expected)

    def test_twice(self) -> None:
        """
        It is bound once at a time.
        """
        endpoint = self.endpoint()
        endpoint.bind(HOST, 4433)
        error = self.assertRaises(ListenError, endpoint.bind, HOST, 0)
        self.assertEqual(str(error), f"can't listen on UDP {HOST} port 0: iroh is already listening")

    def test_no_other_family(self) -> None:
        """
        Without the other family, the requested one alone is bound.
        """
        self.failures = [IrohError("BIND", "no IPv6")]
        endpoint = self.endpoint(host="127.0.0.1")
        endpoint.bind("127.0.0.1", 0)
        self.assertEqual(self.bound, [["127.0.0.1:0", "[::1]:0"], ["127.0.0.1:0"]])
        self.assertEqual(len(endpoint.bound), 1)

    def test_unknown_reason(self) -> None:
        """
        When the system would let us bind, the reason is the first line of what the library says.
        """
        self.failures = [IrohError("BIND", "broken\nat line 5"), IrohError("BIND", "still broken\nat line 6")]
        error = self.assertRaises(ListenError, self.endpoint().bind, "127.0.0.1", 0)
        self.assertEqual(str(error), "can't listen on UDP 127.0.0.1 port 0: still broken")

    def test_taken(self) -> None:
        """
        When the system would not, its reason is reported at once.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            self.failures = [IrohError("BIND", "no socket")] * 2
            error = self.assertRaises(ListenError, self.endpoint().bind, "127.0.0.1", port)
        self.assertEqual(str(error), f"can't listen on UDP 127.0.0.1 port {port}: Address already in use")
        self.assertEqual(len(self.bound), 1)


class CloseTests(EndpointTestCase):
    """
    Closing.
    """

    def test_close(self) -> None:
        """
        The endpoint and its spare ones are closed; it can be bound again.
        """
        endpoint = self.endpoint()
        self.successResultOf(endpoint.close())
        endpoint.bind(HOST, 4433)
        self.spare(endpoint)
        closing = endpoint.close()
        advance(self.clock, 0.1)
        self.successResultOf(closing)
        self.assertEqual((self.net.endpoints, endpoint.bound, endpoint.sockets()), ([], [], []))
        self.assertIsNone(self.calls.exit_call)
        endpoint.bind(HOST, 4434)
        self.assertEqual(endpoint.bound, [(HOST, 4434)])

    def spare(self, endpoint: QuicEndpoint) -> None:
        """
        Bind a spare endpoint.
        """
        binding = Deferred.fromCoroutine(endpoint.spares.bind())
        advance(self.clock, 0.1)
        self.successResultOf(binding)

    def test_spare(self) -> None:
        """
        A spare endpoint is bound to the same addresses, but to any ports, and uses no relay.
        """
        self.net.start_relay(URL)
        endpoint = self.endpoint(Servers(relay_urls=[URL]))
        endpoint.bind(HOST, 4433)
        self.spare(endpoint)
        self.assertEqual(self.bound[1], [f"{HOST}:0", "[::1]:0"])
        main, spare = self.net.endpoints
        self.assertEqual((main.relay, spare.relay), (URL, None))
        self.assertEqual((main.peer_id, spare.peer_id), (KEYS[1].peer_id,) * 2)

    def test_at_exit(self) -> None:
        """
        Whoever forgets to close it has it closed at the exit of the process.
        """
        endpoint = self.endpoint()
        endpoint.bind(HOST, 4433)
        self.spare(endpoint)
        self.assertEqual(len(self.net.endpoints), 2)
        self.calls.end()
        self.assertEqual(self.net.endpoints, [])
