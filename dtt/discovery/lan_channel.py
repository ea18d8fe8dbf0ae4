"""
The discovery channel of the local network.

Rules (docs/protocol/local-network.md section 3): each host that answers the search is queried directly
whether it is a member of the topic (docs/protocol/sealed.md section 4).  It may be dialled at the address at
which it has answered, even if that is private.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dtt.deferreds import Waiters, gather_until
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.direct import DirectQuestion
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.discovery.lan import LocalSearch
from dtt.discovery.shared import SharedServices
from dtt.net.host_port import HostPort
from dtt.wire.addresses import QUIC, PeerAddress

#: Hosts that are asked in a round of a search, and rounds after which they are asked again (guesses: a
#: home has a few, and a round takes two seconds or more).
MAX_ASKED: Final = 16
ROUNDS: Final = 8

#: The most questions at a time (guess).
MAX_ASKING: Final = 32


@implementer(IDiscoveryChannel)
class LocalNetworkChannel:
    """
    Finds members in the local network.

    @ivar name: C{"local_network"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    """

    name = "local_network"

    def __init__(self, shared: SharedServices, search: LocalSearch, direct: DirectQuestion) -> None:
        """
        @param shared: the services of the tracker.
        @param search: finds hosts.
        @param direct: asks them.
        """
        self.on_record: RecordSink = lambda _: None
        self._book = shared.book
        self._search = search
        self._direct = direct
        self._ready: Waiters[None] = Waiters()
        self._asking: dict[HostPort, Deferred[list[FoundRecord]]] = {}
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """
        Query each host that is found.
        """
        self._end = self._search.add_observer(self._host_found)

    def stop(self) -> None:
        """
        Stop querying hosts.
        """
        self._end()
        for asking in tuple(self._asking.values()):
            asking.cancel()

    def when_ready(self) -> Deferred[None]:
        """
        Wait until a host has answered.

        @return: fires then; can be cancelled.
        """
        return succeed(None) if self._search.hosts() else self._ready.wait()

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Query the hosts that have answered, in some rounds of a search.

        @param source: ignored.
        @param search: the state of the search; C{None}: no host is queried.
        @return: fires with their records.  Can be cancelled.
        """
        if search is None or search.rounds % ROUNDS:
            return succeed([])
        asked = [self._ask(host) for host in self._search.hosts()[:MAX_ASKED]]
        return gather_until(asked).addCallback(lambda found: [each for records in found for each in records])

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Find nobody: hosts are queried when they answer.

        @param source: ignored.
        """
        return succeed([])

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Do nothing: members that query us get our record.

        @param content: ignored.
        @param source: ignored.
        @param urgent: ignored.
        @return: fires with 0.
        """
        return succeed(0)

    def _host_found(self, host: HostPort) -> None:
        self._ready.fire(None)
        if host not in self._asking and len(self._asking) < MAX_ASKING:
            asking = self._asking[host] = self._ask(host)

            def over(_: object) -> None:
                if self._asking.get(host) is asking:
                    del self._asking[host]

            asking.addErrback(lambda _: None).addBoth(over)
            if asking.called:
                self._asking.pop(host, None)

    def _ask(self, host: HostPort) -> Deferred[list[FoundRecord]]:
        return self._direct.ask_directly(host).addCallback(self._found, host)

    def _found(self, records: list[FoundRecord], host: HostPort) -> list[FoundRecord]:
        for record in records:
            # Its record may name no address that we may dial; QUIC is on the DHT's socket.
            here = tuple(each for each in record.addresses if each.host == host[0])
            self._book.learn(record.publisher, (*here, PeerAddress(QUIC, *host)), "local network")
            self.on_record(record)
        return records
