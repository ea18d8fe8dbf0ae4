"""
Local networks in memory: multicast among machines of one home.

By default no two machines share a local network: see L{LocalNetworks.connect}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from dtt.net.multicast import Received

#: Seconds on the way.
LATENCY: Final = 0.001

_FIRST_PORT: Final = 40_000


class LocalNetworks:
    """
    Which machines share a local network, and their multicast sockets.

    @ivar sent: the datagrams sent to groups: the sender, the group and the content.
    """

    def __init__(self, clock: Clock) -> None:
        """
        @param clock: the clock of all machines.
        """
        self.clock = clock
        self.sent: list[tuple[str, str, bytes]] = []
        self.sockets: list[MemoryMulticastSocket] = []
        self._homes: dict[str, int] = {}
        self._ports = _FIRST_PORT

    def connect(self, *hosts: str) -> None:
        """
        Put machines into a separate local network.

        @param hosts: their addresses.
        """
        home = max(self._homes.values(), default=0) + 1
        for host in hosts:
            self._homes[host] = home

    def are_together(self, one: str, other: str) -> bool:
        """
        Return whether two machines share a local network; a machine does so with itself.
        """
        home = self._homes.get(one)
        return one == other or (home is not None and home == self._homes.get(other))

    def open(
        self, host: Callable[[], str], group: str, port: int, searched: Received, answered: Received
    ) -> MemoryMulticastSocket | None:
        """
        Open the sockets of a machine for a group.

        @param host: returns the address of the machine.
        @return: C{None} if the machine has no address of the family of the group.
        """
        if (":" in host()) != (":" in group):
            return None
        self._ports += 1
        made = MemoryMulticastSocket(self, host, self._ports, searched, answered)
        made.group = group
        self.sockets.append(made)
        return made


class MemoryMulticastSocket:
    """
    The sockets of one machine for one group.

    @ivar group: the group.
    @ivar port: the port from which is sent.
    @ivar closed: whether they are closed.
    """

    group = ""
    closed = False

    def __init__(
        self,
        networks: LocalNetworks,
        host: Callable[[], str],
        port: int,
        searched: Received,
        answered: Received,
    ) -> None:
        self._networks = networks
        self._host = host
        self.port = port
        self._searched = searched
        self._answered = answered

    def search(self, data: bytes) -> None:
        """
        Send to all machines of the local network, ourselves included.
        """
        networks, host = self._networks, self._host()
        networks.sent.append((host, self.group, data))
        for each in networks.sockets:
            if each.group == self.group and networks.are_together(host, each._host()):
                networks.clock.callLater(LATENCY, each._deliver, each._searched, data, host, self.port)

    def answer(self, data: bytes, host: str, port: int) -> None:
        """
        Send to the machine that has searched.
        """
        networks, own = self._networks, self._host()
        for each in networks.sockets:
            if (each._host(), each.port) == (host, port) and networks.are_together(own, host):
                networks.clock.callLater(LATENCY, each._deliver, each._answered, data, own, self.port)

    def close(self) -> Deferred[None]:
        """
        Receive nothing more.
        """
        self.closed = True
        if self in self._networks.sockets:
            self._networks.sockets.remove(self)
        return succeed(None)

    def _deliver(self, receive: Received, data: bytes, host: str, port: int) -> None:
        if not self.closed:
            receive(data, host, port)
