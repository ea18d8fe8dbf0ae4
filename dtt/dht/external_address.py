"""
Our external address as other nodes report it (BEP42, "ip"). Pure.

Rules:
  - Only global addresses can be elected.
  - The voters are nodes that we have found ourselves and that hold a place in the
    routing table. A node that we came to know because it queried us does not vote:
    anybody can query us, from many networks.
  - Each network (/24, or /48 of IPv6, what one customer has) has one vote, its latest.
    A vote expires.
  - An address is elected once it has had a majority of enough votes for some seconds.
    To replace another one it needs a larger majority, for longer. So neither one liar
    with many addresses, nor those who answer first, nor a NAT with several addresses
    decides.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from dtt.net.networks import Scope, packed_scope

#: The most networks whose votes are kept, and the fewest that must have voted. Guesses;
#: a first lookup gets about 40 votes.
MAX_VOTERS: Final = 64
MIN_VOTERS: Final = 8

#: Seconds after which a vote expires. Guess: after a change of our address, the old
#: votes are gone before long.
VOTE_LIFETIME: Final = 300.0

#: Seconds for which the first address must have had its majority: honest nodes that
#: answer later also count. For another one, which needs L{LARGE_MAJORITY}, more. Guesses.
FIRST_LASTS: Final = 5.0
CHANGE_LASTS: Final = 30.0

#: The share of the votes that the first address must exceed, and that another one must
#: have to replace it. Guess: a NAT that uses two addresses equally often keeps the first.
MAJORITY: Final = 1 / 2
LARGE_MAJORITY: Final = 3 / 4

#: The most networks without a vote that are remembered; all of them have answered, so
#: their addresses are not forged. Guess.
MAX_STRANGERS: Final = 1024


def _network(ip: bytes) -> bytes:
    return ip[:3] if len(ip) == 4 else ip[:6]


def _is_electable(ip: bytes) -> bool:
    # IPv6 addresses that contain an IPv4 address of translation are global too, but no
    # host has them.
    return packed_scope(ip) is Scope.GLOBAL and (len(ip) == 4 or ip[0] >> 5 == 1)


class AddressVotes:
    """
    The election of our external address in one address family.

    @ivar elected: our IP address, 4 or 16 bytes, or C{None} while unknown.
    """

    __slots__ = ("_leader", "_since", "_strangers", "_votes", "elected")

    def __init__(self, elected: bytes | None = None) -> None:
        """
        @param elected: the address elected in an earlier run, or C{None}; ignored
            unless it is global.
        """
        self.elected = elected if elected is not None and _is_electable(elected) else None
        # By network: the address and the time. Latest votes last.
        self._votes: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        # The address that is about to be elected, and since when it has had its
        # majority.
        self._leader: bytes | None = None
        self._since = 0.0
        # Networks without a vote, the latest last.
        self._strangers: OrderedDict[bytes, None] = OrderedDict()

    def exclude(self, voter: bytes) -> None:
        """
        Exclude the network of a node that has answered a query which we sent only because
        the node had queried us.

        @param voter: the node's IP address, 4 or 16 bytes.
        """
        network = _network(voter)
        self._strangers[network] = None
        self._strangers.move_to_end(network)
        if len(self._strangers) > MAX_STRANGERS:
            self._strangers.popitem(last=False)

    def vote(self, voter: bytes, ip: bytes, now: float) -> bool:
        """
        Count the vote of the node at C{voter} for C{ip}. Only nodes with a place in the
        routing table may vote.

        @param voter: the node's IP address, 4 or 16 bytes.
        @param ip: our IP address as the node sees it, of the same size.
        @param now: seconds.
        @return: whether the elected address has changed.
        """
        network = _network(voter)
        if network in self._strangers or not _is_electable(ip):
            return False
        self._votes.pop(network, None)
        self._votes[network] = ip, now
        if len(self._votes) > MAX_VOTERS:
            self._votes.popitem(last=False)
        if ip == self.elected and self._leader is None:
            return False
        return self.count(now)

    def count(self, now: float) -> bool:
        """
        Count the votes; to be called periodically, since majorities have to last.

        @param now: seconds.
        @return: whether the elected address has changed.
        """
        votes = self._votes
        while votes and next(iter(votes.values()))[1] <= now - VOTE_LIFETIME:
            votes.popitem(last=False)
        leader = self._find_leader()
        if leader is None or leader != self._leader:
            self._leader, self._since = leader, now
        lasts = FIRST_LASTS if self.elected is None else CHANGE_LASTS
        if leader is None or now - self._since < lasts:
            return False
        self.elected, self._leader = leader, None
        return True

    def _find_leader(self) -> bytes | None:
        # Return the address that has the majority to replace the elected one.
        if len(self._votes) < MIN_VOTERS:
            return None
        (leader, count), *_ = Counter(ip for ip, _ in self._votes.values()).most_common(1)
        share = count / len(self._votes)
        if leader == self.elected:
            return None
        enough = share > MAJORITY if self.elected is None else share >= LARGE_MAJORITY
        return leader if enough else None
