"""
A discovery channel in memory.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.interfaces import PeerId
from dtt.records.record import GossipContent
from dtt.records.topic import unix_minute


@implementer(IDiscoveryChannel)
class MemoryChannel:
    """
    An L{IDiscoveryChannel} for members in the same process.

    @ivar name: C{"memory"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    @ivar delay: seconds after which a call ends.
    """

    name = "memory"

    def __init__(
        self,
        reactor: IReactorTime,
        peer_id: PeerId,
        records: MutableMapping[PeerId, FoundRecord],
        delay: float = 0.0,
    ) -> None:
        """
        @param reactor: the clock.
        @param peer_id: the id of this member, 32 bytes.
        @param records: the records of all members, by publisher; shared by their
            channels.
        @param delay: seconds after which a call ends; 0: it ends at once.
        """
        self.on_record: RecordSink = lambda _: None
        self.delay = delay
        self._reactor = reactor
        self._peer_id = peer_id
        self._records = records

    def when_ready(self) -> Deferred[None]:
        """
        Return a Deferred that has fired.
        """
        return succeed(None)

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Find the records of all other members.

        @param source: ignored.
        @param search: ignored.
        @return: fires with the records after C{delay}.
        """
        return Deferred.fromCoroutine(self._find())

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Find the records of all other members.

        @param source: ignored.
        @return: as for L{find}.
        """
        return self.find(source)

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Replace our record.

        @param content: returns the content of the record.
        @param source: ignored.
        @param urgent: ignored.
        @return: fires with 1 after C{delay}.
        """
        return Deferred.fromCoroutine(self._publish(content))

    async def _find(self) -> list[FoundRecord]:
        await self._wait()
        found = [record for publisher, record in self._records.items() if publisher != self._peer_id]
        for record in found:
            self.on_record(record)
        return found

    async def _publish(self, source: ContentSource) -> int:
        await self._wait()
        content = source()
        minute = unix_minute(self._reactor.seconds())
        if isinstance(content, GossipContent):
            record = FoundRecord(
                self._peer_id, minute, content.active_peers, content.last_message_hashes, content.addresses
            )
        else:
            record = FoundRecord(self._peer_id, minute, content=content.encode())
        self._records[self._peer_id] = record
        return 1

    async def _wait(self) -> None:
        if self.delay:
            await deferLater(self._reactor, self.delay)
