"""
All discovery channels of a topic.

Rules: every call uses all channels concurrently.  A record is reported when it
arrives, whichever channel finds it, and without waiting for the others.  A channel that can't be used yet is
skipped, so it does not delay the others.  An unexpected error in one channel is logged, and does not affect
the others.  Each record names the channel that found it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import Waiters, gather_until
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.errors import LocalError, UsageError

T = TypeVar("T")

#: The channels whose records all members of a swarm write to the same place.
SLOTS: Final = ("record_slot", "sealed_slot")


class Channels:
    """
    The channels of a topic.

    @ivar on_record: an attribute to set: called with each record of another member
        as soon as it arrives by any channel, possibly more than once.
    @ivar on_slot_record: an attribute to set: the same, for what was read from slots.
    @ivar on_published: an attribute to set: called with the name of a channel when our record was stored
        there.
    @ivar on_found: an attribute to set: the same, called before these.
    """

    _log = Logger()

    def __init__(self, channels: Sequence[IDiscoveryChannel]) -> None:
        """
        @param channels: the channels, whose C{on_record} is set.
        """
        self.on_record: RecordSink = lambda _: None
        self.on_slot_record: RecordSink = lambda _: None
        self.on_published: Callable[[str], object] = lambda channel: None
        self.on_found: RecordSink = lambda _: None
        self._channels = tuple(channels)
        self._sinks: list[RecordSink] = []
        self._unready: dict[IDiscoveryChannel, None] = {}
        self._waiting: list[Deferred[None]] = []
        self._more_ready: Waiters[None] = Waiters()
        for channel in self._channels:
            channel.on_record = partial(self._found, channel)

    @property
    def ready(self) -> int:
        """
        The number of usable channels.
        """
        return len(self._channels) - len(self._unready)

    @property
    def unready(self) -> int:
        """
        The number of channels that can't be used yet.
        """
        return len(self._unready)

    def when_ready(self) -> Deferred[None]:
        """
        Wait until at least one channel can be used.  From then on, until
        L{stop_waiting}, those that can't be used yet are skipped.

        @return: fires then; can be cancelled.
        """
        self.stop_waiting()
        self._unready = dict.fromkeys(self._channels)
        ready = self._more_ready.wait()
        ready.addErrback(self._stopped_waiting)
        for channel in self._channels:
            waiting = channel.when_ready()
            self._waiting.append(waiting)
            waiting.addCallbacks(
                lambda _, channel=channel: self._became_ready(channel),
                lambda failure, channel=channel: self._never_ready(failure, channel),
            )
        return ready

    def when_more_ready(self) -> Deferred[None]:
        """
        Wait until another channel can be used.

        @return: fires then, or never; can be cancelled.
        """
        return self._more_ready.wait()

    def stop_waiting(self) -> None:
        """
        Stop skipping channels that can't be used yet.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.cancel()
        self._unready = {}

    def _found(self, channel: IDiscoveryChannel, record: FoundRecord) -> None:
        record = _of(channel, record)
        self.on_found(record)
        if channel.name in SLOTS:
            self.on_slot_record(record)
        self.on_record(record)
        for sink in tuple(self._sinks):
            sink(record)

    def _stored(self, copies: int, channel: IDiscoveryChannel) -> int:
        if copies:
            self.on_published(channel.name)
        return copies

    def _stopped_waiting(self, failure: Failure) -> Failure:
        self.stop_waiting()
        return failure

    def _became_ready(self, channel: IDiscoveryChannel) -> None:
        self._unready.pop(channel, None)
        self._more_ready.fire(None)

    def _never_ready(self, failure: Failure, channel: IDiscoveryChannel) -> None:
        if failure.trap(CancelledError, LocalError) is LocalError:
            # The application has stopped its DHT node, and may start it again: try, and fail until then.
            self._became_ready(channel)

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Search for members once, on all channels.

        @param source: the service that searches.
        @param search: the state of the search; C{None}: we have neighbours.
        @return: fires with all records found, in the order of the channels, when all
            of them have ended.  Can be cancelled.
        """
        return self._search(lambda channel: channel.find(source, search))

    def watch(self, source: str, on_record: RecordSink | None = None) -> Deferred[list[FoundRecord]]:
        """
        Look for newcomers on all channels, at little cost.

        @param source: the service that watches.
        @param on_record: called with each record that arrives by any channel before the end, which nodes that
            are silent delay.
        @return: as for L{find}.
        """
        looking = self._search(lambda channel: channel.watch(source))
        if on_record is not None and not looking.called:
            self._sinks.append(on_record)
            looking.addBoth(partial(self._forget_sink, on_record))
        return looking

    def _forget_sink(self, sink: RecordSink, result: T) -> T:
        self._sinks.remove(sink)
        return result

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Publish our record on all channels.

        @param content: returns the content of our record.
        @param source: the service that publishes.
        @param urgent: whether we have no neighbour.
        @return: fires with the number of places that are known to store one of our records, when all channels
            have ended.  Can be cancelled.
        """
        return self._ask(
            lambda channel: channel.publish(content, source, urgent).addCallback(self._stored, channel), 0
        ).addCallback(sum)

    def _search(
        self, question: Callable[[IDiscoveryChannel], Deferred[list[FoundRecord]]]
    ) -> Deferred[list[FoundRecord]]:
        def search(channel: IDiscoveryChannel) -> Deferred[list[FoundRecord]]:
            return question(channel).addCallback(lambda found: [_of(channel, record) for record in found])

        nothing: list[FoundRecord] = []
        return self._ask(search, nothing).addCallback(
            lambda results: [record for found in results for record in found]
        )

    def _ask(self, question: Callable[[IDiscoveryChannel], Deferred[T]], default: T) -> Deferred[list[T]]:
        async def ask(channel: IDiscoveryChannel) -> T:
            try:
                return await question(channel)
            except CancelledError:
                raise
            except Exception as error:
                if isinstance(error, LocalError) and not isinstance(error, UsageError):
                    # For example, the application has stopped its DHT node.
                    self._log.warn(
                        "Discovery channel {name} failed: {reason}", name=channel.name, reason=error
                    )
                else:
                    self._log.failure(
                        "Discovery channel {name} failed with an unexpected error (a bug)", name=channel.name
                    )
                return default

        asked = [channel for channel in self._channels if channel not in self._unready]
        return gather_until([Deferred.fromCoroutine(ask(channel)) for channel in asked])


def _of(channel: IDiscoveryChannel, record: FoundRecord) -> FoundRecord:
    """
    Return C{record} with the name of the channel that has found it.
    """
    return evolve(record, channel=channel.name)
