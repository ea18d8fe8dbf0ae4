"""
A libtorrent session with default DHT settings on its host's address, for
L{tests.interop.test_mixed_hosts}: C{python -m tests.interop.host_libtorrent ADDRESS
HOST:PORT...} (its bootstrap nodes) prints C{ready} and its port, and executes the same
commands as L{tests.interop.host_node}: C{put}, C{get}, and C{NUMBER meet HOST PORT},
which adds a node that was started later.
"""

from __future__ import annotations

import sys
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react

from tests.interop.host_node import HostProgram
from tests.interop.libtorrent_swarm import LibtorrentClient


class HostLibtorrent(HostProgram):
    """
    A libtorrent session.
    """

    def __init__(self, client: LibtorrentClient) -> None:
        super().__init__()
        self._client = client
        self.port = client.address[1]

    async def do_put(self, seed: str, salt: str, seq: str, value: str) -> str:
        """
        Put a mutable item; libtorrent chooses C{seq}. The answer is the number of nodes
        that stored it.
        """
        # With an empty table it gives up immediately.
        await self._client.known(1)
        secret = bytes.fromhex(seed)
        key = crypto_sign_seed_keypair(secret)[0]
        self._client.put_mutable(secret, key, bytes.fromhex(salt), bytes.fromhex(value))
        return str(await self._client.put_done())

    async def do_get(self, key: str, salt: str) -> str:
        """
        The first value of a mutable item that is found.
        """
        found = await self._client.get_first(bytes.fromhex(key), bytes.fromhex(salt))
        return found.value.hex() if found.value else "-"

    async def do_meet(self, host: str, port: str) -> str:
        """
        Add a node: libtorrent does not query its bootstrap nodes again.
        """
        self._client.meet((host, int(port)))
        return "-"


def main(reactor: Any, address: str, *bootstrap: str) -> Deferred[None]:
    """
    Run the command.
    """
    split = [each.rpartition(":") for each in bootstrap]
    client = LibtorrentClient(reactor, [(host, int(port)) for host, _, port in split], address)
    program = HostLibtorrent(client)
    StandardIO(program, reactor=reactor)
    return program.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
