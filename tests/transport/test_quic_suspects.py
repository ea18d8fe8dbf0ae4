"""
Tests for L{dtt.transport.quic_suspects}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.hints import IROH, Address, PeerAddress, RelayAddress
from dtt.transport.quic_suspects import MAX_SUSPECTS, SUSPECT_TIME, Suspects

PEER, OTHER = b"p" * 32, b"o" * 32
ADDRESSES: tuple[Address, ...] = (
    PeerAddress(IROH, "192.0.2.1", 1),
    PeerAddress(IROH, "192.0.2.2", 2),
    RelayAddress("https://relay.example/"),
)


class SuspectsTests(SynchronousTestCase):
    """
    Tests for L{Suspects}.
    """

    def test_usual(self) -> None:
        """
        All addresses of a peer are dialled at once.
        """
        self.assertEqual(Suspects().choose(PEER, ADDRESSES, 0), ADDRESSES)

    def test_in_turn(self) -> None:
        """
        A peer at one of whose addresses somebody else has answered is dialled
        at one at a time, in turn, for a while; others are not.
        """
        suspects = Suspects()
        suspects.other_key_answered(PEER, 100)
        chosen: list[Address] = []
        for now in (100, 101, 200, 300):
            chosen += suspects.choose(PEER, ADDRESSES, now)
            suspects.other_key_answered(PEER, now)
        self.assertEqual(chosen, [*ADDRESSES, ADDRESSES[0]])
        self.assertEqual(suspects.choose(OTHER, ADDRESSES, 101), ADDRESSES)
        self.assertEqual(suspects.choose(PEER, (), 301), ())
        self.assertEqual(suspects.choose(PEER, ADDRESSES, 300 + SUSPECT_TIME), ADDRESSES)

    def test_bounded(self) -> None:
        """
        The oldest are forgotten.
        """
        suspects = Suspects()
        peers = [number.to_bytes(32, "big") for number in range(MAX_SUSPECTS + 1)]
        for peer in peers:
            suspects.other_key_answered(peer, 0)
        self.assertEqual(suspects.choose(peers[0], ADDRESSES, 1), ADDRESSES)
        self.assertEqual(suspects.choose(peers[1], ADDRESSES, 1), ADDRESSES[:1])
