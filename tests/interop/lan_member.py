"""
A member on a host without a route to the Internet, for L{tests.interop.test_lan}:
C{python -m tests.interop.lan_member [--no-lan]}.  Its commands: C{joined}, answered with the
id of the first neighbour; C{alone}, answered after some seconds with whether there is none;
C{id}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react

from dtt import Config, Tracker
from dtt.config import DHTConfig, DiscoveryConfig
from tests.interop.host_node import HostProgram

#: Seconds in which members on one host would have met.
LONG = 8.0


class LocalMember(HostProgram):
    """
    A tracker in one topic.
    """

    def __init__(self, reactor: Any, lan: bool) -> None:
        super().__init__()
        self._reactor = reactor
        config = Config(
            transport="streams,quic", dht=DHTConfig(bootstrap=()), discovery=DiscoveryConfig(lan=lan)
        )
        self._tracker = Tracker(reactor, config, lambda event: None)
        self._topic = self._tracker.join("local network", b"secret")
        self._tracker.startService()
        self.port = self._tracker.dht.port

    async def do_joined(self) -> str:
        """
        The id of the first neighbour.
        """
        await self._topic.when_joined()
        return self._topic.neighbors()[0].hex()

    async def do_alone(self) -> str:
        """
        Whether there is no neighbour after some seconds.
        """
        await deferLater(self._reactor, LONG)
        return str(not self._topic.neighbors())

    async def do_id(self) -> str:
        """
        Our id.
        """
        return self._tracker.peer_id.hex()


def main(reactor: Any, *options: str) -> Deferred[None]:
    """
    Run the member until the standard input is closed.
    """
    member = LocalMember(reactor, "--no-lan" not in options)
    StandardIO(member, reactor=reactor)
    return member.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
