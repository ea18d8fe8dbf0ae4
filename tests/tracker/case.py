"""
Whole trackers on in-memory machines, with the real DHT node and the real transport.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.events import Event
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import Tracker
from tests.tracker.common import collect_warnings, fixed_chance, start_clock


class TrackerTestCase(SynchronousTestCase):
    """
    A network with a closed DHT, and trackers on separate machines.
    """

    dht_nodes = 3

    def setUp(self) -> None:
        """Start the DHT."""
        fixed_chance(self)
        self.clock = start_clock()
        self.net = MachineNetwork(self.clock)
        self.nodes: list[DHTNode] = []
        self.events: dict[Tracker, list[Event]] = {}
        self.warnings: list[str] = []
        for number in range(1, self.dht_nodes + 1):
            host = f"10.1.0.{number}"
            node = DHTNode(
                self.net.reactor(host),
                port=6881,
                interface=host,
                closed=True,
                bootstrap=[("10.1.0.1", 6881)],
                rng=Random(number),
            )
            node.privilegedStartService()
            node.startService()
            self.nodes.append(node)
        self.net.advance(1)
        self.addCleanup(self.end)
        collect_warnings(self, self.warnings)

    def tracker(
        self, number: int = 1, start: bool = True, state_dir: Path | None = None, **kw: Any
    ) -> Tracker:
        """Create a tracker on the machine with this number; there may be several."""
        host = f"10.0.0.{number}"
        dht: dict[str, Any] = kw.pop("dht", {})
        listen = kw.pop("listen", (host, 0))
        transport = kw.pop("transport", "streams")
        parts = {name: kw.pop(name) for name in ("key", "node") if name in kw}
        events: list[Event] = []
        tracker = Tracker(
            self.net.reactor(host),
            Config(
                state_dir=state_dir,
                transport=transport,
                listen=listen,
                dht=DHTConfig(bind=host, **{"bootstrap": (("10.1.0.1", 6881),), **dht}),
                **kw,
            ),
            events.append,
            Random(len(self.events) + 1000),  # differs from the seeds of DHT nodes, which determine their ids
            key=parts.get("key"),
            dht=parts.get("node"),
        )
        self.events[tracker] = events
        if start:
            tracker.privilegedStartService()
            tracker.startService()
        return tracker

    def end(self) -> None:
        """Stop what still runs, so that nothing ends during another test."""
        for tracker in self.events:
            if not tracker._stopped:
                tracker.stopService()
        self.net.advance(2)

    def of(self, tracker: Tracker, kind: type[Event]) -> list[Any]:
        """The tracker's events of one kind."""
        return [event for event in self.events[tracker] if isinstance(event, kind)]

    def stop(self, *trackers: Tracker, within: float = 2.0) -> None:
        """Stop trackers, and check that they do."""
        stopping: list[Deferred[None]] = [tracker.stopService() for tracker in trackers]
        self.net.advance(within)
        for deferred in stopping:
            self.successResultOf(deferred)

    def assert_nothing_left(self) -> None:
        """Check, after stopping the DHT, that no port and no delayed call is left and nothing was logged."""
        for node in self.nodes:
            self.successResultOf(node.stopService())
        self.net.advance(1)
        self.assertEqual(self.net.listening(), set())
        self.assertEqual(self.net.tcp.transports(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def ports(self, number: int = 1) -> dict[str, int]:
        """The ports bound on a machine."""
        return {kind: port for kind, host, port in self.net.listening() if host == f"10.0.0.{number}"}

    def state_dir(self) -> Path:
        """The path of a state directory that does not exist."""
        return Path(self.mktemp()) / "state"
