"""
The handlers of C{/v1}: the snapshot, topics, messages and events as JSON
(docs/reference/http.md).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.server import Request

from dtt.errors import (
    AlreadyJoined,
    ContentTooLarge,
    DuplicateContent,
    LocalError,
    TopicLeft,
    UsageError,
)
from dtt.records.topic import TopicId
from dtt.tracker.status import as_json
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from dtt.web.answers import Answer, Problem, json_answer, json_object
from dtt.web.events import EventStreams
from dtt.web.openapi import document

#: The longest secret, bytes, as in a secret file.
MAX_SECRET: Final = 65536

#: The longest name of a topic, characters (guess: a name is typed).
MAX_TOPIC: Final = 4096


class API:
    """
    Answers requests about one tracker.
    """

    _log = Logger()

    def __init__(self, tracker: Tracker, streams: EventStreams) -> None:
        """
        @param tracker: the tracker.
        @param streams: the event streams.
        """
        self._tracker = tracker
        self._streams = streams

    def health(self, request: Request) -> Answer:
        """
        C{GET /healthz}: whether the tracker runs.
        """
        if not self._tracker.running:
            return Answer(503, b"not running\n", "text/plain; charset=utf-8")
        return Answer(200, b"ok\n", "text/plain; charset=utf-8")

    def openapi(self, request: Request) -> Answer:
        """
        C{GET /v1/openapi.json}: the description of this interface.
        """
        return json_answer(document())

    def status(self, request: Request) -> Answer:
        """
        C{GET /v1/status}: the snapshot.
        """
        return json_answer(as_json(self._tracker.status()))

    def topics(self, request: Request) -> Answer:
        """
        C{GET /v1/topics}: the topics.
        """
        return json_answer({"topics": [as_json(topic.status()) for topic in self._tracker.topics()]})

    def join(self, request: Request) -> Answer:
        """
        C{POST /v1/topics}: join a topic.
        """
        body = json_object(request, {"topic": str, "secret": str, "secret_base64": str})
        name = _required(body, "topic")
        if len(name) > MAX_TOPIC or not any(each.isprintable() and each != " " for each in name):
            raise Problem(400, f"topic must have a visible character, and at most {MAX_TOPIC} characters")
        secret = _bytes(body, "secret", optional=True)
        if len(secret) > MAX_SECRET:
            raise Problem(400, f"the secret is longer than {MAX_SECRET} bytes")
        try:
            topic = self._tracker.join(TopicId.parse(name), secret)
        except AlreadyJoined as error:
            raise Problem(409, str(error)) from None
        except UsageError as error:
            raise Problem(400, str(error)) from None
        except TopicLeft as error:
            raise Problem(503, str(error)) from None
        location = {"Location": f"/v1/topics/{topic.topic_id.hex()}"}
        return Answer(201, json_answer(as_json(topic.status())).body, headers=location)

    def topic(self, request: Request, topic_id: str) -> Answer:
        """
        C{GET /v1/topics/ID}: one topic.
        """
        return json_answer(as_json(self._find(topic_id).status()))

    def leave(self, request: Request, topic_id: str) -> Deferred[Answer]:
        """
        C{DELETE /v1/topics/ID}: leave a topic.
        """
        topic = self._find(topic_id)
        self._streams.end_topic(bytes(topic.topic_id))
        return topic.leave().addCallback(lambda _: Answer(204))

    def peers(self, request: Request, topic_id: str) -> Answer:
        """
        C{GET /v1/topics/ID/peers}: the neighbours, and the members whose records were found.
        """
        status = self._find(topic_id).status()
        return json_answer(
            {
                "neighbors": [as_json(each) for each in status.neighbors],
                "recent": [as_json(each) for each in status.records.recent],
                "known_peers": status.known_peers,
            }
        )

    def send(self, request: Request, topic_id: str) -> Answer:
        """
        C{POST /v1/topics/ID/messages}: send a message.
        """
        topic = self._find(topic_id)
        body = json_object(request, {"content": str, "content_base64": str, "scope": str})
        content = _bytes(body, "content")
        scope = body.get("scope", "swarm")
        if scope not in ("swarm", "neighbors"):
            raise Problem(400, "scope must be swarm or neighbors")
        try:
            sent = topic.broadcast(content) if scope == "swarm" else topic.broadcast_neighbors(content)
        except DuplicateContent as error:
            raise Problem(409, str(error) or "the same message was sent within the last 90 s") from None
        except ContentTooLarge as error:
            raise Problem(413, str(error)) from None
        except LocalError as error:
            raise Problem(503, str(error)) from None
        # The answer does not wait until slow neighbours have read it.
        sent.addErrback(self._not_sent)
        return json_answer({"neighbors": len(topic.neighbors())}, 202)

    def events(self, request: Request) -> None:
        """
        C{GET /v1/events}: all events, as a stream.
        """
        self._streams.open(request)

    def topic_events(self, request: Request, topic_id: str) -> None:
        """
        C{GET /v1/topics/ID/events}: the events of a topic, as a stream.
        """
        self._streams.open(request, bytes(self._find(topic_id).topic_id))

    def _find(self, digits: str) -> TopicService:
        try:
            topic_id = bytes.fromhex(digits) if len(digits) == 64 else b""
        except ValueError:
            topic_id = b""
        for topic in self._tracker.topics():
            if topic.topic_id == topic_id:
                return topic
        raise Problem(404, f"no topic {digits[:64]} is joined; GET /v1/topics lists those that are")

    def _not_sent(self, failure: Any) -> None:
        if not failure.check(TopicLeft, CancelledError):
            self._log.failure("A message could not be sent", failure)


def _required(body: dict[str, Any], name: str) -> str:
    if name not in body:
        raise Problem(400, f"{name} is missing")
    return str(body[name])


def _bytes(body: dict[str, Any], name: str, *, optional: bool = False) -> bytes:
    """
    Return bytes that are given as text, or in base64 under C{NAME_base64}.

    @param optional: whether both may be missing.
    """
    encoded = f"{name}_base64"
    if name in body and encoded in body:
        raise Problem(400, f"give either {name} or {encoded}")
    try:
        if encoded in body:
            return b64decode(body[encoded].encode("ascii"), validate=True)
        if name in body:
            return str(body[name]).encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(400, f"{name} must be Unicode text, {encoded} base64") from None
    except binascii.Error:
        raise Problem(400, f"{encoded} must be base64") from None
    if optional:
        return b""
    raise Problem(400, f"{name} or {encoded} is missing")
