"""
Tests for L{dtt.tracker.saved}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.saved import SavedPorts

FULL = SavedPorts(6881, 4433, 4434)


class SavedPortsTests(SynchronousTestCase):
    """
    Tests for L{SavedPorts}.
    """

    def test_round_trip(self) -> None:
        """A round trip through JSON changes nothing."""
        for saved in (FULL, SavedPorts()):
            self.assertEqual(SavedPorts.from_json(json.loads(json.dumps(saved.to_json()))), saved)

    def test_damaged(self) -> None:
        """A missing, mistyped or impossible value raises ValueError."""
        broken: list[tuple[str, Any]] = [
            ("version", 2),
            ("version", None),
            ("dht", -1),
            ("dht", 65536),
            ("dht", "1"),
            ("dht", True),
            ("streams", 1.5),
            ("iroh", None),
        ]
        for key, value in broken:
            with self.assertRaises(ValueError, msg=f"{key}={value!r}"):
                SavedPorts.from_json({**FULL.to_json(), key: value})
        for key in FULL.to_json():
            with self.assertRaises(ValueError, msg=key):
                SavedPorts.from_json({k: v for k, v in FULL.to_json().items() if k != key})
