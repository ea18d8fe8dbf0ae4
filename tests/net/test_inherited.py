"""
Tests for L{dtt.net.inherited}.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import TestCase

from dtt.dht.node import DHTNode
from dtt.net.inherited import offer, take


class InheritedTests(TestCase):
    """
    Tests for L{offer} and L{take}.
    """

    def test_once(self) -> None:
        """Each socket is taken once."""
        offer({socket.AF_INET: 70})
        self.assertEqual(
            [take(socket.AF_INET6), take(socket.AF_INET), take(socket.AF_INET)], [None, 70, None]
        )

    def test_node(self) -> Deferred[None]:
        """
        A DHT node uses the socket of its family, whatever its port is, and the next node binds
        one.  The socket was blocking, as systemd's are, and no longer is.
        """
        from twisted.internet import reactor

        async def run() -> None:
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bound.bind(("127.0.0.1", 0))
            inherited, port = bound.fileno(), bound.getsockname()[1]
            offer({socket.AF_INET: inherited})
            nodes = [DHTNode(reactor, interface="127.0.0.1", closed=True) for _ in range(2)]
            for node in nodes:
                node.privilegedStartService()
            try:
                self.assertEqual(nodes[0].port, port)
                self.assertNotEqual(nodes[1].port, port)
                self.assertFalse(os.get_blocking(inherited))
            finally:
                bound.close()
                for node in nodes:
                    await maybeDeferred(node.stopService)

        return Deferred.fromCoroutine(run())
