"""
Tests for L{dtt.testing.net.machine_time}.
"""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.testing.net.machine_time import MachineTime


class MachineTimeTests(SynchronousTestCase):
    """
    Tests for L{MachineTime}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.time = MachineTime(self.clock)
        self.done: list[str] = []

    def later(self, delay: float, name: str) -> IDelayedCall:
        """
        Schedule a call that is noted.
        """
        return self.time.callLater(delay, self.done.append, name)

    def test_awake(self) -> None:
        """
        Calls run when they are due, as on any clock.
        """
        call = self.later(2, "a")
        self.assertTrue(verifyObject(IDelayedCall, call))
        self.assertEqual((call.getTime(), call.active()), (2.0, 1))
        self.later(1, "b")
        self.clock.pump([1, 1])
        self.assertEqual(self.done, ["b", "a"])
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCalled, call.cancel)

    def test_skew(self) -> None:
        """
        A wrong clock shows another time, but does not change how long timers take.
        """
        self.time.skew = 100.0
        call = self.later(2, "a")
        self.assertEqual((self.time.seconds(), call.getTime()), (100.0, 102.0))
        self.clock.advance(1.9)
        self.assertEqual((self.time.seconds(), self.done), (101.9, []))
        self.clock.advance(0.1)
        self.assertEqual(self.done, ["a"])

    def sleep(self) -> None:
        """
        Let calls fall due while the machine sleeps.
        """
        self.calls = [self.later(delay, name) for delay, name in ((2, "b"), (1, "a"), (9, "c"))]
        self.time.asleep = True
        self.clock.pump([1] * 5)
        self.assertEqual(self.done, [])
        self.assertEqual([bool(call.active()) for call in self.calls], [True] * 3)

    def test_asleep(self) -> None:
        """
        What falls due during sleep runs when the machine wakes, in order; the rest in its time.
        """
        self.sleep()
        self.time.wake()
        self.assertEqual(self.done, ["a", "b"])
        self.assertEqual([bool(call.active()) for call in self.calls], [False, False, True])
        self.time.wake()
        self.clock.advance(4)
        self.assertEqual(self.done, ["a", "b", "c"])

    def test_changed_while_overdue(self) -> None:
        """
        A call that has fallen due during sleep can be cancelled, delayed or reset: then it runs later, once.
        """
        self.sleep()
        self.calls[0].cancel()
        self.assertFalse(self.calls[0].active())
        self.assertRaises(AlreadyCalled, self.calls[0].cancel)
        self.calls[1].reset(10)
        self.time.wake()
        self.assertEqual(self.done, [])
        self.clock.advance(4)
        self.assertEqual(self.done, ["c"])
        self.calls[1].delay(2)
        self.clock.advance(6)
        self.assertEqual(self.done, ["c"])
        self.clock.advance(2)
        self.assertEqual(self.done, ["c", "a"])
        self.sleep_again()

    def sleep_again(self) -> None:
        """
        The same with a delay.
        """
        call = self.later(1, "d")
        self.time.asleep = True
        self.clock.advance(1)
        call.delay(3)
        self.time.wake()
        self.clock.advance(2)
        self.assertNotIn("d", self.done)
        self.clock.advance(1)
        self.assertEqual(self.done[-1], "d")

    def test_cancelled(self) -> None:
        """
        A call can be cancelled once.
        """
        call = self.later(1, "a")
        call.cancel()
        self.assertRaises(AlreadyCancelled, call.cancel)
        self.clock.advance(1)
        self.assertEqual(self.done, [])

    def test_asleep_again(self) -> None:
        """
        If one of the calls lets the machine sleep again, or stops it, the others wait.
        """
        self.time.callLater(1, setattr, self.time, "asleep", True)
        self.later(2, "a")
        self.time.asleep = True
        self.clock.pump([1, 1])
        self.time.wake()
        self.assertEqual(self.done, [])
        self.time.wake()
        self.assertEqual(self.done, ["a"])

    def test_cancelled_by_another(self) -> None:
        """
        A call that fell due during sleep, too, can cancel the next one.
        """
        calls: list[IDelayedCall] = []
        self.time.callLater(1, lambda: calls[0].cancel())
        calls.append(self.later(2, "a"))
        self.time.asleep = True
        self.clock.pump([1, 1])
        self.time.wake()
        self.assertEqual(self.done, [])

    def test_stopped(self) -> None:
        """
        On a machine that has stopped nothing runs, not even what fell due before; calls can be cancelled.
        """
        call = self.later(5, "a")
        self.later(1, "b")
        self.time.asleep = True
        self.clock.advance(1)
        self.time.stopped = True
        self.clock.advance(10)
        self.time.wake()
        self.assertEqual(self.done, [])
        call.cancel()
        self.assertFalse(call.active())
