"""
Samples of the traffic of a tracker, for its status.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from dtt.tracker.status import TrafficSample

#: Seconds between two samples, and how many are kept: an hour (guesses: a page shows one in four
#: pixels; a sample costs the sum of some fifty counters).
INTERVAL: Final = 15.0
MAX_SAMPLES: Final = 240

#: Samples over which rates are averaged: a minute.
RATE_SAMPLES: Final = 4

#: The counters that count datagrams sent and received, by their beginnings after the family
#: (L{dtt.dht.statistics}).
_SENT: Final = ("sent_", "answered")
_RECEIVED: Final = ("received_", "responses", "errors_", "dropped_")


@frozen(slots=True)
class Totals:
    """
    What has been sent and received since the start.

    @ivar sent: datagrams sent by the DHT node.
    @ivar received: datagrams that it received.
    @ivar messages_sent: messages broadcast, in all topics.
    @ivar messages_received: messages received, in all topics.
    """

    sent: int = 0
    received: int = 0
    messages_sent: int = 0
    messages_received: int = 0


def datagrams(counters: Mapping[str, float]) -> tuple[int, int]:
    """
    Return how many datagrams a DHT node has sent and received.

    @param counters: see L{statistics<dtt.dht.statistics.statistics>}.
    """
    sent = received = 0
    for name, count in counters.items():
        family, _, rest = name.partition("_")
        if family not in ("ipv4", "ipv6"):
            continue
        if rest.startswith(_SENT):
            sent += int(count)
        elif rest.startswith(_RECEIVED):
            received += int(count)
    return sent, received


class Traffic(Service):
    """
    Takes a sample at regular intervals.
    """

    def __init__(self, clock: IReactorTime, totals: Callable[[], Totals]) -> None:
        """
        @param clock: the time.
        @param totals: returns what has been sent and received.
        """
        self._clock = clock
        self._totals = totals
        self._last = Totals()
        self._samples: deque[TrafficSample] = deque(maxlen=MAX_SAMPLES)
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = clock

    def startService(self) -> None:
        """
        Begin.
        """
        super().startService()
        self._last = self._totals()
        self._sampling.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """
        End.
        """
        super().stopService()
        if self._sampling.running:
            self._sampling.stop()

    def samples(self) -> tuple[TrafficSample, ...]:
        """
        Return the samples, the latest last.
        """
        return tuple(self._samples)

    def rates(self) -> tuple[float, float]:
        """
        Return the datagrams per second sent and received in the last minute.
        """
        last = list(self._samples)[-RATE_SAMPLES:]
        seconds = INTERVAL * len(last) or 1.0
        return sum(each.sent for each in last) / seconds, sum(each.received for each in last) / seconds

    def _sample(self) -> None:
        last, self._last = self._last, self._totals()
        self._samples.append(
            TrafficSample(
                time=self._clock.seconds(),
                sent=self._last.sent - last.sent,
                received=self._last.received - last.received,
                # A topic that is left takes its counts with it.
                messages_sent=max(0, self._last.messages_sent - last.messages_sent),
                messages_received=max(0, self._last.messages_received - last.messages_received),
            )
        )
