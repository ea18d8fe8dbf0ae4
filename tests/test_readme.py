"""
Tests that the code in the README works as shown.
"""

from __future__ import annotations

import contextlib
import gc
import io
import re
from pathlib import Path
from random import Random
from typing import Any

import twisted.internet
from twisted.application.service import IService
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt import Config, DHTNode, Tracker
from dtt.config import PUBLIC_BOOTSTRAP
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker import tracker
from tests.garbage import ignore_older_objects
from tests.tracker.common import without_iroh

README = Path(dtt.__file__).parents[1] / "README.md"


def tac() -> str:
    """
    Return the Python block.
    """
    if not README.exists():
        raise SkipTest("the README is not beside an installed package")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return str(code)


class ReadmeTests(SynchronousTestCase):
    """
    Runs the Python block on a network in memory, with a DHT at the addresses of the public
    bootstrap hosts.
    """

    def test_embedding(self) -> None:
        """
        The C{.tac} file joins another member, which receives its message.
        """
        code = tac()
        seed = 1
        clock = HeapClock()
        clock.advance(1_800_000_000)
        network = MachineNetwork(clock, rng=Random(seed))
        (name, port), *_ = PUBLIC_BOOTSTRAP
        network.udp.names[name] = ["10.0.0.1"]
        nodes = [
            DHTNode(
                network.reactor(f"10.0.{number}.1"),
                port=port,
                bootstrap=[("10.0.0.1", port)] if number else [],
                rng=Random(seed + number),
            )
            for number in range(16)
        ]
        for node in nodes:
            node.privilegedStartService()
            node.startService()
            network.advance(1)

        self.patch(twisted.internet, "reactor", network.reactor("10.1.1.1"))
        without_iroh(self)
        self.patch(tracker, "SystemRandom", lambda: Random(seed + 200))
        names: dict[str, Any] = {}
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, str(README), "exec"), names)
            other = Tracker(network.reactor("10.1.2.1"), Config(), rng=Random(seed + 100))
            for member, host in ((names["tracker"], "10.1.1.1"), (other, "10.1.2.1")):
                for listener in member._listeners._hosts:
                    # By default, a listener asks the real machine.
                    listener._interface_addresses = (  # type: ignore[union-attr]
                        lambda host=host: (host,)
                    )
            application = IService(names["application"])
            application.privilegedStartService()
            application.startService()
            other.startService()
            topic = other.join("garden party", secret=b"between us")
            got = []

            class Observer:
                def neighbor_up(self, peer_id: bytes) -> None:
                    got.append(peer_id)

                def neighbor_down(self, peer_id: bytes) -> None:
                    got.append(peer_id)

                def message_received(self, message: dtt.GossipMessage) -> None:
                    got.append(message.content)

            topic.subscribe(Observer())
            network.advance(30)
            peer_id = names["tracker"].peer_id
            self.assertEqual(got, [peer_id, b"hello from " + peer_id.hex().encode()])
            for service in (application, other, *nodes):
                service.stopService()
            network.advance(5)
        self.assertIn(f"here: {other.peer_id.hex()}", output.getvalue())
        self.assertEqual(network.listening(), set())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_stopped_alone(self) -> None:
        """
        The C{.tac} file stops without an error if no member was found.
        """
        ignore_older_objects(self)
        network = MachineNetwork(HeapClock(), rng=Random(1))
        self.patch(twisted.internet, "reactor", network.reactor("10.1.1.1"))
        without_iroh(self)
        names: dict[str, Any] = {}
        exec(compile(tac(), str(README), "exec"), names)
        application = IService(names["application"])
        application.privilegedStartService()
        application.startService()
        network.advance(1)
        application.stopService()
        network.advance(5)
        self.assertEqual(network.listening(), set())
        names.clear()
        gc.collect()  # trial collects unhandled errors in Deferreds
        self.assertEqual(self.flushLoggedErrors(), [])
