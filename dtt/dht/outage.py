"""
Notices that no node answers any more, and that known ones answer again: our network was gone, and is back.

Rules (docs/protocol/dht.md section 7): during an outage, a probe goes out every few seconds.  Without it, the
return of the network would be noticed up to a minute late: searches for nodes have slowed down by then, and
the addresses of the machine may be the same as before.  Only a node that has answered before ends an outage:
hosts that name only nodes that do not exist would otherwise cause one search after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: Seconds between two probes (guess: a third of a datagram per second, and time for two lost ones if members
#: are to be joined within 10 s).
PROBE_INTERVAL: Final = 3.0

#: Consecutive timeouts, and seconds since the first of their queries was sent, after which an outage is
#: assumed (guesses: not the dead nodes of one lookup; the connections of members survive shorter outages).
MIN_TIMEOUTS: Final = 4
MIN_SILENCE: Final = 8.0

#: Seconds after a response from an unknown node during which a known one must answer (guess: three probes).
KNOWN_WITHIN: Final = 10.0


class OutageWatch:
    """
    Watches whether nodes of one address family answer.

    @ivar timeouts: the number of timeouts since the last response, of queries that were sent after it.
    @ivar silent: whether there is an outage.
    @ivar ever_heard: whether there has been any response.
    """

    def __init__(
        self, clock: IReactorTime, probe: Callable[[], object], returned: Callable[[], object]
    ) -> None:
        """
        @param clock: schedules the probes.
        @param probe: sends a query to a node that has answered before.
        @param returned: called in a separate turn when an outage is over.
        """
        self.timeouts = 0
        self.silent = self.ever_heard = False
        self._clock = clock
        self._returned = returned
        self._heard_at = clock.seconds()
        self._probe = probe
        # When the first of the queries was sent that have timed out since the last response; when the
        # outage began.
        self._unanswered = self._began = 0.0
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def begin(self) -> None:
        """
        Begin again: the node has started, or its network is another one.
        """
        self.stop()
        self._heard_at = self._clock.seconds()

    def stop(self) -> None:
        """
        Stop probing.
        """
        self.timeouts = 0
        self.silent = False
        if self._loop.running:
            self._loop.stop()

    def heard(self, is_known: bool) -> None:
        """
        Handle a response.

        @param is_known: whether its sender has answered before; has a meaning only while L{silent}.
        """
        self.ever_heard = True
        self.timeouts = 0
        self._heard_at = self._clock.seconds()
        if self.silent and is_known:
            self.stop()
            self._returned()

    def timed_out(self, sent_at: float) -> bool:
        """
        Handle the timeout of a query.

        @param sent_at: when it was sent.
        @return: whether it counts: nothing has answered since then.
        """
        if sent_at < self._heard_at:
            return False
        self._unanswered = min(self._unanswered, sent_at) if self.timeouts else sent_at
        self.timeouts += 1
        now = self._clock.seconds()
        if not self.silent and self.timeouts >= MIN_TIMEOUTS and now - self._unanswered >= MIN_SILENCE:
            self.silent = True
            self._began = now
            self._loop.start(PROBE_INTERVAL, now=False)
        return True

    def _tick(self) -> None:
        if self._heard_at >= self._began and self._clock.seconds() - self._heard_at >= KNOWN_WITHIN:
            self.stop()
        else:
            self._probe()
