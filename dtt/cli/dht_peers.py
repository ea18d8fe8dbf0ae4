"""
C{dtt dht peers}: the peers that are announced for an info hash.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import TimeoutError

from dtt.app.usage import exactly_one, value_of
from dtt.cli.commands import NOT_FOUND
from dtt.cli.dht import Answer, DHTCommand, parse_id, shown_address, stored_lines
from dtt.dht.client.lookup import Question
from dtt.dht.node import DHTNode
from dtt.errors import DecodeError, LookupFailed
from dtt.events import count_of
from dtt.interfaces import Contact
from dtt.krpc.compact import decode_peers
from dtt.krpc.messages import Response
from dtt.net.host_port import parse_port
from dtt.net.networks import Scope

#: The maximum number of peers that are kept (guess).
MAX_PEERS = 2000


class PeersOptions(DHTCommand):
    """
    The options of C{dtt dht peers}.
    """

    synopsis = "[options] INFO-HASH"
    longdesc = (
        "Finds the peers that are announced for INFO-HASH (40 hexadecimal digits), and prints every "
        "node that "
        "answered, with its number of peers, and then the peers. Exits with 3 if there are none."
    )
    optParameters = [
        [
            "announce",
            None,
            None,
            "Announce this machine as a peer with this TCP or UDP port; 0: the port of the DHT node.",
            value_of("announce", parse_port),
        ]
    ]
    placeholders = {"announce": "PORT"}

    def parseArgs(self, *ids: str) -> None:
        """
        Take the info hash.

        @raise usage.UsageError: there is not exactly one.
        """
        self["info-hash"] = parse_id("INFO-HASH", exactly_one("dht peers", "INFO-HASH", ids))

    async def ask(self, reactor: Any, node: DHTNode) -> int:
        """
        Find the peers, or announce this machine.

        @return: the exit code.
        @raise LookupFailed: no node answered, or none accepted the announcement.
        """
        info_hash = self["info-hash"]
        if self["announce"] is not None:
            announcing = node.announce_peer(info_hash, self["announce"])
            try:
                result = await announcing.addTimeout(self["timeout"], reactor)
            except TimeoutError:
                raise LookupFailed(f"the announcement was not stored within {self['timeout']:g} s") from None
            stored = len(result.stored) + len(result.acknowledged)
            self.show({"info_hash": info_hash.hex(), "stored": stored}, stored_lines(result))
            if not stored:
                raise LookupFailed("no DHT node accepted the announcement")
            return 0
        peers: dict[tuple[str, int], None] = {}
        scopes = frozenset(Scope)

        def found(contact: Contact, response: Response) -> None:
            for peer in _peers_in(response, scopes):
                if len(peers) < MAX_PEERS:
                    peers[peer] = None

        question = Question(info_hash, b"get_peers", {b"info_hash": info_hash})
        trace = await self.trace(reactor, node, question, found)

        def note(answer: Answer) -> str:
            count = len(_peers_in(answer.response, scopes))
            return count_of(count, "peer") if count else ""

        shown = [shown_address(*peer) for peer in sorted(peers)]
        self.show({**trace.as_json(), "peers": shown}, [*trace.lines(self.width(), note), *shown])
        return 0 if peers else NOT_FOUND


def _peers_in(response: Response, scopes: frozenset[Scope]) -> list[tuple[str, int]]:
    try:
        return list(decode_peers(response.values.get(b"values", []), scopes))
    except DecodeError:
        return []
