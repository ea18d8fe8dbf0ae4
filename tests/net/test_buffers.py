"""
Tests for L{dtt.net.buffers}.
"""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.buffers import RECEIVE_BUFFER, enlarge_receive_buffer


class Handle:
    """
    Stands for a socket of the system.

    @ivar size: the size of its receive buffer.
    """

    def __init__(self, size: int, *, refuses: bool = False) -> None:
        self.size = size
        self._refuses = refuses

    def getHandle(self) -> Handle:
        """It is its own port."""
        return self

    def getsockopt(self, level: int, option: int) -> int:
        """Return the size."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF)
        return self.size

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set the size, or fail."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF)
        if self._refuses:
            raise OSError("no buffer space available")
        self.size = value


class BuffersTests(SynchronousTestCase):
    """
    Tests for L{enlarge_receive_buffer}.
    """

    def test_enlarged(self) -> None:
        """
        A small buffer grows.
        """
        handle = Handle(65536)
        enlarge_receive_buffer(handle)
        self.assertEqual(handle.size, RECEIVE_BUFFER)

    def test_larger_already(self) -> None:
        """
        A buffer never shrinks.
        """
        handle = Handle(RECEIVE_BUFFER + 1)
        enlarge_receive_buffer(handle)
        self.assertEqual(handle.size, RECEIVE_BUFFER + 1)

    def test_refused(self) -> None:
        """
        If the system refuses, the buffer stays as it is.
        """
        handle = Handle(65536, refuses=True)
        enlarge_receive_buffer(handle)
        self.assertEqual(handle.size, 65536)

    def test_without_socket(self) -> None:
        """
        An in-memory port has no buffer.
        """
        enlarge_receive_buffer(object())

    def test_real_socket(self) -> None:
        """
        The system takes the option.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            before = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

            class Port:
                def getHandle(self) -> socket.socket:
                    return bound

            enlarge_receive_buffer(Port())
            self.assertGreaterEqual(bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), before)
