"""
Tests for L{dtt.tracker.transports}.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, IrohConfig
from dtt.errors import ListenError, UsageError
from dtt.identity import PeerKey
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.tracker.saved import SavedPorts
from dtt.tracker.transports import Listeners, transport_names
from dtt.transport.combined import CombinedTransport
from dtt.transport.iroh import bindings as iroh_bindings
from dtt.transport.iroh import transport as iroh_transport
from dtt.transport.iroh.endpoint import Servers
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import IROH, PeerAddress
from tests.tracker.common import collect_warnings

HOST = "10.0.0.1"


class Iroh:
    """
    The part of C{IrohTransport} that L{Listeners} uses.
    """

    kinds = (IROH,)
    finds_peers = False
    taken: tuple[int, ...] = ()

    def __init__(self, reactor: Any, key: PeerKey, **settings: Any) -> None:
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self.port: int | None = None
        self.heard: list[Any] = []

    def listen(self, host: str, port: int) -> None:
        """Bind a port."""
        if port in self.taken:
            raise ListenError(f"can't listen on UDP {host} port {port}: in use")
        self.heard.append((host, port))
        self.port = port or 5000

    def addresses(self) -> tuple[PeerAddress, ...]:
        """The addresses it listens on."""
        return () if self.port is None else (PeerAddress(IROH, HOST, self.port),)

    def set_external_host(self, host: str | None) -> None:
        """Record the host."""
        self.heard.append(host)

    def stop(self) -> Deferred[None]:
        """Record the call."""
        self.heard.append("stop")
        return succeed(None)


class ListenersTests(SynchronousTestCase):
    """
    Tests for L{Listeners}.
    """

    def setUp(self) -> None:
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        self.patch(iroh_transport, "IrohTransport", Iroh)
        self.reactor = MemoryTCPNetwork(Clock()).reactor(HOST)
        self.changes: list[None] = []

    def make(self, **settings: Any) -> Listeners:
        """The transports of a configuration."""
        config = Config(**{"listen": (HOST, 0), **settings})
        return Listeners(
            self.reactor,
            Random(0),
            PeerKey.from_seed(b"k" * 32),
            config,
            lambda: self.changes.append(None),
            lambda event: None,
        )

    def iroh(self, made: Listeners) -> Iroh:
        """The iroh transport."""
        found: Any = list(made._hosts)[-1]
        assert isinstance(found, Iroh)
        return found

    def test_names(self) -> None:
        """The meaning of each setting, with and without iroh."""
        self.assertEqual(transport_names(None), ("streams", "quic", "iroh"))
        for wanted in (("streams",), ("quic",), ("iroh",), ("streams", "quic"), ("quic", "iroh")):
            self.assertEqual(transport_names(wanted), wanted)
            self.assertEqual(transport_names(wanted[::-1]), wanted)
        self.patch(iroh_bindings, "unavailable_reason", lambda: "")
        self.assertEqual(transport_names(None), ("streams", "quic"))
        self.assertEqual(transport_names(("streams",)), ("streams",))
        for wanted in (("iroh",), ("streams", "iroh")):
            self.assertRaises(UsageError, transport_names, wanted)

    def test_unusable(self) -> None:
        """
        A package that can't be used counts as missing: a warning gives the reason, and so
        does the error if iroh was requested.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: ", in another version")
        warnings: list[str] = []
        collect_warnings(self, warnings)
        self.assertIsInstance(self.make().transport, StreamsTransport)
        self.assertIn(f"iroh package, in another version: {iroh_bindings.HOW_TO_INSTALL}", warnings[0])
        self.assertIsInstance(self.make(transport="streams").transport, StreamsTransport)
        self.assertEqual(len(warnings), 1)
        error = self.assertRaises(UsageError, self.make, transport="streams,iroh")
        self.assertIn(f"iroh package, in another version: {iroh_bindings.HOW_TO_INSTALL}", str(error))

    def test_one(self) -> None:
        """A single transport is used without a wrapper."""
        self.assertIsInstance(self.make(transport="streams").transport, StreamsTransport)
        self.assertIsInstance(self.make(transport="iroh").transport, Iroh)
        self.assertIsInstance(self.make().transport, CombinedTransport)

    def test_settings(self) -> None:
        """The iroh transport gets its settings, and reports address changes."""
        made = self.make(iroh=IrohConfig(None, "n0", ("https://a.example/",)))
        settings = self.iroh(made).settings
        self.assertEqual(settings["servers"], Servers("n0", ("https://a.example/",)))
        settings["settings"].on_addresses_changed()
        self.assertEqual(len(self.changes), 1)

    def test_iroh_host(self) -> None:
        """Unless configured otherwise, iroh listens on the same host as streams, on any port."""
        made = self.make(listen=(HOST, 7000))
        made.listen(SavedPorts())
        self.assertEqual(self.iroh(made).heard, [(HOST, 0)])
        self.assertEqual(made.listen_addresses(), (f"streams:{HOST}:7000", f"iroh:{HOST}:5000"))
        other = self.make(iroh=IrohConfig(("::1", 8000)))
        other.listen(SavedPorts())
        self.assertEqual(self.iroh(other).heard, [("::1", 8000)])
        self.assertEqual(other.listen_addresses()[1], "iroh:[::1]:8000")

    def test_ports_are_kept(self) -> None:
        """Each transport gets the port of its last run, which is kept even while it is not used."""
        made = self.make()
        self.assertEqual(made.listen(SavedPorts(1, 7001, 7002)), SavedPorts(1, 7001, 7002))
        self.assertEqual(made.listen_addresses(), (f"streams:{HOST}:7001", f"iroh:{HOST}:7002"))
        alone = self.make(transport="streams", listen=(HOST, 7003))
        self.assertEqual(alone.listen(SavedPorts(1, 7001, 7002)), SavedPorts(1, 7003, 7002))
        first = self.make()
        kept = first.listen(SavedPorts())
        self.assertEqual(
            first.listen_addresses(), (f"streams:{HOST}:{kept.streams}", f"iroh:{HOST}:{kept.iroh}")
        )

    def test_kept_port_taken(self) -> None:
        """
        A saved port that is in use is replaced for this run and stays saved; a configured one
        gives an error.
        """
        warnings: list[str] = []
        collect_warnings(self, warnings)
        self.patch(Iroh, "taken", (7002,))
        made = self.make()
        self.assertEqual(made.listen(SavedPorts(0, 0, 7002)).iroh, 7002)
        self.assertEqual((self.iroh(made).heard, len(warnings)), ([(HOST, 0)], 1))
        self.assertRaises(ListenError, self.make(iroh=IrohConfig((HOST, 7002))).listen, SavedPorts())

    def test_later_try(self) -> None:
        """If one can't be bound, a later attempt continues with those already bound."""
        made = self.make(listen=(HOST, 7001), iroh=IrohConfig((HOST, 7002)))
        self.patch(Iroh, "taken", (7002,))
        self.assertRaises(ListenError, made.listen, SavedPorts())
        self.patch(Iroh, "taken", ())
        self.assertEqual(made.listen(SavedPorts()), SavedPorts(0, 7001, 7002))
        self.assertEqual(made.listen_addresses(), (f"streams:{HOST}:7001", f"iroh:{HOST}:7002"))
        self.successResultOf(made.stop())
        self.assertEqual(self.reactor.listenTCP(7001, Factory()).getHost().port, 7001)

    def test_all_of_them(self) -> None:
        """Common calls are passed to all transports."""
        made = self.make()
        made.listen(SavedPorts())
        made.set_external_host("198.18.0.1")
        self.assertEqual((self.iroh(made).heard[-1], len(self.changes)), ("198.18.0.1", 1))
        self.assertFalse(made.reachable())
        self.iroh(made).counters["accepted"] += 1
        self.assertTrue(made.reachable())
        self.successResultOf(made.stop())
        self.assertEqual(self.iroh(made).heard[-1], "stop")
