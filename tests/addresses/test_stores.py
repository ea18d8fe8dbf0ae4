"""
The contract of L{IPacketStore<dtt.addresses.interfaces.IPacketStore>} for a relay.  That for the DHT is in
L{tests.addresses.test_dht_store}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from dtt.addresses.relays import Relay
from dtt.errors import PublishFailed
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.pkarr_relay import PkarrRelay
from tests.addresses.contract import ALICE, ContractMixin, packet

NOW = 1_800_000_000.0


class RelayTests(ContractMixin, SynchronousTestCase):
    """
    L{Relay}, with treq's client over in-memory TCP.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.net = MemoryTCPNetwork(self.clock)
        self.counters = Counter()
        self.relay = PkarrRelay(self.clock)
        self.port = self.net.reactor("192.0.2.9").listenTCP(80, Site(self.relay, reactor=Clock()))
        self.store = Relay(self.net.reactor("10.0.0.1"), "http://192.0.2.9/pkarr/", self.counters)
        self.other = Relay(self.net.reactor("10.0.0.2"), "http://192.0.2.9/pkarr", self.counters)

    def wait(self, deferred: Deferred[Any]) -> Any:
        """
        Advance the clock until the Deferred fires; nothing is left afterwards.
        """
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        self.net.advance(1.0)
        self.assertEqual(self.net.transports(), [])
        if failures:
            failures[0].raiseException()
        return results[0]

    def test_requests(self) -> None:
        """
        The URL is the base plus the key in z-base-32.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.find(self.other)
        path = "/pkarr/7wkr4kf4yp8yurqrk9zruqpbh9nkmkguw1bpq1kngzcwh6kfbfpy"
        self.assertEqual(
            [(method, len(p) == len(path), status) for method, p, status in self.relay.log],
            [("PUT", True, 204), ("GET", True, 200)],
        )
        self.assertEqual(self.relay.packet(ALICE.peer_id), packet(5))

    def test_not_modified(self) -> None:
        """
        A packet that is already cached is not transferred again.
        """
        self.wait(self.store.publish(ALICE, packet(5)))
        self.assertEqual(self.find(self.other), [packet(5)])
        self.assertEqual(self.find(self.other), [packet(5)])
        self.assertEqual([status for _, _, status in self.relay.log], [204, 200, 304])
        self.clock.advance(1)
        self.wait(self.store.publish(ALICE, packet(6, port=2)))
        self.assertEqual(self.find(self.other), [packet(6, port=2)])

    def test_busy(self) -> None:
        """
        A 429 fails with the time to wait, within limits.
        """
        for seconds, expected in ((7, 7.0), (0, 1.0), (10**6, 3600.0)):
            self.relay.busy = seconds
            error = self.assertRaises(PublishFailed, lambda: self.wait(self.store.publish(ALICE, packet(5))))
            self.assertEqual((str(error), error.retry_after), ("status 429", expected))
        self.assertEqual(self.find(self.store), [])
        self.assertEqual(self.counters, {"http://192.0.2.9/pkarr: rate_limited": 1})
        self.counters.clear()

    def test_cancel(self) -> None:
        """
        Requests can be cancelled, which closes the connection.
        """
        for ask in (
            lambda: self.store.find(ALICE.peer_id, lambda packet: None),
            lambda: self.store.publish(ALICE, packet(5)),
        ):
            for seconds in (0.0, 0.015, 0.025, 0.035):
                waiting = ask()
                self.net.advance(seconds)
                waiting.cancel()
                self.failureResultOf(waiting, CancelledError)
                self.net.advance(0.1)
                self.assertEqual(self.net.transports(), [])
        self.assertEqual(self.counters, {})
