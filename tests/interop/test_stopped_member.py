"""
A member that is stopped (SIGSTOP) while others talk: it costs them a bounded
amount of memory and time.
"""

from __future__ import annotations

import signal
import time
from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gossip_trio import Trio
from tests.interop.support import NO_INTEROP

#: Contents and their bytes: 120 MB for each neighbour, were they kept.
COUNT, SIZE = 30_000, 4000

#: Bytes by which a speaker may grow: contents kept for Grafts, known ids, what is
#: unsent, and what Python's allocator does not give back.
MEMORY = 80 * 2**20

#: Seconds: a stopped member is cut off after 10, of which the speaker waits for
#: each broadcast 5 at most; the rest is the broadcasts themselves.
TIME = 60.0


class StoppedMemberTests(SynchronousTestCase):
    """
    Three members, of which the third one is stopped.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    def stop_one(self, transport: str) -> None:
        """The other two go on, nothing is lost between them, and the third one comes back."""
        with Trio(transport) as trio:
            speaker, listener, stopped = trio.members
            trio.spread(500, SIZE, "warm-up")
            before = speaker.resident()
            stopped.signal(signal.SIGSTOP)
            started, largest = time.monotonic(), before
            try:
                speaker.tell(send=COUNT, size=SIZE, label="stopped")
                listener.tell(receive=COUNT, label="stopped", quiet=30.0)
                while not speaker.has_answer():
                    largest = max(largest, speaker.resident())
                    self.assertLess(time.monotonic() - started, TIME)
                speaker.answer()
                self.assertEqual(listener.answer()["received"], COUNT)
            finally:
                stopped.signal(signal.SIGCONT)
            self.assertLess(largest - before, MEMORY)
            time.sleep(2.0)  # it has to see that its connections have ended
            stopped.join([speaker, listener])
            self.assertEqual(trio.spread(500, SIZE, "again").lost, 0)

    def test_streams(self) -> None:
        """Over streams."""
        self.stop_one("streams")

    def test_iroh(self) -> None:
        """Over iroh."""
        self.stop_one("iroh")

    if find_spec("iroh") is None:
        test_iroh.skip = "the extra is not installed (pip install 'distributed-topic-tracker[iroh]')"  # type: ignore[attr-defined]
