"""
The address and port at which other nodes see our socket (BEP42, "ip"). Pure.

Rules (docs/protocol/quic.md section 1):
  - Each network (/24, or /64 of IPv6) has one vote, its latest; the last 32 count.
  - An address and port is elected with at least three votes that are a majority. It is
    replaced at once when the three latest voters agree on another one: the NAT has got a
    new address, or has lost its mappings.
  - If at least four voters see the same IP address and no two of them the same port, the
    NAT uses another port for each destination, and nothing is elected.
  - What is elected is used in address hints only, where a false address costs others a
    few probes. Everything else follows L{dtt.dht.external_address}.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import Enum
from typing import Final

from dtt.net.networks import packed_network

#: The most networks whose votes are kept, and the fewest equal votes that elect.
MAX_VOTERS: Final = 32
MIN_VOTES: Final = 3

#: The fewest voters that show that a NAT uses another port for each destination.
MIN_SYMMETRIC: Final = 4


class MappingKind(Enum):
    """
    The kind of NAT in front of our socket.
    """

    UNKNOWN = "unknown"
    #: One address and port for all destinations, or no NAT at all.
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    #: Another port for each destination.
    SYMMETRIC = "symmetric"


class MappingVotes:
    """
    The election of our mapped address in one address family.

    @ivar ip: the IP address at which others see us (4 or 16 bytes), also while there is no
        single port; C{None} while unknown.
    @ivar moves: how often an address that was known has been replaced by another one.
    @ivar elected: an IP address (4 or 16 bytes) and a port; C{None} while unknown, or if
        there is no single one.
    @ivar kind: the kind of NAT according to the votes.
    """

    __slots__ = ("_votes", "elected", "ip", "kind", "moves")

    def __init__(self) -> None:
        self.elected: tuple[bytes, int] | None = None
        self.ip: bytes | None = None
        self.moves = 0
        self.kind = MappingKind.UNKNOWN
        # By network, the latest last.
        self._votes: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    @property
    def voters(self) -> int:
        """
        The number of networks whose votes count.
        """
        return len(self._votes)

    def vote(self, voter: bytes, ip: bytes, port: int) -> bool:
        """
        Count a vote.

        @param voter: the node's IP address, 4 or 16 bytes.
        @param ip: our IP address as the node sees it, of the same size.
        @param port: our port as the node sees it.
        @return: whether L{elected} or L{kind} has changed.
        """
        seen = (ip, port)
        network = packed_network(voter)
        votes = self._votes
        votes.pop(network, None)
        votes[network] = seen
        if len(votes) > MAX_VOTERS:
            votes.popitem(last=False)
        if seen == self.elected:
            return False
        elected, kind, known = self.elected, self.kind, self.ip
        self._count()
        if known not in (None, self.ip) or (elected is not None and self.elected not in (None, elected)):
            self.moves += 1
        return (self.elected, self.kind, self.ip) != (elected, kind, known)

    def is_known(self, ip: bytes, port: int) -> bool:
        """
        Return whether this address is the one that is elected; whatever the port if there
        is no single one, and whatever the address while none is known.
        """
        if self.elected is not None:
            return (ip, port) == self.elected
        return self.ip in (None, ip)

    def forget(self) -> None:
        """
        Forget all votes, but not what they have elected: our network has changed.
        """
        self._votes.clear()

    def _count(self) -> None:
        votes = list(self._votes.values())
        latest = votes[-MIN_VOTES:]
        (leader, count), *_ = Counter(votes).most_common(1)
        if len(latest) == MIN_VOTES and len(set(latest)) == 1:
            if self.elected not in (None, latest[0]):
                # What was seen before is no longer true: it must not win the next count.
                self._votes = OrderedDict(each for each in self._votes.items() if each[1] == latest[0])
            self._elect(latest[0])
        elif count >= MIN_VOTES and 2 * count > len(votes):
            self._elect(leader)
        elif len(votes) >= MIN_SYMMETRIC and self._is_symmetric(votes[-MIN_SYMMETRIC:]):
            self.elected, self.kind, self.ip = None, MappingKind.SYMMETRIC, votes[-1][0]

    def _elect(self, address: tuple[bytes, int]) -> None:
        self.elected, self.kind, self.ip = address, MappingKind.ENDPOINT_INDEPENDENT, address[0]

    def _is_symmetric(self, votes: list[tuple[bytes, int]]) -> bool:
        return len({ip for ip, _ in votes}) == 1 and len({port for _, port in votes}) == len(votes)
