"""
The L{IPeerTransport} contract: the same tests for L{StreamsTransport} over an in-memory
TCP network, for L{IrohTransport} over an in-memory QUIC network, and for
L{MemoryPeerTransport}.  The tests are in L{tests.transport.contract}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.interfaces import IPeerTransport
from dtt.wire.addresses import QUIC, STREAMS, PeerAddress
from tests.sweeps import sized
from tests.transport.contract.admission import AdmissionMixin
from tests.transport.contract.dials import DialsMixin
from tests.transport.contract.endings import EndingsMixin
from tests.transport.contract.faults import FaultsMixin
from tests.transport.contract.limits import LimitsMixin
from tests.transport.contract.messages import MessagesMixin
from tests.transport.contract.networks import (
    HubNetwork,
    IrohNetwork,
    Network,
    QuicContractNetwork,
    StreamsNetwork,
)
from tests.transport.contract.stopping import StoppingMixin


class SharedMixin(DialsMixin, MessagesMixin, EndingsMixin, FaultsMixin, LimitsMixin, StoppingMixin):
    """
    What all transports have in common.
    """

    def test_interface(self) -> None:
        """
        The interface is provided completely.
        """
        self.assertTrue(verifyObject(IPeerTransport, self.a))
        self.assertEqual(self.a.kinds, (self.net.kind,))
        self.assertEqual([address.transport for address in self.a.addresses()], [self.net.kind])


class StreamsContractTests(AdmissionMixin, SharedMixin, SynchronousTestCase):
    """
    Tests for L{StreamsTransport} as an L{IPeerTransport}.
    """

    def network(self) -> Network:
        """
        Return an in-memory TCP network.
        """
        return StreamsNetwork()


class MemoryContractTests(AdmissionMixin, SharedMixin, SynchronousTestCase):
    """
    Tests for L{MemoryPeerTransport} as an L{IPeerTransport}.
    """

    random_runs = sized(5, 15)

    def network(self) -> Network:
        """
        Return a hub.
        """
        return HubNetwork()


class QuicContractTests(SharedMixin, SynchronousTestCase):
    """
    Tests for L{StreamsTransport} over QUIC as an L{IPeerTransport}.
    """

    random_runs = sized(2, 5)

    def network(self) -> Network:
        """
        Return an in-memory UDP network.
        """
        return QuicContractNetwork()

    def test_dial_fails(self) -> None:
        """
        A dial fails with a specific reason for: no address, own key, no answer.  Another
        peer than the dialled one does not answer.
        """
        c = self.net.transport(3)
        a, b = self.a.peer_id, self.b.peer_id
        self.assertEqual(self.reason(self.a.dial(b, [])), "no address")
        self.assertEqual(self.reason(self.a.dial(b, [PeerAddress(STREAMS, "10.0.0.2", 1)])), "no address")
        self.assertEqual(self.reason(self.a.dial(a, self.a.addresses())), "own key")
        nobody = self.a.dial(b, [PeerAddress(QUIC, "10.0.0.200", 1), *c.addresses()])
        self.net.advance(9.9)
        self.assertNoResult(nobody)
        self.net.advance(0.2)
        self.assertEqual(self.reason(nobody), "timed out")
        self.assertFalse(self.a.is_connected(c.peer_id))

    def test_cancelled_dial(self) -> None:
        """
        After a dial was cancelled probing continues, since the other side may begin later;
        a connection that nobody uses is closed after 5 s.
        """
        for milliseconds in (0, 7, 14):
            result = self.a.dial(self.b.peer_id, self.b.addresses())
            self.net.advance(milliseconds / 1000)
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.net.advance(6)
            self.assertFalse(self.a.is_connected(self.b.peer_id))
            self.assertFalse(self.b.is_connected(self.a.peer_id))
            self.assertEqual(self.net.connections(self.a), 0)


class IrohContractTests(SharedMixin, SynchronousTestCase):
    """
    Tests for L{IrohTransport} as an L{IPeerTransport}.
    """

    random_runs = sized(5, 15)

    def network(self) -> Network:
        """
        Return an in-memory QUIC network.
        """
        return IrohNetwork()
