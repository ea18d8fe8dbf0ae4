"""
Tests for L{dtt.addresses.service}.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from dtt.addresses.publisher import DEBOUNCE, SHORTEST, START_DELAY
from dtt.addresses.service import PEERS_FILE, SAVE_INTERVAL, AddressService
from dtt.addresses.signer import SEQ_FILE, LocalPeer
from dtt.config import AddressesConfig
from dtt.errors import StateError
from dtt.events import AddressesPublished, Event
from dtt.identity import PeerKey
from dtt.interfaces import IAddressBook
from dtt.state import StateDirectory
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.pkarr_relay import PkarrRelay
from dtt.wire.addresses import STREAMS, Address, PeerAddress, RelayAddress
from tests.addresses.common import A, B, C
from tests.tracker.common import collect_warnings

ALICE, BOB = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)
STREAM = PeerAddress(STREAMS, "192.0.2.1", 4433)
IROH_RELAY = RelayAddress("https://relay.example./")
URL = "http://192.0.2.9"


class ServiceTests(SynchronousTestCase):
    """
    The services of several members, one DHT and one pkarr relay.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.net = MemoryTCPNetwork(self.clock)
        self.dht = FakeDHT(self.clock, latency=0.01)
        self.relay = PkarrRelay(self.clock)
        self.net.reactor("192.0.2.9").listenTCP(80, Site(self.relay, reactor=Clock()))
        self.listed: dict[PeerKey, tuple[Address, ...]] = {ALICE: (A, STREAM), BOB: (B,)}
        self.events: list[Event] = []
        self.state: StateDirectory | None = None
        self.services: list[AddressService] = []
        self.addCleanup(self.end)

    def service(self, key: PeerKey, **config: Any) -> AddressService:
        """
        A running service of a member.
        """
        service = AddressService(
            self.net.reactor("10.0.0.1"),
            Random(1),
            AddressesConfig(**config),
            LocalPeer(key, lambda: self.listed[key], self.state),
            self.dht,
            self.events.append,
        )
        service.startService()
        self.services.append(service)
        return service

    def end(self) -> None:
        """
        Stop all services.
        """
        for service in self.services:
            if service.running:
                self.stop(service)

    def stop(self, service: AddressService) -> None:
        """
        Stopping is immediate.
        """
        self.successResultOf(service.stopService())

    def resolve(self, service: AddressService, key: PeerKey) -> tuple[Address, ...]:
        """
        The addresses found within a second.
        """
        resolving = service.book.resolve(key.peer_id)
        self.net.advance(1.0)
        return self.successResultOf(resolving)

    def test_interface(self) -> None:
        """
        The service's book provides the interface.
        """
        verifyObject(IAddressBook, self.service(ALICE).book)

    def test_dht(self) -> None:
        """
        By default a member can be found by its id through the DHT alone, with the
        addresses of all transports; an event reports the publication.
        """
        self.service(ALICE)
        self.net.advance(START_DELAY + 0.1)
        self.assertEqual(self.resolve(self.service(BOB), ALICE), (A, STREAM))
        self.assertEqual(self.events[0], AddressesPublished("dht", 2))
        self.assertEqual(self.relay.log, [])

    def test_relay(self) -> None:
        """
        Without the DHT, a member can be found through a pkarr relay.
        """
        self.listed[ALICE] = (A, IROH_RELAY)
        self.service(ALICE, pkarr=False, relays=(URL,))
        self.net.advance(START_DELAY + 0.1)
        bob = self.service(BOB, pkarr=False, relays=(URL,), publish=False)
        self.assertEqual(self.resolve(bob, ALICE), (A, IROH_RELAY))
        self.assertEqual(self.events, [AddressesPublished(URL, 2)])
        self.assertEqual(self.dht.stored(ALICE.peer_id), {})

    def test_both(self) -> None:
        """
        Neither an unreachable relay nor a duplicate one affects the results of the DHT.
        """
        dead = "http://192.0.2.77"
        self.service(ALICE, relays=(URL, dead, URL))
        self.net.advance(START_DELAY + 1)
        bob = self.service(BOB, relays=(dead, URL))
        self.assertEqual(self.resolve(bob, ALICE), (A, STREAM))
        self.assertEqual(set(self.events[:2]), {AddressesPublished("dht", 2), AddressesPublished(URL, 2)})
        self.assertEqual(bob.counters[f"{dead}: connection_failed"], 1)
        self.assertEqual([entry[0] for entry in self.relay.log].count("PUT"), 1)

    def test_made_before_another_has_stopped(self) -> None:
        """
        A service created while another one still uses the state continues with higher
        numbers than that one, whatever the clock says.
        """
        self.state = StateDirectory(self.mktemp())
        first = self.service(ALICE)
        second = AddressService(
            self.net.reactor("10.0.0.1"),
            Random(1),
            AddressesConfig(),
            LocalPeer(ALICE, lambda: self.listed[ALICE], self.state),
            self.dht,
            self.events.append,
        )
        self.net.advance(START_DELAY + 0.1)
        self.stop(first)
        published = first._signer.last_seq
        self.assertGreater(published, 0)
        second.startService()
        self.services.append(second)
        self.assertEqual(second._signer.last_seq, published)

    def test_own_intervals(self) -> None:
        """
        The packet is sent to the relay every 5 minutes and to the DHT every hour.
        """
        service = self.service(ALICE, relays=(URL,))
        self.net.advance(3700)
        self.assertIn(service.counters[f"{URL}: published"], (12, 13))
        self.assertEqual(service.counters["dht: published"], 2)

    def test_off(self) -> None:
        """
        Without DHT and relay nothing is published, and only hearsay is known.
        """
        service = self.service(ALICE, pkarr=False)
        self.net.advance(7200)
        self.assertEqual(self.dht.stored(ALICE.peer_id), {})
        self.assertEqual(self.resolve(service, BOB), ())
        self.assertEqual((service.counters, self.events), ({}, []))

    def test_no_publish(self) -> None:
        """
        Without publishing, lookups still work.
        """
        self.service(ALICE)
        self.net.advance(START_DELAY + 1)
        bob = self.service(BOB, publish=False)
        self.net.advance(10)
        self.assertEqual(self.resolve(bob, ALICE), (A, STREAM))
        self.assertEqual(self.dht.stored(BOB.peer_id), {})

    def test_update(self) -> None:
        """
        Changed addresses are published, and others find them.
        """
        alice = self.service(ALICE)
        self.net.advance(START_DELAY + SHORTEST + 1)
        self.listed[ALICE] = (C,)
        alice.update_addresses()
        self.net.advance(DEBOUNCE + 0.1)
        self.assertEqual(self.resolve(self.service(BOB), ALICE), (C,))
        self.assertEqual(self.events[:2], [AddressesPublished("dht", 2), AddressesPublished("dht", 1)])

    def test_change_that_nobody_tells(self) -> None:
        """
        The service checks regularly for address changes that no call reports.
        """
        self.service(ALICE)
        self.net.advance(START_DELAY + SHORTEST + 1)
        self.listed[ALICE] = (C,)
        self.net.advance(SAVE_INTERVAL)
        self.assertEqual(self.resolve(self.service(BOB), ALICE), (C,))

    def test_earlier_run(self) -> None:
        """
        A packet from an earlier run without state, whose clock was ahead, is replaced.
        """
        ahead = self.service(ALICE)
        ahead._signer.last_seq = 2**62
        self.net.advance(START_DELAY + 1)
        self.stop(ahead)
        self.listed[ALICE] = (C,)
        self.service(ALICE)
        self.net.advance(START_DELAY + 1)
        self.assertEqual(self.resolve(self.service(BOB), ALICE), (C,))

    def test_state(self) -> None:
        """
        The sequence number and reached peers survive a restart; the files have mode 0600
        and contain no secrets.
        """
        path = Path(self.mktemp())
        self.state = StateDirectory(path)
        one = self.service(ALICE)
        one.book.learn(BOB.peer_id, [B], "record")
        one.book.succeeded(BOB.peer_id)
        self.net.advance(START_DELAY + 1)
        self.stop(one)
        seq = json.loads((path / SEQ_FILE).read_text("ascii"))["seq"]
        self.assertEqual(seq, one._signer.last_seq)
        for file in (SEQ_FILE, PEERS_FILE):
            self.assertEqual((path / file).stat().st_mode & 0o777, 0o600)
            self.assertNotIn(ALICE.seed.hex(), (path / file).read_text("ascii"))
        two = self.service(ALICE, pkarr=False)
        self.assertEqual(two._signer.last_seq, seq)
        self.assertEqual(self.resolve(two, BOB), (B,))

    def test_saved_while_running(self) -> None:
        """
        The state is also written while the service runs.
        """
        path = Path(self.mktemp())
        self.state = StateDirectory(path)
        service = self.service(ALICE)
        service.book.learn(BOB.peer_id, [B], "record")
        service.book.succeeded(BOB.peer_id)
        self.net.advance(SAVE_INTERVAL)
        self.assertIn(BOB.peer_id.hex(), (path / PEERS_FILE).read_text("ascii"))

    def test_damaged_state(self) -> None:
        """
        Damaged files, and files with other contents, are moved aside with a warning, so
        that the next write does not destroy them.
        """
        path = Path(self.mktemp())
        self.state = StateDirectory(path)
        warnings: list[str] = []
        collect_warnings(self, warnings)
        for content in ("{", '{"version": 1, "peers": 5}'):
            for file in (SEQ_FILE, PEERS_FILE):
                (path / file).write_text(content, "ascii")
            warnings.clear()
            self.stop(self.service(ALICE))
            self.assertEqual(len(warnings), 2, warnings)
            for file in (SEQ_FILE, PEERS_FILE):
                self.assertEqual((path / f"{file}.damaged").read_text("ascii"), content)

    def test_unreadable_state(self) -> None:
        """
        A file that can't be read is reported immediately.
        """
        for file in (SEQ_FILE, PEERS_FILE):
            path = Path(self.mktemp())
            self.state = StateDirectory(path)
            (path / file).mkdir()
            self.assertRaises(StateError, self.service, ALICE)

    def test_full_disk(self) -> None:
        """
        A write error is logged and does not stop the service.
        """

        def write_json(name: str, value: object) -> None:
            raise StateError("no space left")

        self.state = StateDirectory(Path(self.mktemp()))
        self.patch(self.state, "write_json", write_json)
        service = self.service(ALICE)
        self.net.advance(START_DELAY + 1)
        self.assertEqual(self.events, [AddressesPublished("dht", 2)])
        self.stop(service)

    def test_stop(self) -> None:
        """
        It can be stopped during any operation; pending Deferreds fire, and nothing is
        left.
        """
        for seconds in (0.0, START_DELAY, START_DELAY + 0.015, START_DELAY + 0.025, 10.0):
            service = self.service(ALICE, relays=(URL,))
            self.net.advance(seconds)
            resolving = service.book.resolve(BOB.peer_id)
            self.net.advance(0.005)
            self.stop(service)
            self.assertEqual(self.successResultOf(resolving), ())
            self.net.advance(1.0)
            self.assertEqual((self.clock.getDelayedCalls(), self.net.transports()), ([], []))

    def test_stopped_before_it_started(self) -> None:
        """
        Stopping a service that was never started works and writes nothing.
        """
        path = Path(self.mktemp())
        service = AddressService(
            self.clock,
            Random(1),
            AddressesConfig(),
            LocalPeer(ALICE, tuple, StateDirectory(path)),
            self.dht,
            self.events.append,
        )
        stopping = service.stopService()
        self.assertNotIsInstance(stopping.result, Failure)
        self.assertEqual(list(path.iterdir()), [])
