"""
Keeps the mapping of a socket behind a NAT alive, and detects changes.

Rules (docs/protocol/quic.md section 1): behind a NAT, a good node is pinged every few seconds, each time a
different one: its response keeps the mapping alive, and names the mapping.  When a response names another
mapping, a few nodes of other networks are queried at once, so that they can elect it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from dtt.interfaces import Contact
from dtt.net.networks import subnet

#: Seconds between two pings (guess: a sixth of a datagram per second, and a new mapping is
#: noticed early enough for messages to flow again within 20 s).
PING_INTERVAL: Final = 6.0

#: Nodes that are asked when one has named another mapping, and the fewest seconds between
#: two such rounds: one hostile node could cause them otherwise.
DOUBT_PINGS: Final = 5
DOUBT_PAUSE: Final = 6.0


class MappingWatch:
    """
    Pings nodes for the sake of our mapping, in one address family.

    @ivar enabled: whether we are behind a NAT.
    """

    def __init__(
        self,
        clock: IReactorTime,
        nodes: Callable[[], Sequence[Contact]],
        ping: Callable[[Contact], object],
    ) -> None:
        """
        @param clock: schedules the pings.
        @param nodes: returns good nodes, the best first.
        @param ping: pings a node.
        """
        self.enabled = False
        self._clock = clock
        self._nodes = nodes
        self._ping = ping
        self._turn = 0
        self._answered_at = self._doubted_at = float("-inf")
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Start to ping, while L{enabled}.
        """
        self._loop.start(PING_INTERVAL, now=False)

    def stop(self) -> None:
        """
        Stop to ping.
        """
        if self._loop.running:
            self._loop.stop()

    def confirmed(self) -> None:
        """
        Handle a response that names the known mapping.
        """
        self._answered_at = self._clock.seconds()

    def doubted(self) -> None:
        """
        Handle a response that names another mapping than the known one.
        """
        now = self._clock.seconds()
        if not self.enabled or not self._loop.running or 0 <= now - self._doubted_at < DOUBT_PAUSE:
            return
        self._doubted_at = now
        self.ask(DOUBT_PINGS)

    def ask(self, count: int) -> None:
        """
        Ping up to C{count} nodes of different networks.
        """
        asked: set[str] = set()
        nodes = self._nodes()
        for _ in nodes:
            self._turn += 1
            node = nodes[self._turn % len(nodes)]
            if subnet(node.host) not in asked:
                asked.add(subnet(node.host))
                self._ping(node)
                if len(asked) == count:
                    break

    def _tick(self) -> None:
        since = self._clock.seconds() - self._answered_at
        if self.enabled and not 0 <= since < PING_INTERVAL / 2:
            self.ask(1)
