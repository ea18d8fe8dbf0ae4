"""
Tests for streams on IPv4 and IPv6 together.
"""

from __future__ import annotations

from dtt.testing.net.machines import MachineNetwork
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.transport.streams.common import ALICE, BOB, StreamsTestCase


class BrokenTests(StreamsTestCase):
    """
    Addresses of one family that never answer.
    """

    def test_dial(self) -> None:
        """
        However many addresses of one family never answer, one of the other family is
        tried after 250 ms.
        """
        for dead, own in (("2a00::{}", "10.0.0.2"), ("80.0.0.{}", "2a00::1")):
            network = MachineNetwork(self.clock)
            transports = [
                StreamsTransport(network.reactor(host, host6), key)
                for key, host, host6 in ((ALICE, "10.0.0.1", "2a00::9"), (BOB, own, None))
            ]
            transports[1].listen("::" if ":" in own else "0.0.0.0", 4433)
            silent = [dead.format(number) for number in range(10, 14)]
            network.unplug(*silent)
            addresses = [PeerAddress(STREAMS, host, 4433) for host in (*silent, own)]
            dialled = transports[0].dial(BOB.peer_id, addresses)
            network.advance(0.25 + 0.1)
            self.successResultOf(dialled)
            for transport in transports:
                transport.stop()
            network.advance(2)
