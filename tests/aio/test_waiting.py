"""
Tests for L{dtt.aio.waiting}.
"""

from __future__ import annotations

import asyncio

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.aio.waiting import finish
from tests.aio.test_service import soon


class FinishTests(SynchronousTestCase):
    """
    Tests for the end of C{async with} statements.
    """

    def test_cancelled(self) -> None:
        """
        Who is cancelled, even twice, while something ends waits for the end, and is cancelled
        then.
        """

        async def main() -> None:
            ending: Deferred[None] = Deferred()
            task = await soon(finish(ending))
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                self.assertFalse(task.done())
            ending.callback(None)
            with self.assertRaises(asyncio.CancelledError):
                await task

        asyncio.run(main())

    def test_results(self) -> None:
        """
        An end that has come already is not waited for; a failure is raised.
        """

        async def main() -> None:
            await finish(succeed(None))
            ending: Deferred[None] = Deferred()
            task = await soon(finish(ending))
            ending.errback(ZeroDivisionError())
            with self.assertRaises(ZeroDivisionError):
                await task

        asyncio.run(main())
