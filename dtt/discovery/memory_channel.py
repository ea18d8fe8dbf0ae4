"""
The discovery channel of the swarm memory: members with whom we were connected before.

Rules: a lone member dials the members that it remembers beside all other channels, those
that were neighbours last first, a few in each round: others that were found are not to
wait for members that may be gone.  Nothing can be published here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dtt.deferreds import abandon
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.discovery.shared import SharedServices
from dtt.discovery.swarm_memory import MAX_REMEMBERED, RememberedMember, SwarmMemory, memory_key
from dtt.interfaces import GossipMessage, PeerId
from dtt.records.topic import TopicKeys, unix_minute
from dtt.wire.addresses import Address, PeerAddress

#: Members that are reported in each round of a search (guess: they are dialled within half a
#: second; the first record of a slot takes longer to come).
IN_A_ROUND: Final = 8

#: Rounds after which all of them are reported again (guess: a minute or two).
ROUNDS: Final = 16


@implementer(IDiscoveryChannel)
class SwarmMemoryChannel:
    """
    Finds the members of a topic with whom we were connected before, and remembers those
    with whom we are.

    @ivar name: C{"swarm_memory"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    """

    name = "swarm_memory"

    def __init__(self, shared: SharedServices, keys: TopicKeys, memory: SwarmMemory) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param memory: the members of all topics.
        """
        self.on_record: RecordSink = lambda _: None
        self._reactor = shared.reactor
        self._book = shared.book
        self._own_id = shared.key.peer_id
        self._memory = memory
        self._key = memory_key(keys.topic_id, keys.secret_hash)
        self._neighbors: dict[PeerId, None] = {}

    def when_ready(self) -> Deferred[None]:
        """
        Return a Deferred that has fired if a member is remembered; else it never fires.
        """
        return succeed(None) if self._members() else Deferred()

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Report some remembered members, if we are alone.

        @param source: ignored.
        @param search: the state of the search; with C{None} nobody is reported.
        @return: fires with substitutes for their records, which contain only their addresses.
        """
        members = self._members() if search is not None else []
        if not members or search is None:
            return succeed([])
        start = search.rounds % ROUNDS * IN_A_ROUND
        return succeed([self._report(each) for each in members[start : start + IN_A_ROUND]])

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Find nobody.

        @param source: ignored.
        """
        return succeed([])

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Do nothing: what we remember, others can't see.

        @param content: ignored.
        @param source: ignored.
        @param urgent: ignored.
        @return: fires with 0.
        """
        return succeed(0)

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Remember a member.
        """
        self._neighbors[peer_id] = None
        self._remember(peer_id)

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        Remember until when it was a neighbour.
        """
        self._neighbors.pop(peer_id, None)
        self._remember(peer_id)

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """

    def update(self) -> None:
        """
        Remember that the present neighbours still are there.
        """
        for peer_id in tuple(self._neighbors):
            self._remember(peer_id)

    def _members(self) -> list[RememberedMember]:
        members = self._memory.members(self._key, self._reactor.seconds())
        return [each for each in members if each.peer_id != self._own_id]

    def _report(self, member: RememberedMember) -> FoundRecord:
        self._book.learn(member.peer_id, member.addresses, "memory")
        record = FoundRecord(member.peer_id, unix_minute(self._reactor.seconds()), addresses=member.addresses)
        self.on_record(record)
        return record

    def _remember(self, peer_id: PeerId) -> None:
        known: Sequence[Address] = ()
        resolving = self._book.resolve(peer_id)
        if resolving.called:

            def found(addresses: Sequence[Address]) -> None:
                nonlocal known
                known = addresses

            resolving.addCallback(found)
        else:  # not worth a lookup
            abandon(resolving)
        direct = tuple(address for address in known if isinstance(address, PeerAddress))
        now = self._reactor.seconds()
        self._memory.remember(self._key, RememberedMember(peer_id, direct[:MAX_REMEMBERED], now))
