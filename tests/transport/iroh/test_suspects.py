"""
Tests for L{dtt.transport.iroh.suspects}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.iroh.suspects import MAX_FAILED, MAX_SUSPECTS, SUSPECT_TIME, Suspects
from dtt.wire.addresses import IROH, PeerAddress

PEER, OTHER = b"p" * 32, b"o" * 32
A, B, C = (PeerAddress(IROH, "192.0.2.1", port) for port in (1, 2, 3))


class SuspectsTests(SynchronousTestCase):
    """
    Tests for L{Suspects}.
    """

    def test_for_a_while(self) -> None:
        """
        A peer is suspect for a while after another key answered its dial; other peers
        are not.
        """
        suspects = Suspects()
        self.assertFalse(suspects.has(PEER, 100))
        suspects.add(PEER, 100)
        self.assertTrue(suspects.has(PEER, 99 + SUSPECT_TIME))
        self.assertFalse(suspects.has(PEER, 100 + SUSPECT_TIME))
        self.assertFalse(suspects.has(OTHER, 100))

    def test_order(self) -> None:
        """
        Addresses without a failure come first, in the given order; then those whose
        failure is oldest.
        """
        suspects = Suspects()
        self.assertEqual(suspects.order(PEER, [A, B, C]), [A, B, C])
        suspects.add(PEER, 100)
        for address in (B, A, B):
            suspects.failed(PEER, address)
        self.assertEqual(suspects.order(PEER, [B, A, C]), [C, A, B])
        self.assertEqual(suspects.order(OTHER, [B, A, C]), [B, A, C])
        suspects.add(PEER, 200)
        self.assertEqual(suspects.order(PEER, [A, B, C]), [C, A, B])
        suspects.add(PEER, 200 + SUSPECT_TIME)
        self.assertEqual(suspects.order(PEER, [A, B, C]), [A, B, C])

    def test_bounded(self) -> None:
        """
        The oldest peers and addresses are dropped first.
        """
        suspects = Suspects()
        peers = [number.to_bytes(32, "big") for number in range(MAX_SUSPECTS + 1)]
        for peer in peers:
            suspects.add(peer, 0)
        self.assertEqual([suspects.has(peer, 1) for peer in peers[:2]], [False, True])
        many = [PeerAddress(IROH, "192.0.2.1", port) for port in range(1, MAX_FAILED + 2)]
        for peer in (peers[0], peers[1]):
            for address in many:
                suspects.failed(peer, address)
        self.assertEqual(suspects.order(peers[0], reversed(many)), many[::-1])
        self.assertEqual(suspects.order(peers[1], reversed(many)), many)
