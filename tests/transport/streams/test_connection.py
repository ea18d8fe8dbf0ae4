"""
Tests for L{dtt.transport.streams.connection}: what needs a socket.
"""

from __future__ import annotations

import socket
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.streams.connection import NOT_SENT, WINDOW, limit_buffers


@frozen
class Transport:
    """
    What has a socket.
    """

    socket: Any


class BuffersTests(SynchronousTestCase):
    """
    Tests for L{limit_buffers}.
    """

    if not (hasattr(socket, "TCP_NOTSENT_LOWAT") and hasattr(socket, "TCP_WINDOW_CLAMP")):
        skip = "this system has no such options"

    def test_limits(self) -> None:
        """
        What is not sent yet and what the peer may send ahead are bounded; the system's
        own buffers are not, which must hold all that is under way.
        """
        with socket.socket() as fresh, socket.socket() as limited:
            limit_buffers(Transport(limited))
            for name, size in ("TCP_NOTSENT_LOWAT", NOT_SENT), ("TCP_WINDOW_CLAMP", WINDOW):
                self.assertEqual(limited.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)), size)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                default = fresh.getsockopt(socket.SOL_SOCKET, option)
                self.assertEqual(limited.getsockopt(socket.SOL_SOCKET, option), default)

    def test_refused(self) -> None:
        """
        A system that refuses, and a transport in memory, are left as they are.
        """
        closed = socket.socket()
        closed.close()
        limit_buffers(Transport(closed))
        limit_buffers(object())
