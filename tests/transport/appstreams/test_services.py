"""
Tests for L{dtt.transport.appstreams.services}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import ListenError, UsageError, WrongType
from dtt.transport.appstreams.services import Services, StreamPort, check_name
from dtt.transport.appstreams.stream import StreamAddress
from tests.transport.appstreams.common import Recorders

OWN, PEER = b"o" * 32, b"p" * 32


class NameTests(SynchronousTestCase):
    """
    Tests for L{check_name}.
    """

    def test_name(self) -> None:
        """
        A name has 1 to 255 bytes.
        """
        for name in (b"a", b"\x00", b"x" * 255):
            self.assertEqual(check_name(name), name)

    def test_refused(self) -> None:
        """
        The message says what is wrong.
        """
        for name in (b"", b"x" * 256):
            error = self.assertRaises(UsageError, check_name, name)
            self.assertEqual(str(error), f"the name of a stream is 1..255 bytes, not {len(name)}")
        wrong: Any
        for wrong in ("text", None, bytearray(b"a")):
            self.assertRaises(WrongType, check_name, wrong)


class PortTests(SynchronousTestCase):
    """
    Tests for L{StreamPort} and L{Services}.
    """

    def setUp(self) -> None:
        self.services = Services(Clock(), OWN, Counter())
        self.factory = Recorders()
        self.port = StreamPort(self.services, b"app/1", self.factory)

    def test_interface(self) -> None:
        """
        It is a port, whose host is our id and the name.
        """
        self.assertTrue(verifyObject(IListeningPort, self.port))
        self.assertEqual(self.port.getHost(), StreamAddress(OWN, b"app/1"))
        self.assertEqual(repr(self.port), "<StreamPort b'app/1'>")

    def test_served(self) -> None:
        """
        A name is served between start and stop; both may be repeated, and the factory is notified once.
        """
        self.assertFalse(self.services.is_served(b"app/1"))
        for _ in range(2):
            self.port.startListening()
            self.assertEqual(self.factory.started, 1)
        self.assertTrue(self.services.is_served(b"app/1"))
        self.assertFalse(self.services.is_served(b"app/2"))
        for _ in range(2):
            self.successResultOf(self.port.stopListening())
            self.assertEqual(self.factory.started, 0)
        self.assertFalse(self.services.is_served(b"app/1"))
        self.port.startListening()
        self.assertTrue(self.services.is_served(b"app/1"))

    def test_build(self) -> None:
        """
        The factory of the name builds the protocol, and may build none.
        """
        self.port.startListening()
        StreamPort(self.services, b"none", Recorders(lambda: None)).startListening()
        peer = StreamAddress(PEER, b"app/1")
        self.assertIs(self.services.build(peer), self.factory.made[0])
        self.assertEqual(self.factory.peers, [peer])
        self.assertIsNone(self.services.build(StreamAddress(PEER, b"none")))

    def test_taken(self) -> None:
        """
        A name is served once.  A port that could not start does not stop the one that serves it.
        """
        self.port.startListening()
        factory = Recorders()
        other = StreamPort(self.services, b"app/1", factory)
        error = self.assertRaises(ListenError, other.startListening)
        self.assertEqual(str(error), "streams with the name b'app/1' are served already; stop that first")
        self.successResultOf(other.stopListening())
        self.services.remove(other)
        self.assertTrue(self.services.is_served(b"app/1"))
        self.assertEqual((self.factory.started, factory.started), (1, 0))
        self.successResultOf(self.port.stopListening())
        other.startListening()
        self.assertEqual(factory.started, 1)
