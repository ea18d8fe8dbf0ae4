"""
Tests for L{dtt.transport.iroh.loops}.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import RemoteError
from dtt.testing.iroh.streams import Changes, IrohError
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.transport.share import PORTION, UNITS, Share


class LoopsTests(SynchronousTestCase):
    """
    Tests for L{Loops}.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.calls = Calls(self.clock, IrohError)
        self.share = Share(self.clock)
        self.loops = Loops(self.clock, self.calls, self.share)
        self.failures: list[Failure] = []
        self.done: list[object] = []

    def run_loop(self, loop: Coroutine[Any, Any, None]) -> Deferred[None]:
        """
        Start a coroutine.
        """
        return self.loops.run(loop, self.failures.append)

    async def note(self, what: Deferred[object]) -> None:
        """
        Wait, and note the result.
        """
        self.done.append(await self.loops.wait(what))

    def test_wait(self) -> None:
        """
        A coroutine gets the result of what it waits for, be it there already or not.
        """
        later: Deferred[object] = Deferred()
        ends = [self.run_loop(self.note(succeed("now"))), self.run_loop(self.note(later))]
        self.assertEqual(self.done, ["now"])
        later.callback("later")
        self.assertEqual(self.done, ["now", "later"])
        self.assertEqual([self.successResultOf(end) for end in ends], [None, None])

    def test_call(self) -> None:
        """
        A call of the bindings gives its result, or fails with their error.
        """
        changes = Changes()

        async def wait() -> str:
            await changes.wait()
            return "result"

        async def fail() -> None:
            raise IrohError("STREAM", "reset")

        async def loop() -> None:
            self.done.append(await self.loops.call(wait()))
            await self.loops.call(fail())

        end = self.run_loop(loop())
        changes.notify()
        advance(self.clock, 0.1)
        self.assertEqual(self.done, ["result"])
        self.successResultOf(end)
        self.assertEqual([failure.type for failure in self.failures], [IrohFailure])

    def test_failures(self) -> None:
        """
        An error is passed on, whatever it is; the result fires all the same.
        """
        for error in (RemoteError("bad"), ZeroDivisionError()):
            what: Deferred[object] = Deferred()
            end = self.run_loop(self.note(what))
            what.errback(error)
            self.successResultOf(end)
            self.assertIs(self.failures.pop().value, error)

    def test_stop(self) -> None:
        """
        Stopping cancels what each coroutine waits for, and is no failure.
        """
        cancelled: list[object] = []
        waiting: list[Deferred[object]] = [Deferred(cancelled.append) for _ in range(3)]
        ends = [self.run_loop(self.note(what)) for what in waiting]
        self.loops.stop()
        self.assertEqual(cancelled, waiting)
        self.assertEqual([self.successResultOf(end) for end in ends], [None] * 3)
        self.assertEqual((self.done, self.failures), ([], []))
        self.assertTrue(self.loops.stopped)

    def test_stopped_within_a_coroutine(self) -> None:
        """
        The coroutine that stops all ends at its next wait; what that would wait for is cancelled, and its
        failure is nobody's.
        """
        cancelled: list[object] = []
        waited: list[Deferred[object]] = [Deferred(cancelled.append), succeed(1)]

        async def loop() -> None:
            self.loops.stop()
            self.done.append("still running")
            await self.loops.wait(waited.pop(0))
            self.done.append("never")

        for _ in range(2):
            self.successResultOf(self.run_loop(loop()))
        self.assertEqual(self.done, ["still running"] * 2)
        self.assertEqual((len(cancelled), self.failures), (1, []))

    def test_result_in_spite_of_stop(self) -> None:
        """
        A result that arrives although it was cancelled does not continue a coroutine that was stopped.
        """
        what: Deferred[object] = Deferred(lambda deferred: deferred.callback("too late"))
        end = self.run_loop(self.note(what))
        self.loops.stop()
        self.successResultOf(end)
        self.assertEqual((self.done, self.failures), ([], []))

    def test_cancelled_otherwise(self) -> None:
        """
        Who cancels what a coroutine waits for ends that coroutine without a complaint.
        """
        what: Deferred[object] = Deferred()
        other: Deferred[object] = Deferred()
        end, going_on = self.run_loop(self.note(what)), self.run_loop(self.note(other))
        what.cancel()
        self.successResultOf(end)
        self.assertNoResult(going_on)
        other.callback(1)
        self.assertEqual((self.done, self.failures), ([1], []))


class WorkTests(SynchronousTestCase):
    """
    Tests for L{Loops.take_work}, with two connections that share the turns.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.share = Share(self.clock)
        calls = Calls(ThreadClock(), IrohError)
        self.one, self.other = (Loops(self.clock, calls, self.share) for _ in range(2))
        self.taken: list[tuple[str, int]] = []

    async def work(self, loops: Loops, name: str, units: int) -> None:
        """
        Do so much work.
        """
        while units > 0:
            taken = await loops.take_work()
            self.taken.append((name, taken))
            units -= taken
            loops.work_done()

    def turn(self) -> int:
        """
        Run the next turn of the reactor, and return how much was done in it.
        """
        before = sum(units for _, units in self.taken)
        (call,) = self.clock.calls
        self.clock.calls.clear()
        call.func()
        return sum(units for _, units in self.taken) - before

    def test_alone(self) -> None:
        """
        A connection that is alone has a whole turn, and waits for the next one.
        """
        end = self.one.run(self.work(self.one, "a", UNITS + PORTION), self.fail)
        self.assertEqual(self.taken, [("a", PORTION)] * (UNITS // PORTION))
        self.assertNoResult(end)
        self.assertEqual(self.turn(), PORTION)
        self.successResultOf(end)

    def test_shared(self) -> None:
        """
        Coroutines of two connections take turns; together they have what one would have.
        """
        for loops, name in ((self.one, "a"), (self.one, "b"), (self.other, "c")):
            loops.run(self.work(loops, name, 2 * UNITS), self.fail)
        self.taken.clear()
        for _ in range(3):
            self.assertLessEqual(self.turn(), UNITS)
        done = {name: sum(units for who, units in self.taken if who == name) for name in "abc"}
        self.assertTrue(all(done.values()), done)

    def test_several_of_one(self) -> None:
        """
        Several coroutines of one connection wait for their turns, also behind another connection.
        """
        self.assertEqual(sum(self.share.take(PORTION) for _ in range(UNITS // PORTION)), UNITS)
        ends = [
            loops.run(self.work(loops, name, 1), self.fail)
            for loops, name in ((self.one, "a"), (self.one, "b"), (self.other, "c"))
        ]
        self.clock.pump([0, 0])
        self.assertEqual([self.successResultOf(end) for end in ends], [None] * 3)

    def test_stopped_while_queued(self) -> None:
        """
        A coroutine that was stopped while it was queued takes nothing, and the others get their turn.
        """
        self.assertEqual(sum(self.share.take(PORTION) for _ in range(UNITS // PORTION)), UNITS)
        stopped = self.one.run(self.work(self.one, "a", 1), self.fail)
        going_on = self.other.run(self.work(self.other, "b", 1), self.fail)
        self.one.stop()
        self.successResultOf(stopped)
        self.turn()
        self.successResultOf(going_on)
        self.assertEqual({name for name, _ in self.taken}, {"b"})

    def test_unused(self) -> None:
        """
        Units that were not needed are there for others in the same turn.
        """

        async def idle() -> None:
            for _ in range(2 * UNITS // PORTION):
                taken = await self.one.take_work()
                self.one.work_done(taken)

        self.successResultOf(self.one.run(idle(), self.fail))
        self.assertEqual(self.clock.calls, [])

    def test_wanted(self) -> None:
        """
        Less than a portion can be taken.
        """

        async def one() -> None:
            self.taken.append(("a", await self.one.take_work(1)))

        self.one.run(one(), self.fail)
        self.assertEqual(self.taken, [("a", 1)])


class CancelTests(SynchronousTestCase):
    """
    What is not the business of L{Loops}.
    """

    def test_wait_outside(self) -> None:
        """
        Waiting after the stop fails with the error of a cancelled Deferred.
        """
        clock = ThreadClock()
        loops = Loops(clock, Calls(clock, IrohError), Share(clock))
        loops.stop()
        self.failureResultOf(Deferred.fromCoroutine(loops.wait(succeed(None))), CancelledError)
