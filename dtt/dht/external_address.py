"""
Our external address as other nodes report it (BEP42, "ip"). Pure.

Rules: each network (/24, or /64 of IPv6) has one vote, its latest. An address is
elected by a majority of the votes once enough networks have voted, so neither one liar
with many addresses nor one odd NAT decides.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from dtt.net.networks import packed_network

#: The most networks whose votes are kept, and the fewest that must have voted. Guesses;
#: a first lookup gets about 40 votes.
MAX_VOTERS: Final = 64
MIN_VOTERS: Final = 8


class AddressVotes:
    """
    The election of our external address.

    @ivar elected: our IP address, 4 or 16 bytes, or C{None} while unknown.
    """

    __slots__ = ("_votes", "elected")

    def __init__(self, elected: bytes | None = None) -> None:
        """
        @param elected: the address elected in an earlier run, or C{None}.
        """
        self.elected = elected
        # Latest voters last.
        self._votes: dict[bytes, bytes] = {}

    def vote(self, voter: bytes, ip: bytes) -> bool:
        """
        Count the vote of the node at C{voter} for C{ip}.

        @param voter: the node's IP address, 4 or 16 bytes.
        @param ip: our IP address as the node sees it, 4 or 16 bytes.
        @return: whether the elected address has changed.
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
