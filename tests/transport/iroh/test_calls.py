"""
Tests for L{dtt.transport.iroh.calls}.
"""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.iroh.streams import IrohError
from dtt.testing.net.clock import ThreadClock
from dtt.transport.iroh import calls as iroh_calls
from dtt.transport.iroh.calls import Calls, IrohFailure


class Library:
    """
    Waits like the bindings, until the test lets it continue.

    @ivar running: coroutines that have started and not ended.
    """

    def __init__(self) -> None:
        self.running = 0
        self._waiting: list[tuple[Any, Any]] = []

    async def wait(self, times: int = 1) -> str:
        """
        Wait C{times} times.
        """
        self.running += 1
        try:
            for _ in range(times):
                loop: Any = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiting.append((loop, future))
                await future
            return "done"
        finally:
            self.running -= 1

    async def ready(self) -> str:
        """
        Report the result synchronously.
        """
        loop: Any = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon_threadsafe(self._set, future)
        await future
        return "ready"

    async def fail(self, error: Exception) -> None:
        """
        Wait, then raise.
        """
        await self.wait()
        raise error

    def go_on(self) -> None:
        """
        Deliver a result to all that wait.
        """
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(self._set, future)

    def go_on_in_thread(self) -> None:
        """
        The same, from a thread.
        """
        thread = Thread(target=self.go_on)
        thread.start()
        thread.join()

    @staticmethod
    def _set(future: Any) -> None:
        if not future.cancelled():
            future.set_result(0)


class CallsTests(SynchronousTestCase):
    """
    Tests for L{Calls}.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.library = Library()
        self.calls = Calls(self.clock, IrohError)

    def test_from_a_thread(self) -> None:
        """
        A result delivered by a thread arrives in the next reactor turn.
        """
        result = self.calls.call(self.library.wait(2))
        self.library.go_on_in_thread()
        self.assertNoResult(result)
        self.clock.advance(0)
        self.assertNoResult(result)
        self.library.go_on_in_thread()
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(result), "done")
        self.assertEqual((self.calls.pending, self.calls.outstanding), ({}, {}))

    def test_at_once(self) -> None:
        """
        A result that is available immediately needs no reactor turn.
        """
        self.assertEqual(self.successResultOf(self.calls.call(self.library.ready())), "ready")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_wake_up(self) -> None:
        """
        The reactor is woken once for any number of results.
        """
        results = [self.calls.call(self.library.wait()) for _ in range(50)]
        self.library.go_on_in_thread()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual([self.successResultOf(result) for result in results], ["done"] * 50)

    def test_one_turn_for_what_was_there(self) -> None:
        """
        A result that arrives while results are handled waits for the next turn.
        """
        order: list[str] = []

        def call_again(_: str) -> None:
            order.append("first")
            self.clock.callFromThread(order.append, "somebody else")
            self.calls.call(self.library.wait()).addCallback(lambda _: order.append("second"))
            self.library.go_on()

        self.calls.call(self.library.wait()).addCallback(call_again)
        self.library.go_on()
        self.clock.advance(0)
        self.assertEqual(order, ["first", "somebody else", "second"])

    def test_failures(self) -> None:
        """
        The library's errors become L{IrohFailure}; others are unchanged.
        """
        refused = self.calls.call(self.library.fail(IrohError("CONNECT", "refused")))
        broken = self.calls.call(self.library.fail(ZeroDivisionError()))
        self.library.go_on()
        self.clock.advance(0)
        error = self.failureResultOf(refused, IrohFailure).value
        self.assertEqual((error.kind, error.text, str(error)), ("CONNECT", "refused", "CONNECT: refused"))
        self.failureResultOf(broken, ZeroDivisionError)

    def test_connection_lost(self) -> None:
        """
        L{IrohFailure} tells whether a call failed because its connection has ended.
        """
        self.assertTrue(IrohFailure("CONNECTION", "closed").connection_lost())
        self.assertTrue(IrohFailure("STREAM", "ConnectionLost(Reset)").connection_lost())
        self.assertFalse(IrohFailure("STREAM", "Stopped(0)").connection_lost())

    def test_cancelled(self) -> None:
        """
        Cancelling a call closes the coroutine; a later result from a thread is ignored.
        """
        result = self.calls.call(self.library.wait())
        self.assertEqual(self.library.running, 1)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.library.running, 0)
        self.assertEqual(len(self.calls.outstanding), 1)
        self.library.go_on_in_thread()
        self.clock.advance(0)
        self.assertEqual((self.calls.pending, self.calls.outstanding), ({}, {}))

    def test_cancelled_when_the_result_is_under_way(self) -> None:
        """
        A call may be cancelled after a thread has delivered its result but before it
        was handled.
        """
        result = self.calls.call(self.library.wait())
        self.library.go_on_in_thread()
        result.cancel()
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)

    def test_cancel_all(self) -> None:
        """
        All calls can be cancelled, including one that starts meanwhile.
        """
        results = [self.calls.call(self.library.wait()) for _ in range(3)]
        more: list[Deferred[str]] = []
        results[0].addErrback(lambda _: more.append(self.calls.call(self.library.wait())))
        self.calls.cancel_all()
        for result in (*results[1:], *more):
            self.failureResultOf(result, CancelledError)
        self.assertEqual(self.library.running, 0)

    def test_running_loop(self) -> None:
        """
        The previously running loop is the running loop again in callbacks and
        afterwards.
        """
        seen: list[object] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.calls.call(self.library.ready()).addCallback(
                lambda _: seen.append(asyncio.get_running_loop() is loop)
            )
            waiting = self.calls.call(self.library.wait())
            waiting.addCallback(lambda _: seen.append(asyncio.get_running_loop() is loop))
            self.library.go_on()
            self.clock.advance(0)
            seen.append(asyncio.get_running_loop() is loop)
            await asyncio.sleep(0)

        asyncio.run(main())
        self.assertEqual(seen, [True, True, True])
        self.assertRaises(RuntimeError, asyncio.get_running_loop)

    def test_wait(self) -> None:
        """
        A thread can block for a call whose result comes from other threads.
        """
        self.assertEqual(self.calls.wait(self.library.ready(), 1), "ready")
        thread = Thread(target=self.tell_until_over)
        thread.start()
        self.addCleanup(thread.join)
        self.assertEqual(self.calls.wait(self.library.wait(3), 30), "done")
        self.over = True

    over = False

    def tell_until_over(self) -> None:
        """
        Deliver results repeatedly until the test is over.
        """
        while not self.over:
            self.library.go_on()

    def test_wait_fails(self) -> None:
        """
        A blocking wait respects its timeout, and converts errors like a call.
        """

        async def fail() -> None:
            raise IrohError("BIND", "in use")

        error = self.assertRaises(IrohFailure, self.calls.wait, fail(), 1)
        self.assertEqual(error.kind, "BIND")
        error = self.assertRaises(IrohFailure, self.calls.wait, self.library.wait(), 0.01)
        self.assertEqual(error.kind, "TIMEOUT")
        self.assertEqual(self.library.running, 0)

    def test_end(self) -> None:
        """
        At exit calls are cancelled, the exit call is made, and outstanding results of
        threads are awaited.
        """
        result = self.calls.call(self.library.wait())
        order: list[str] = []

        async def last() -> None:
            order.append("last call")
            thread = Thread(target=self.library.go_on)
            self.addCleanup(thread.join)
            thread.start()

        self.calls.exit_call = last
        self.calls.end()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(order, ["last call"])
        self.assertEqual(self.calls.outstanding, {})
        self.calls.end()
        self.assertEqual(order, ["last call"])

    def test_end_of_all(self) -> None:
        """
        An error in the shutdown of one endpoint does not affect the others.
        """
        made: list[None] = []

        async def broken() -> None:
            made.append(None)
            raise ZeroDivisionError

        several = [Calls(self.clock, IrohError) for _ in range(3)]
        for calls in several:
            calls.exit_call = broken
        self.patch(iroh_calls, "_alive", several)
        iroh_calls._end_all()
        self.assertEqual(len(made), 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_reactor_is_gone(self) -> None:
        """
        A result that arrives when the reactor can't be woken any longer raises no
        error; the call ends with the others.
        """

        def closed(function: object) -> None:
            raise RuntimeError("Event loop is closed")

        result = self.calls.call(self.library.wait())
        self.patch(self.clock, "callFromThread", closed)
        self.library.go_on()
        self.assertNoResult(result)
        self.calls.end()
        self.failureResultOf(result, CancelledError)

    def test_end_of_a_child(self) -> None:
        """
        A forked child does not touch the library.
        """
        made: list[None] = []

        async def last() -> None:
            made.append(None)

        self.calls.exit_call = last
        self.patch(self.calls, "_process", -1)
        self.calls.end()
        self.assertEqual(made, [])
