"""
Contents at full rate for several seconds: a member that falls behind loses nothing.
"""

from __future__ import annotations

import signal
import time
from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gossip_trio import Trio
from tests.interop.support import NO_INTEROP

#: Small contents give the highest rate. The count exceeds the number of ids that a member remembers,
#: and is five times what its neighbours keep for it.
COUNT, SIZE = 160_000, 100

#: How often one of them is stopped, and for how many seconds: much longer than the wait before a member
#: requests what others have announced.
PAUSES, PAUSE = 3, 0.3


class FullRateTests(SynchronousTestCase):
    """
    Three members, the third of which is stopped several times.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    def at_full_rate(self, transport: str) -> None:
        """Both receivers get all contents sent, although one gets them through the other for a while."""
        with Trio(transport) as trio:
            trio.spread(500, SIZE, "warm-up")
            speaker, *listeners = trio.members
            trio.begin(COUNT, SIZE, "many", quiet=20.0)
            for _ in range(PAUSES):
                time.sleep(PAUSE)
                listeners[1].signal(signal.SIGSTOP)
                time.sleep(PAUSE)
                listeners[1].signal(signal.SIGCONT)
            speaker.answer()
            self.assertEqual([listener.answer()["received"] for listener in listeners], [COUNT, COUNT])

    def test_streams(self) -> None:
        """No content is lost over streams."""
        self.at_full_rate("streams")

    def test_iroh(self) -> None:
        """No content is lost over iroh."""
        self.at_full_rate("iroh")

    if find_spec("iroh") is None:
        test_iroh.skip = "the extra is not installed (pip install 'distributed-topic-tracker[iroh]')"  # type: ignore[attr-defined]
