"""
Tests for L{dtt.aio.stream}.
"""

from __future__ import annotations

import asyncio

from twisted.trial.unittest import SynchronousTestCase

from dtt.aio.stream import MAX_WAITING, Stream


class StreamTests(SynchronousTestCase):
    """
    Tests for L{Stream}.
    """

    def test_order(self) -> None:
        """
        Items come in order, those that waited and later ones; then the iterator ends.
        """

        async def main() -> list[int]:
            stream: Stream[int] = Stream()
            stream._push(1)
            stream._push(2)
            loop = asyncio.get_running_loop()
            loop.call_soon(stream._push, 3)
            loop.call_soon(loop.call_soon, stream._end)
            return [item async for item in stream]

        self.assertEqual(asyncio.run(main()), [1, 2, 3])

    def test_bounded(self) -> None:
        """
        A reader that is too slow loses the oldest items, which are counted.
        """

        async def main() -> list[int]:
            stream: Stream[int] = Stream()
            for number in range(MAX_WAITING + 7):
                stream._push(number)
            self.assertEqual(stream.dropped, 7)
            stream._end()
            stream._push(-1)
            return [item async for item in stream]

        self.assertEqual(asyncio.run(main()), list(range(7, MAX_WAITING + 7)))

    def test_cancel(self) -> None:
        """
        A reader that is cancelled loses nothing: another one may continue.
        """

        async def main() -> int:
            stream: Stream[int] = Stream()
            reader = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            reader.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await reader
            stream._push(1)
            return await anext(stream)

        self.assertEqual(asyncio.run(main()), 1)

    def test_cancelled_together_with_an_item(self) -> None:
        """
        An item that arrives as the reader is cancelled is not lost.
        """

        async def main() -> int:
            stream: Stream[int] = Stream()
            reader = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            stream._push(1)
            reader.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await reader
            return await anext(stream)

        self.assertEqual(asyncio.run(main()), 1)

    def test_one_reader(self) -> None:
        """
        A second reader is refused.
        """

        async def main() -> None:
            stream: Stream[int] = Stream()
            reader = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            with self.assertRaises(RuntimeError):
                await anext(stream)
            stream._push(1)
            self.assertEqual(await reader, 1)

        asyncio.run(main())

    def test_close(self) -> None:
        """
        C{aclose} drops what waits, ends the iterator and says so once.
        """

        async def main() -> tuple[list[int], list[str]]:
            closed: list[str] = []
            stream: Stream[int] = Stream()
            stream._on_close = lambda: closed.append("closed")
            stream._push(1)
            await stream.aclose()
            await stream.aclose()
            return [item async for item in stream], closed

        self.assertEqual(asyncio.run(main()), ([], ["closed"]))
