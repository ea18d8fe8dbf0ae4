"""
Tests for L{dtt.transport.streams.connection} that need a socket.
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
    A transport with a socket.
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
        Unsent bytes and the peer's window are limited; the kernel's own buffers are
        not, because they must hold everything in flight.
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
        A platform that refuses the options, and an in-memory transport, are left
        unchanged.
        """
        closed = socket.socket()
        closed.close()
        limit_buffers(Transport(closed))
        limit_buffers(object())
