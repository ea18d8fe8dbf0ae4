"""
The root of the HTTP interface: checks a request, and calls its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from dtt.tracker.tracker import Tracker
from dtt.web.answers import Answer, Problem, header_of
from dtt.web.api import API
from dtt.web.events import EventStreams
from dtt.web.guard import Guard

#: Called with a request, and with the part of its path that matches C{*}.  Returns the answer;
#: C{None}: it answers later by itself.
Handler = Callable[..., Answer | Deferred[Answer] | None]

#: The parts of a path that is longer than any of ours.
_MAX_PARTS: Final = 8


class Routes:
    """
    The handlers, by path and method.
    """

    def __init__(self, tracker: Tracker, streams: EventStreams) -> None:
        """
        @param tracker: the tracker.
        @param streams: the event streams.
        """
        self._tracker = tracker
        api = API(tracker, streams)
        self._handlers: Mapping[tuple[str, ...], Mapping[str, Handler]] = {
            ("",): {"GET": self._page},
            ("page.css",): {"GET": self._file("page.css")},
            ("page.js",): {"GET": self._file("page.js")},
            ("icon.svg",): {"GET": self._file("icon.svg")},
            ("healthz",): {"GET": api.health},
            ("metrics",): {"GET": self._metrics},
            ("v1", "openapi.json"): {"GET": api.openapi},
            ("v1", "status"): {"GET": api.status},
            ("v1", "events"): {"GET": api.events},
            ("v1", "topics"): {"GET": api.topics, "POST": api.join},
            ("v1", "topics", "*"): {"GET": api.topic, "DELETE": api.leave},
            ("v1", "topics", "*", "peers"): {"GET": api.peers},
            ("v1", "topics", "*", "messages"): {"POST": api.send},
            ("v1", "topics", "*", "events"): {"GET": api.topic_events},
        }

    def find(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        """
        Return the handler of a request, and the part of its path that matches C{*}.

        @raise Problem: there is none.
        """
        parts = tuple(unquote(part) for part in path.removeprefix("/").split("/")[:_MAX_PARTS])
        for pattern, methods in self._handlers.items():
            if len(pattern) == len(parts) and all(
                p in ("*", part) for p, part in zip(pattern, parts, strict=True)
            ):
                handler = methods.get("GET" if method == "HEAD" else method)
                if handler is None:
                    allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]
                    raise Problem(405, f"{method} is not possible here", {"Allow": ", ".join(allowed)})
                named = (part for p, part in zip(pattern, parts, strict=True) if p == "*")
                return handler, tuple(named)
        raise Problem(404, "there is nothing here; /v1/openapi.json lists what there is")

    def _page(self, request: Request) -> Deferred[Answer]:
        # The templates of twisted.web are imported with the first look.
        from dtt.web.page import page

        return page(self._tracker.status())

    def _file(self, name: str) -> Handler:
        def answer(request: Request) -> Answer:
            from dtt.web.page import asset

            return asset(name)

        return answer

    def _metrics(self, request: Request) -> Answer:
        from dtt.web.metrics import exposition

        text, content_type = exposition(self._tracker.status(), header_of(request, "Accept") or "")
        return Answer(200, text, content_type)


class Root(Resource):
    """
    Answers all requests of one port.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Routes, guard: Guard) -> None:
        """
        @param routes: the handlers.
        @param guard: decides which requests to admit.
        """
        super().__init__()
        self._routes = routes
        self._guard = guard

    def render(self, request: Request) -> int:
        """
        Answer a request.
        """
        gone: list[object] = []
        request.notifyFinish().addBoth(gone.append)

        def write(answer: Answer | None) -> None:
            if answer is not None and not gone:
                answer.write(request)

        maybeDeferred(self._answer, request).addErrback(self._failed).addCallback(write)
        return NOT_DONE_YET

    def _answer(self, request: Request) -> Any:
        path = request.path.decode("latin-1")
        self._guard.check(request, path)
        handler, named = self._routes.find(request.method.decode("latin-1")[:40], path)
        return handler(request, *named)

    def _failed(self, failure: Failure) -> Answer:
        if isinstance(failure.value, Problem):
            return failure.value.answer()
        self._log.failure("A request failed with an unexpected error (a bug)", failure)
        return Problem(500, "an unexpected error, which is in the log").answer()
