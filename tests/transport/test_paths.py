"""
Tests for L{dtt.transport.paths}.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.paths import tcp_round_trip


class RoundTripTests(SynchronousTestCase):
    """
    Tests for L{tcp_round_trip}.
    """

    @skipUnless(hasattr(socket, "TCP_INFO"), "the system has no TCP_INFO")
    def test_measured(self) -> None:
        """The round trip of a connection is what the system has measured, also through TLS; then none."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        with ours, theirs:
            plain = SimpleNamespace(socket=ours)
            for transport in (plain, SimpleNamespace(transport=plain)):
                seconds = tcp_round_trip(transport)
                assert seconds is not None
                self.assertTrue(0 < seconds < 1, seconds)
        self.assertIsNone(tcp_round_trip(plain))

    def test_no_socket(self) -> None:
        """A transport in memory has none."""
        self.assertIsNone(tcp_round_trip(object()))
