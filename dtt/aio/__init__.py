"""
dtt for programs that use asyncio.

L{tracker} runs a L{Tracker<dtt.tracker.tracker.Tracker>} on the running event loop, together with other code,
for example a web server::

    async with dtt.aio.tracker(Config()) as t:
        async with t.join("garden party", secret=b"between us") as topic:
            await topic.joined()
            await topic.broadcast(b"hello")
            async for message in topic.messages():
                print(message.content)

Rules:
  - Cancellation works as usual in asyncio: a task that is cancelled in any C{await} or C{async for} leaves it
    at once, and the C{async with} statements stop what they have started.
  - When a C{async with} statement returns, everything has stopped, even if the task is cancelled meanwhile.
    This takes at most about 2 s.
  - Nothing here is thread-safe: call everything from the thread of the event loop.
"""

from dtt.aio.discovery import AsyncDiscovery
from dtt.aio.service import AsyncTopic, AsyncTracker, tracker
from dtt.aio.stream import MAX_WAITING, Stream

__all__ = ["MAX_WAITING", "AsyncDiscovery", "AsyncTopic", "AsyncTracker", "Stream", "tracker"]
