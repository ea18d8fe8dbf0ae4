"""
Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Rules: the number of streams and the queue of each stream are bounded: a stream that reads too slowly is
ended, and its client connects again. A comment every few seconds keeps the stream open, also through proxies.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from dtt.deferreds import cancel_if_active
from dtt.events import Event, TopicEvent, to_json
from dtt.web.answers import COMMON, Problem

#: Streams at a time (guess: some browsers and some programs; each costs a descriptor).
MAX_STREAMS: Final = 32

#: Events that wait for a stream whose connection is full (guess: a burst of a busy swarm).
MAX_WAITING: Final = 256

#: Seconds between two comments: proxies end silent connections after a minute or so (guess).
HEARTBEAT: Final = 15.0


@implementer(IPushProducer)
class EventStream:
    """
    One stream.

    @ivar topic_id: the topic whose events it has, 32 bytes; C{None}: all events.
    """

    def __init__(
        self,
        clock: IReactorTime,
        request: Request,
        topic_id: bytes | None,
        on_end: Callable[[EventStream], object],
    ) -> None:
        """
        @param clock: schedules the comments.
        @param request: the request that is answered.
        @param topic_id: see the attribute.
        @param on_end: called once it has ended.
        """
        self.topic_id = topic_id
        self._clock = clock
        self._request = request
        self._on_end = on_end
        self._waiting: deque[bytes] = deque()
        self._paused = self._ended = False
        self._timer: IDelayedCall | None = None
        request.notifyFinish().addBoth(self._gone)
        _begin(request)
        request.registerProducer(self, True)
        self._beat()

    def event(self, event: Event, time: float) -> None:
        """
        Send an event, if it belongs to the stream.

        @param time: when it happened, unix seconds.
        """
        if self.topic_id is None or (isinstance(event, TopicEvent) and event.topic == self.topic_id):
            data = json.dumps(to_json(event, time))
            self._send(f"event: {event.name}\ndata: {data}\n\n".encode("ascii"))

    def end(self) -> None:
        """
        End it.
        """
        if not self._ended:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """
        The connection is full.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Send what has waited.
        """
        self._paused = False
        while self._waiting and not self._paused:
            self._request.write(self._waiting.popleft())

    def stopProducing(self) -> None:
        """
        Do nothing: the request ends as well.
        """

    def _send(self, data: bytes) -> None:
        if self._ended:
            return
        if not self._paused:
            self._request.write(data)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(data)
        else:
            # The rest of its buffer would never be read.
            self._request.channel.forceAbortClient()

    def _beat(self) -> None:
        self._send(b": still here\n\n")
        if not self._ended:
            self._timer = self._clock.callLater(HEARTBEAT, self._beat)

    def _gone(self, _: Any) -> None:
        self._ended = True
        self._waiting.clear()
        cancel_if_active(self._timer)
        self._on_end(self)


class EventStreams:
    """
    All streams.
    """

    def __init__(
        self, clock: IReactorTime, observe: Callable[[Callable[[Event, float], None]], Callable[[], None]]
    ) -> None:
        """
        @param clock: schedules the comments.
        @param observe: calls a function with each event, until the function that it returns
            is called.
        """
        self._clock = clock
        self._observe = observe
        self._streams: dict[EventStream, None] = {}
        self._stop_observing: Callable[[], None] = lambda: None

    def open(self, request: Request, topic_id: bytes | None = None) -> None:
        """
        Answer a request with a stream; a HEAD request with its headers only.

        @raise Problem: there are too many.
        """
        if request.method == b"HEAD":
            _begin(request)
            request.finish()
            return
        if len(self._streams) >= MAX_STREAMS:
            raise Problem(
                503, f"there are {MAX_STREAMS} event streams already; close one", {"Retry-After": "30"}
            )
        if not self._streams:
            self._stop_observing = self._observe(self._event)
        stream = EventStream(self._clock, request, topic_id, self._ended)
        self._streams[stream] = None

    def end_topic(self, topic_id: bytes) -> None:
        """
        End the streams of a topic that was left.
        """
        for stream in tuple(self._streams):
            if stream.topic_id == topic_id:
                stream.end()

    def end_all(self) -> None:
        """
        End all streams.
        """
        for stream in tuple(self._streams):
            stream.end()

    def _event(self, event: Event, time: float) -> None:
        for stream in tuple(self._streams):
            stream.event(event, time)

    def _ended(self, stream: EventStream) -> None:
        self._streams.pop(stream, None)
        if not self._streams:
            self._stop_observing()


def _begin(request: Request) -> None:
    """
    Set the status and the headers of a stream.
    """
    request.setResponseCode(200)
    for name, value in {**COMMON, "Content-Type": "text/event-stream"}.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii"))
