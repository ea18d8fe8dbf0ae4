"""
A member that is stopped (SIGSTOP) while others talk costs them a bounded amount of memory
and time.
"""

from __future__ import annotations

import signal
import time
from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gossip_trio import Trio
from tests.interop.support import NO_INTEROP

#: The number of contents and their size in bytes: 120 MB for each neighbour, if they were kept.
COUNT, SIZE = 30_000, 4000

#: The memory in bytes that a sender may gain: contents kept for Grafts, known ids, unsent data, and
#: what Python's allocator does not return.
MEMORY = 80 * 2**20

#: The limit in seconds: a stopped member is disconnected after 10, during which the sender waits at
#: most 5 for each broadcast; the rest is the broadcasts themselves.
TIME = 60.0


class StoppedMemberTests(SynchronousTestCase):
    """
    Three members, the third of which is stopped.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    def stop_one(self, transport: str) -> None:
        """The other two continue, nothing is lost between them, and the third one returns."""
        with Trio(transport) as trio:
            speaker, listener, stopped = trio.members
            trio.spread(500, SIZE, "warm-up")
            before = speaker.resident()
            stopped.signal(signal.SIGSTOP)
            started, largest = time.monotonic(), before
            try:
                speaker.send_command(send=COUNT, size=SIZE, label="stopped")
                listener.send_command(receive=COUNT, label="stopped", quiet=30.0)
                while not speaker.has_answer():
                    largest = max(largest, speaker.resident())
                    self.assertLess(time.monotonic() - started, TIME)
                speaker.answer()
                self.assertEqual(listener.answer()["received"], COUNT)
            finally:
                stopped.signal(signal.SIGCONT)
            self.assertLess(largest - before, MEMORY)
            time.sleep(5.0)  # let it notice that its connections have ended
            stopped.join([speaker, listener])
            self.assertEqual(trio.spread(500, SIZE, "again").lost, 0)

    def test_streams(self) -> None:
        """A stopped member costs a bounded amount over streams."""
        self.stop_one("streams")

    def test_iroh(self) -> None:
        """A stopped member costs a bounded amount over iroh."""
        self.stop_one("iroh")

    if find_spec("iroh") is None:
        test_iroh.skip = "the extra is not installed (pip install 'distributed-topic-tracker[iroh]')"  # type: ignore[attr-defined]
