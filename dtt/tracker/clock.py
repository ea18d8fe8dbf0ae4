"""
Reports whether our clock differs from the clocks of the other members.

Rules (docs/protocol/clock.md): a difference of 30 s or more is reported when it is noticed, when it has
changed by a minute, and then once an hour.  It is also reported if only half of the other clocks differ, and
if only one other clock is known for a while, although it is uncertain which are right.  Slots are also read,
and our record is written, for the time that most members have.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.discovery.skew import SkewEstimate
from dtt.events import ClockSkewed, EventSink
from dtt.interfaces import PeerId

#: Seconds between two reports of the same difference, and the change of the difference that is reported at
#: once (guesses).
INTERVAL: Final = 3600.0
CHANGE: Final = 60.0

#: The difference to the only known clock of another member is reported after so many seconds (guess: a member
#: that joins a swarm usually hears others sooner).
ONE_AFTER: Final = 20.0


class ClockWatch:
    """
    Our clock, compared with those of others.

    @ivar estimate: the samples.
    """

    def __init__(self, clock: IReactorTime, emit: EventSink) -> None:
        """
        @param clock: our clock.
        @param emit: called with L{ClockSkewed<dtt.events.ClockSkewed>}.
        """
        self.estimate = SkewEstimate()
        self._clock = clock
        self._emit = emit
        self._since: float | None = None
        self._reported: tuple[float, float] | None = None
        self._later: IDelayedCall | None = None

    def ahead(self) -> float:
        """
        Return the number of seconds by which the clocks of most members are ahead of ours; 0 for a small
        difference.
        """
        return self.estimate.ahead(self._clock.seconds())

    def heard(self, peer: PeerId, time: float) -> None:
        """
        Learn the clock of a member.

        @param peer: its peer id.
        @param time: its time now, in unix seconds.
        """
        now = self._clock.seconds()
        self.estimate.add(peer, time - now, now)
        self._report(now, self.estimate.ahead(now) or self.estimate.dissent(now))
        cancel_if_active(self._later)
        self._later = self._clock.callLater(ONE_AFTER, self._report_one) if self.estimate.only(now) else None

    def clear(self) -> None:
        """
        Forget all samples: our clock may have been set.
        """
        self.estimate.clear()
        self._since = self._reported = None
        self.stop()

    def stop(self) -> None:
        """
        Report nothing more until another clock is heard.
        """
        cancel_if_active(self._later)
        self._later = None

    def _report_one(self) -> None:
        now = self._clock.seconds()
        self._report(now, self.estimate.only(now))

    def _report(self, now: float, ahead: float) -> None:
        if not ahead:
            self._since = self._reported = None
            return
        if self._since is None:
            self._since = now
        if self._reported is not None:
            said, at = self._reported
            if abs(said - ahead) < CHANGE and now - at < INTERVAL:
                return
        self._reported = ahead, now
        agreeing = self.estimate.agreeing(ahead, now)
        self._emit(ClockSkewed(round(-ahead), agreeing, round(now - self._since)))
