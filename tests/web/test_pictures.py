"""
Tests for L{dtt.web.pictures}.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import Tag, flattenString

from dtt.tracker.status import RecordsStatus, TrafficSample
from dtt.tracker.traffic import INTERVAL, MAX_SAMPLES
from dtt.web.pictures import (
    MAX_NODES,
    MIN_SPAN,
    datagram_lines,
    links,
    links_of,
    message_lines,
    traffic,
)
from tests.web.test_page import ONE, THREE, TOPIC, TWO, US, record


class LinksTests(SynchronousTestCase):
    """
    Tests for L{links_of}.
    """

    def test_links(self) -> None:
        """Our neighbours come first; records link others, once, and never us or a member with itself."""
        topic = evolve(
            TOPIC, records=RecordsStatus(recent=(record(TWO, US, ONE, TWO, THREE), record(ONE, TWO)))
        )
        nodes, pairs = links_of(topic, US)
        self.assertEqual(nodes, [ONE, TWO, THREE])
        self.assertEqual(pairs, {(ONE, TWO), (TWO, THREE)})

    def test_latest(self) -> None:
        """The latest record of a member counts."""
        topic = evolve(TOPIC, records=RecordsStatus(recent=(record(TWO, THREE), record(TWO, ONE))))
        self.assertEqual(links_of(topic, US)[1], {(ONE, TWO)})

    def test_bounded(self) -> None:
        """Our neighbours have a place before members that only records name; there are so many places."""
        peers = [bytes([n]) * 32 for n in range(MAX_NODES + 5)]
        topic = evolve(TOPIC, records=RecordsStatus(recent=(record(TWO, *peers),)))
        nodes, pairs = links_of(topic, US)
        self.assertEqual(nodes, [ONE, TWO, *peers[: MAX_NODES - 2]])
        self.assertEqual(len(pairs), MAX_NODES - 2)


class DrawingTests(SynchronousTestCase):
    """
    What is drawn.
    """

    def draw(self, tag: Tag) -> ElementTree.Element:
        """
        Return the elements of a picture.
        """
        return ElementTree.fromstring(self.successResultOf(flattenString(None, tag)))

    def points(self, picture: ElementTree.Element, kind: str) -> list[tuple[float, float]]:
        """
        Return the points of a line.
        """
        (line,) = [each for each in picture.iter("polyline") if each.get("class") == kind]
        return [tuple(map(float, each.split(","))) for each in line.get("points", "").split()]  # type: ignore[misc]

    def test_links(self) -> None:
        """We are in the middle; our links are straight, those of records are not; all is said in words."""
        topic = evolve(TOPIC, records=RecordsStatus(recent=(record(TWO, US, ONE, THREE),)))
        picture = self.draw(links(topic, US))
        self.assertEqual([len(list(picture.iter(name))) for name in ("circle", "line", "path")], [4, 1, 2])
        middle = [each for each in picture.iter("circle") if each.get("class") == "picture-node picture-us"]
        self.assertEqual([(each.get("cx"), each.get("cy")) for each in middle], [("240.0", "150.0")])
        self.assertEqual(picture.findtext("title"), f"Links in {topic.label}")
        self.assertEqual(
            picture.findtext("desc"),
            "We are linked to 6161616161. 6161616161 and 6262626262 are linked, according to one of them."
            " 6262626262 and 6363636363 are linked, according to one of them.",
        )
        name = f"links-{(b't' * 8).hex()}"
        self.assertEqual(picture.get("aria-labelledby"), f"{name}-title {name}-text")

    def test_nobody(self) -> None:
        """A topic without members has a picture of ourselves."""
        picture = self.draw(links(evolve(TOPIC, neighbors=(), records=RecordsStatus()), US))
        self.assertEqual(picture.findtext("desc"), "We are linked to nobody.")
        self.assertEqual(len(list(picture.iter("circle"))), 1)

    def test_traffic(self) -> None:
        """The largest number touches the top, none the base; the latest sample is at the right."""
        picture = self.draw(traffic("x", "Traffic", [0, 30, 15], [60, 0, 0]))
        self.assertEqual([y for _, y in self.points(picture, "line-sent")], [100.0, 57.5, 78.8])
        received = self.points(picture, "line-received")
        self.assertEqual([y for _, y in received], [15.0, 100.0, 100.0])
        self.assertEqual(received[-1][0], 480.0)
        self.assertEqual(received[0][0], 480.0 * (1 - 2 / MIN_SPAN))
        self.assertEqual(
            picture.findtext("desc"),
            f"At most {60 / INTERVAL:.1f} a second; in the last {INTERVAL:.0f} seconds 15 sent, 0 received.",
        )

    def test_span(self) -> None:
        """The lines show at least five minutes, at most an hour, and otherwise what there is."""
        for count, minutes in ((0, 5), (1, 5), (MIN_SPAN + 1, 5), (121, 30), (MAX_SAMPLES, 60)):
            picture = self.draw(traffic("x", "Traffic", [1] * count, [1] * count))
            texts = [each.text for each in picture.iter("text")]
            self.assertIn(f"{minutes} minutes ago", texts)
            points = self.points(picture, "line-sent")
            self.assertEqual(len(points), count)
            self.assertTrue(all(0 <= x <= 480 for x, _ in points))

    def test_no_traffic(self) -> None:
        """Without any traffic there are no samples to divide by."""
        picture = self.draw(traffic("x", "Traffic", [], []))
        self.assertIn("0 sent, 0 received", picture.findtext("desc") or "")

    def test_samples(self) -> None:
        """Each picture shows its own numbers."""
        numbers: dict[str, Any] = {"sent": 1, "received": 2, "messages_sent": 3, "messages_received": 4}
        samples = [TrafficSample(time=1.0, **numbers)]
        for picture, said in ((datagram_lines, "1 sent, 2 received"), (message_lines, "3 sent, 4 received")):
            self.assertIn(said, self.draw(picture(samples)).findtext("desc") or "")
