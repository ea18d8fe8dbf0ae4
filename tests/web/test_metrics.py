"""
Tests for L{dtt.web.metrics}.
"""

from __future__ import annotations

import shutil
import subprocess
from unittest import skipUnless

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from dtt.web.metrics import exposition
from tests.web.test_page import STATUS, TOPIC

TOPIC_LABEL = (b"t" * 8).hex()


class ExpositionTests(SynchronousTestCase):
    """
    Tests for L{exposition}.
    """

    def samples(self, status: object = STATUS) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The samples of a snapshot."""
        text, _ = exposition(status)  # type: ignore[arg-type]
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def test_values(self) -> None:
        """The metrics have the values of the snapshot."""
        dht = evolve(STATUS.dht, counters={"ipv4_sent_get": 3, "ipv4_nodes_alive": 9, "ipv4_round_trip": 0.1})
        found = self.samples(evolve(STATUS, dht=dht, counters={"streams": {"accepted": 5}}))
        topic = ("topic", TOPIC_LABEL)
        for name, labels, value in (
            ("dtt_build_info", [("peer_id", "75" * 32), ("version", "1.2.3")], 1),
            ("dtt_start_time_seconds", [], 100),
            ("dtt_dht_nodes", [], 150),
            ("dtt_nat", [("family", "ipv4"), ("kind", "symmetric")], 1),
            ("dtt_dht_events_total", [("event", "sent_get"), ("family", "ipv4")], 3),
            ("dtt_events_total", [("event", "accepted"), ("part", "streams")], 5),
            ("dtt_topic_info", [("name", "garden party"), topic], 1),
            ("dtt_topic_state", [("state", "joined"), topic], 1),
            ("dtt_topic_state", [("state", "searching"), topic], 0),
            ("dtt_topic_neighbors", [topic], 1),
            ("dtt_topic_messages_sent_total", [topic], 7),
            ("dtt_topic_records_refused_total", [("reason", "length"), topic], 4),
            (
                "dtt_topic_finds_total",
                [("channel", "record_slot"), ("outcome", "unreachable"), topic],
                1,
            ),
        ):
            self.assertEqual(found[name, tuple(sorted(labels))], value, name)
        events = {dict(labels).get("event") for name, labels in found if name == "dtt_dht_events_total"}
        self.assertEqual(events, {"sent_get"})

    def test_names(self) -> None:
        """A name of a topic may have any characters."""
        name = 'a "b"\\\n\N{SNOWMAN}'
        found = self.samples(evolve(STATUS, topics=(evolve(TOPIC, label=name),)))
        self.assertIn(("dtt_topic_info", (("name", name), ("topic", TOPIC_LABEL))), found)

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_conventions(self) -> None:
        """Prometheus's own check of names and formats finds nothing."""
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=exposition(STATUS)[0], capture_output=True, check=False
        )
        self.assertEqual((checked.returncode, checked.stderr, checked.stdout), (0, b"", b""))
