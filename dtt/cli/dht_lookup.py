"""
C{dtt dht lookup}: the DHT nodes nearest to an id.
"""

from __future__ import annotations

import os
from typing import Any

from dtt.app.usage import at_most_one
from dtt.cli.dht import DHTCommand, parse_id
from dtt.dht.client.lookup import Question
from dtt.dht.node import DHTNode


class LookupOptions(DHTCommand):
    """
    The options of C{dtt dht lookup}.
    """

    synopsis = "[options] [ID]"
    longdesc = (
        "Looks up the DHT nodes nearest to ID (40 hexadecimal digits; default: a random one), and "
        "prints every "
        "node that answered: the round trip, the number of leading bits that its id shares with ID, and its "
        "address."
    )

    def parseArgs(self, *ids: str) -> None:
        """
        Take the id.

        @raise usage.UsageError: there is more than one, or it is invalid.
        """
        given = at_most_one("dht lookup", "ID", ids)
        self["id"] = os.urandom(20) if given is None else parse_id("ID", given)

    async def ask(self, reactor: Any, node: DHTNode) -> int:
        """
        Look up the id.

        @return: the exit code.
        """
        target = self["id"]
        trace = await self.trace(reactor, node, Question(target, b"find_node", {b"target": target}))
        self.show(trace.as_json(), trace.lines(self.width()))
        return 0
