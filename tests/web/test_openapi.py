"""
Tests for L{dtt.web.openapi}.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.status import TopicStatus, TrackerStatus
from dtt.web.openapi import document
from tests.web.common import WebTestCase


class DocumentTests(SynchronousTestCase):
    """
    The document alone.
    """

    def setUp(self) -> None:
        self.schemas: dict[str, Any] = document()["components"]["schemas"]

    def test_references(self) -> None:
        """Every schema that is referred to exists, and every one that exists is referred to."""
        named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document())))
        self.assertEqual(named, set(self.schemas))

    def test_snapshot(self) -> None:
        """The schema of a class has its attributes, all of them required."""
        for cls in (TrackerStatus, TopicStatus):
            schema = self.schemas[cls.__name__]
            names = [attribute.name for attribute in fields(cls)]
            self.assertEqual(list(schema["properties"]), names)
            self.assertEqual((schema["required"], schema["additionalProperties"]), (names, False))

    def test_types(self) -> None:
        """Each kind of attribute has its schema."""
        tracker = self.schemas["TrackerStatus"]["properties"]
        topic = self.schemas["TopicStatus"]["properties"]
        self.assertEqual(tracker["version"], {"type": "string"})
        self.assertEqual(tracker["peer_id"]["pattern"], "^([0-9a-f]{2})*$")
        self.assertEqual(tracker["started"], {"anyOf": [{"type": "number"}, {"type": "null"}]})
        self.assertEqual(tracker["dht"], {"$ref": "#/components/schemas/DHTStatus"})
        self.assertEqual(
            tracker["topics"], {"type": "array", "items": {"$ref": "#/components/schemas/TopicStatus"}}
        )
        self.assertEqual(topic["has_secret"], {"type": "boolean"})
        self.assertEqual(topic["messages_sent"], {"type": "integer"})
        self.assertEqual(topic["counters"], {"type": "object", "additionalProperties": {"type": "integer"}})

    def test_errors(self) -> None:
        """Every operation says how it fails; only the one for machines needs no token."""
        for path, operations in document()["paths"].items():
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                open_to_all = path == "/healthz"
                self.assertEqual(operation.get("security"), [] if open_to_all else None)
                self.assertEqual("401" not in operation["responses"], open_to_all)
                self.assertLessEqual({"400", "403", "421"}, set(operation["responses"]))
                self.assertEqual("requestBody" in operation, method == "post")


class PathsTests(WebTestCase):
    """
    The document and the handlers.
    """

    def test_openapi(self) -> None:
        """The description lists every path that there is, except the page and its files."""
        answer = self.ask("/v1/openapi.json").json
        self.assertEqual(answer["openapi"], "3.1.0")
        for path, methods in answer["paths"].items():
            for method in ("get", "post", "delete"):
                body: Any = {} if method == "post" else None
                status = self.ask(path.replace("{id}", "0" * 64), method.upper(), body).status
                self.assertEqual(status != 405, method in methods, (path, method))
