"""
Tests for L{dtt.tracker.saved}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.interfaces import Contact
from dtt.tracker.saved import SavedNode

FULL = SavedNode(
    6881, 4433, 4434, b"n" * 20, (Contact(b"a" * 20, "192.0.2.1", 6881), Contact(b"b" * 20, "192.0.2.2", 1))
)


class SavedNodeTests(SynchronousTestCase):
    """
    Tests for L{SavedNode}.
    """

    def test_round_trip(self) -> None:
        """What was written is read, through JSON."""
        for saved in (FULL, SavedNode()):
            self.assertEqual(SavedNode.from_json(json.loads(json.dumps(saved.to_json()))), saved)

    def test_damaged(self) -> None:
        """Whatever is missing, of another type or impossible is a ValueError."""
        broken: list[tuple[str, Any]] = [
            ("version", 2),
            ("version", None),
            ("dht_port", -1),
            ("dht_port", 65536),
            ("dht_port", "1"),
            ("dht_port", True),
            ("listen_port", 1.5),
            ("iroh_port", -1),
            ("node_id", "zz"),
            ("node_id", "00"),
            ("node_id", 5),
            ("nodes", None),
            ("nodes", [["00", "192.0.2.1", 1]]),
            ("nodes", [["61" * 20, "no ip", 1]]),
            ("nodes", [["61" * 20, "192.0.2.1"]]),
            ("nodes", [["61" * 20, "192.0.2.1", 70000]]),
            ("nodes", [["61" * 20, None, 1]]),
            ("nodes", [5]),
        ]
        for key, value in broken:
            with self.assertRaises(ValueError, msg=f"{key}={value!r}"):
                SavedNode.from_json({**FULL.to_json(), key: value})
        for key in FULL.to_json():
            with self.assertRaises(ValueError, msg=key):
                SavedNode.from_json({k: v for k, v in FULL.to_json().items() if k != key})
