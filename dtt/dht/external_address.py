"""
Our external address, as other nodes see it (BEP42, "ip").  Pure.

Rules: every packed_network (/24, or /64 of IPv6) has one vote, its latest; an address
is elected by a majority of enough networks, so that neither one liar with many
addresses nor one odd NAT decides.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from dtt.net.networks import packed_network

#: Networks whose votes are kept, and that must have voted.  Guesses; a first
#: lookup hears some 40.
MAX_VOTERS: Final = 64
MIN_VOTERS: Final = 8


class AddressVotes:
    """
    @ivar elected: our IP address, 4 or 16 bytes, or L{None} while it is unknown.
    """

    __slots__ = ("_votes", "elected")

    def __init__(self, elected: bytes | None = None) -> None:
        """
        @param elected: what it was in an earlier run.
        """
        self.elected = elected
        # The latest voters last.
        self._votes: dict[bytes, bytes] = {}

    def vote(self, voter: bytes, ip: bytes) -> bool:
        """
        Somebody at the address C{voter} (4 or 16 bytes) sees us at C{ip}.

        @return: whether another address is elected now.
        """
        votes = self._votes
        key = packed_network(voter)
        votes.pop(key, None)
        votes[key] = ip
        if len(votes) > MAX_VOTERS:
            del votes[next(iter(votes))]
        if ip == self.elected or len(votes) < MIN_VOTERS:
            return False
        leader, count = Counter(votes.values()).most_common(1)[0]
        if leader == self.elected or 2 * count <= len(votes):
            return False
        self.elected = leader
        return True
