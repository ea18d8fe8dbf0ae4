"""
The operator's settings for connections, and the reports of a transport to the operator.

Rules: every limit that is reached is counted each time, and reported once.  A member
that is refused is reported with its id, at a limited rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from dtt.events import Event, EventSink, LimitReached, PeerRefused
from dtt.interfaces import PeerId

#: Authenticated connections of one transport that serve their peers (docs/protocol/streams.md
#: section 1).
MAX_CONNECTIONS = 512

#: Bytes of a gossip message (docs/protocol/gossip.md section 1, max_message_size).
MAX_MESSAGE_SIZE = 4096

#: Refusals reported at once, and seconds for each further one.  Guess: strangers may cause any
#: number.
MAX_REPORTS, REPORT_INTERVAL = 10, 6.0


def _ignore(event: Event) -> None:
    """
    Report nothing.
    """


@frozen(slots=True)
class TransportSettings:
    """
    Settings that all transports have.

    @ivar max_connections: authenticated connections that may serve their peers.
    @ivar require_secret: whether a peer must prove that it knows the secret of a topic,
        on every transport.  Streams always requires that.
    @ivar max_message_size: the size in bytes of the largest gossip message that a peer may
        send (docs/protocol/gossip.md section 1).
    @ivar emit: called with the events of the transport.
    @ivar on_clock: called with the peer id of a member that has proved a topic, and what its
        clock shows now, in unix seconds.
    @ivar on_addresses_changed: called when a transport notices that its addresses have
        changed.
    """

    max_connections: int = MAX_CONNECTIONS
    require_secret: bool = False
    emit: EventSink = field(default=_ignore, repr=False)
    on_addresses_changed: Callable[[], None] = field(default=lambda: None, repr=False)
    max_message_size: int = MAX_MESSAGE_SIZE
    on_clock: Callable[[PeerId, float], object] = field(default=lambda peer, time: None, repr=False)


class Reports:
    """
    Counts and reports limits and refused peers.
    """

    def __init__(self, clock: IReactorTime, counters: Counter[str], emit: EventSink) -> None:
        """
        @param clock: limits the rate of reports.
        @param counters: the counters of the transport.
        @param emit: called with each event.
        """
        self._clock = clock
        self._counters = counters
        self._emit = emit
        self._said: set[str] = set()
        self._full_at = 0.0
        self._omitted = 0

    def limit(self, counter: str, what: str, maximum: int) -> None:
        """
        Count that something exceeded a limit, and report the first time.

        @param counter: the counter to increment.
        @param what: what is limited, in plural.
        @param maximum: the limit.
        """
        self._counters[counter] += 1
        if what not in self._said:
            self._said.add(what)
            self._emit(LimitReached(what, maximum))

    def refused(self, peer_id: PeerId, reason: str) -> None:
        """
        Report that we refused a peer, unless there were too many reports.

        @param peer_id: 32 bytes.
        @param reason: the reason, in a few words.
        """
        now = self._clock.seconds()
        if self._full_at - now > (MAX_REPORTS - 1) * REPORT_INTERVAL:
            self._omitted += 1
            return
        self._full_at = max(self._full_at, now) + REPORT_INTERVAL
        omitted, self._omitted = self._omitted, 0
        self._emit(PeerRefused(peer_id, reason, omitted))
