"""
The OpenAPI document of the HTTP interface.

The schemas of the snapshot are made from the attrs classes of L{dtt.tracker.status}, so they
can't differ from what is sent.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from attrs import fields

from dtt._version import __version__
from dtt.tracker.status import NeighborStatus, RecordStatus, TopicStatus, TrackerStatus

_SCALARS: Final[Mapping[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bytes: {"type": "string", "pattern": "^([0-9a-f]{2})*$", "description": "Hexadecimal digits."},
}

_ERRORS: Final = {
    400: "The request is malformed.",
    401: "Over TCP: the token is missing or wrong.",
    403: "The request comes from another origin.",
    404: "The topic is not joined.",
    409: "The topic is joined already, or the message is a duplicate.",
    413: "The body or the message is too large.",
    415: "The body is not sent as application/json.",
    421: "Over TCP: the header Host is not a name of this service.",
    503: "Not now: the tracker has stopped, or there are too many streams.",
}


def _schema(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is types.UnionType:  # X | None
        [inner] = [each for each in get_args(hint) if each is not types.NoneType]
        return {"anyOf": [_schema(inner), {"type": "null"}]}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if hasattr(hint, "__attrs_attrs__"):
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    if get_origin(hint) is not None:  # a mapping from names
        return {"type": "object", "additionalProperties": _schema(get_args(hint)[1])}
    return dict(_SCALARS[hint])


def _schemas(cls: Any, found: dict[str, Any]) -> None:
    """
    Add the schemas of an attrs class, and of those that it contains, to C{found}.
    """
    if cls.__name__ in found:
        return
    hints = get_type_hints(cls)
    names = [attribute.name for attribute in fields(cls)]
    found[cls.__name__] = {
        "type": "object",
        "properties": {name: _schema(hints[name]) for name in names},
        "required": names,
        "additionalProperties": False,
    }
    for name in names:
        for each in (hints[name], *get_args(hints[name])):
            if hasattr(each, "__attrs_attrs__"):
                _schemas(each, found)


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str,
    answers: Mapping[int, Mapping[str, Any]],
    errors: tuple[int, ...] = (),
    body: Mapping[str, Any] | None = None,
    *,
    tokenless: bool = False,
) -> dict[str, Any]:
    always = (400, 403, 421) if tokenless else (400, 401, 403, 421)
    responses: dict[str, Any] = {str(status): dict(answer) for status, answer in answers.items()}
    for status in sorted({*always, *errors}):
        responses.setdefault(
            str(status),
            {"description": _ERRORS[status], "content": _json({"$ref": "#/components/schemas/Error"})},
        )
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if tokenless:
        operation["security"] = []
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _ok(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


_STREAM: Final = {
    200: {
        "description": "A stream of events.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}

_BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_JOIN: Final = {
    "type": "object",
    "not": {"required": ["secret", "secret_base64"]},
    "properties": {
        "topic": {
            "type": "string",
            "maxLength": 4096,
            "pattern": "^(hex:[0-9a-fA-F]{64}|(?!hex:).*[!-~].*)$",
            "description": "A name with a visible character, or hex: and the 64 hexadecimal digits of an id.",
        },
        "secret": {"type": "string", "description": "The secret, as text."},
        "secret_base64": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": _BASE64,
            "description": "The secret in base64, instead.",
        },
    },
    "required": ["topic"],
    "additionalProperties": False,
}

_SEND: Final = {
    "type": "object",
    "oneOf": [{"required": ["content"]}, {"required": ["content_base64"]}],
    "properties": {
        "content": {"type": "string", "description": "The message, as text: at most 4055 bytes of UTF-8."},
        "content_base64": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": _BASE64,
            "description": "The message in base64, instead.",
        },
        "scope": {"enum": ["swarm", "neighbors"], "default": "swarm"},
    },
    "additionalProperties": False,
}


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """
    Return the document (OpenAPI 3.1).
    """
    schemas: dict[str, Any] = {}
    _schemas(TrackerStatus, schemas)
    schemas["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "string", "description": "One line that says what to do."}},
        "required": ["error"],
    }
    topic = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    neighbors, records = _ref(NeighborStatus.__name__), _ref(RecordStatus.__name__)
    topics = {"type": "object", "properties": {"topics": {"type": "array", "items": _ref("TopicStatus")}}}
    peers = {
        "type": "object",
        "properties": {
            "neighbors": {"type": "array", "items": neighbors},
            "recent": {"type": "array", "items": records},
            "known_peers": {"type": "integer"},
        },
    }
    sent = {"type": "object", "properties": {"neighbors": {"type": "integer"}}}
    status = _ok("The snapshot.", _ref(TrackerStatus.__name__))
    one = _ok("The topic.", _ref(TopicStatus.__name__))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dtt",
            "version": __version__.public(),
            "description": "The status and the commands of a running tracker. No cookies, no state changed "
            "by GET.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"token": []}, {"password": []}],
        "paths": {
            "/healthz": {
                "get": _operation(
                    "Whether the tracker runs.",
                    {
                        200: {"description": "It runs.", "content": _TEXT},
                        503: {"description": "It does not.", "content": _TEXT},
                    },
                    tokenless=True,
                )
            },
            "/metrics": {
                "get": _operation(
                    "Metrics for Prometheus.",
                    {
                        200: {
                            "description": "Prometheus text.",
                            "content": {
                                "text/plain": {"schema": {"type": "string"}},
                                "application/openmetrics-text": {"schema": {"type": "string"}},
                            },
                        }
                    },
                )
            },
            "/v1/status": {"get": _operation("The snapshot.", {200: status})},
            "/v1/events": {"get": _operation("All events.", _STREAM, (503,))},
            "/v1/topics": {
                "get": _operation("The topics.", {200: _ok("The topics.", topics)}),
                "post": _operation(
                    "Join a topic until the service stops.", {201: one}, (409, 413, 415, 503), _JOIN
                ),
            },
            "/v1/topics/{id}": {
                "parameters": topic,
                "get": _operation("One topic.", {200: one}, (404,)),
                "delete": _operation("Leave a topic.", {204: {"description": "It is left."}}, (404,)),
            },
            "/v1/topics/{id}/peers": {
                "parameters": topic,
                "get": _operation(
                    "Neighbours, and members found recently.", {200: _ok("The peers.", peers)}, (404,)
                ),
            },
            "/v1/topics/{id}/messages": {
                "parameters": topic,
                "post": _operation(
                    "Send a message.",
                    {202: _ok("The number of neighbours it was sent to; 0: nobody receives it.", sent)},
                    (404, 409, 413, 415, 503),
                    _SEND,
                ),
            },
            "/v1/topics/{id}/events": {
                "parameters": topic,
                "get": _operation("The events of a topic.", _STREAM, (404, 503)),
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic", "description": "The token as the password."},
            },
        },
    }
