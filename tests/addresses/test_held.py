"""
Tests for L{dtt.addresses.held}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.held import HOLD_TIME, MAX_HELD_ADDRESSES, HeldAddresses
from dtt.wire.addresses import IROH, STREAMS, PeerAddress, RelayAddress
from tests.addresses.common import A, B, C


class HeldAddressesTests(SynchronousTestCase):
    """
    Tests for L{HeldAddresses}.
    """

    def setUp(self) -> None:
        """Nothing is held."""
        self.held = HeldAddresses()

    def test_until(self) -> None:
        """
        An address is held for C{HOLD_TIME}, and not a moment longer.
        """
        self.held.hold([A], 100.0)
        self.assertTrue(self.held.has(A, 100.0))
        self.assertFalse(self.held.has(B, 100.0))
        self.assertTrue(self.held.has(A, 99.9 + HOLD_TIME))
        self.assertFalse(self.held.has(A, 100.0 + HOLD_TIME))
        self.assertEqual(len(self.held), 0)

    def test_again(self) -> None:
        """
        Each hold counts from its own time, also that of an address that is held.
        """
        self.held.hold([A, B], 0.0)
        self.held.hold([A], 4.0)
        self.assertEqual(
            [[self.held.has(each, time) for each in (A, B)] for time in (HOLD_TIME - 1, HOLD_TIME + 1)],
            [[True, True], [True, False]],
        )
        self.assertFalse(self.held.has(A, HOLD_TIME + 4))

    def test_every_transport(self) -> None:
        """
        The host and the port are held, for all transports; another port is not.
        """
        self.held.hold([PeerAddress(IROH, "192.0.2.1", 5)], 0.0)
        self.assertTrue(self.held.has(PeerAddress(STREAMS, "192.0.2.1", 5), 0.0))
        self.assertFalse(self.held.has(PeerAddress(IROH, "192.0.2.1", 6), 0.0))

    def test_relays(self) -> None:
        """
        Relays are never held.
        """
        relay = RelayAddress("https://relay.example./")
        self.held.hold([relay, A], 0.0)
        self.assertFalse(self.held.has(relay, 0.0))
        self.assertEqual(len(self.held), 1)

    def test_forgotten(self) -> None:
        """
        Addresses that are held no longer take no memory, although nobody asks for them.
        """
        self.held.hold([A, B], 0.0)
        self.held.hold([C], HOLD_TIME)
        self.assertEqual(len(self.held), 1)

    def test_bounded(self) -> None:
        """
        Beyond the limit the addresses that have been held longest are dropped.
        """
        many = [PeerAddress(IROH, "192.0.2.9", port) for port in range(1, MAX_HELD_ADDRESSES + 2)]
        self.held.hold(many, 0.0)
        self.assertEqual(len(self.held), MAX_HELD_ADDRESSES)
        self.assertEqual([self.held.has(each, 0.0) for each in many[:2]], [False, True])
        self.held.hold([many[1]], 1.0)
        self.held.hold([A], 1.0)
        self.assertEqual([self.held.has(each, 1.0) for each in many[1:4]], [True, False, True])
