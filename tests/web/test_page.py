"""
Tests for L{dtt.web.page}: the HTML of the page.
"""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.status import (
    DHTStatus,
    EventStatus,
    FindStatus,
    MappingStatus,
    NATStatus,
    NeighborStatus,
    RecordsStatus,
    RecordStatus,
    TopicStatus,
    TrackerStatus,
    TrafficSample,
)
from dtt.tracker.traffic import MAX_SAMPLES
from dtt.web.page import FILES, SHOWN_EVENTS, ago, page, read
from dtt.web.pictures import MAX_NODES
from tests.web.common import WebTestCase

US, ONE, TWO, THREE = (letter * 32 for letter in (b"u", b"a", b"b", b"c"))


def record(publisher: bytes, *peers: bytes) -> RecordStatus:
    """A record that names neighbours."""
    return RecordStatus(publisher=publisher, minute=1, channel="record_slot", seen=900.0, active_peers=peers)


TOPIC = TopicStatus(
    topic_id=b"t" * 32,
    label="garden party",
    state="joined",
    doing="has a neighbour, so it does not search",
    since=400.0,
    neighbors=(
        NeighborStatus(
            peer_id=ONE,
            since=400.0,
            transport="quic",
            address="203.0.113.7:7000",
            round_trip=0.0123,
            found_by="record_slot",
        ),
    ),
    known_peers=3,
    records=RecordsStatus(
        found=2,
        unreadable=1,
        refused={"length": 4},
        stored_minute=5,
        stored_copies=3,
        recent=(record(ONE, US, TWO), record(TWO, ONE, THREE)),
    ),
    finds=(FindStatus(channel="record_slot", found=2, joined=1, unreachable=1),),
    messages_sent=7,
    messages_received=9,
)

STATUS = TrackerStatus(
    version="1.2.3",
    peer_id=US,
    state="running",
    time=1000.0,
    started=100.0,
    uptime=900.0,
    dht=DHTStatus(
        ready=True,
        node_id=b"n" * 20,
        port=6881,
        nodes=150,
        nat=(NATStatus(family="ipv4", kind="symmetric", voters=4),),
    ),
    mappings=(
        MappingStatus(protocol="UDP", port=6881, outside="203.0.113.1:6881", method="PCP", listed=True),
    ),
    topics=(TOPIC,),
    traffic=tuple(TrafficSample(time=float(n), sent=n, received=2 * n) for n in range(MAX_SAMPLES)),
    events=tuple(EventStatus(time=900.0, name="dht.nodes", text=f"{n} known.") for n in range(50)),
)


class Page(HTMLParser):
    """
    What is in a page.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.urls: list[str] = []
        self.attributes: set[str] = set()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            elif name == "aria-labelledby":
                self.references += (value or "").split()
            elif name in ("href", "src"):
                self.urls.append(value or "")

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All texts."""
        return " ".join(" ".join(self.texts).split())


class PageTests(SynchronousTestCase):
    """
    Tests for L{page}.
    """

    def page(self, status: TrackerStatus) -> Page:
        """Make the page."""
        answer = self.successResultOf(page(status))
        self.assertEqual(answer.content_type, "text/html; charset=utf-8")
        self.html = answer.body.decode()
        self.assertTrue(self.html.startswith("<!DOCTYPE html>\n<html"))
        return Page(self.html)

    def test_content(self) -> None:
        """What the snapshot says is on the page, in words."""
        text = self.page(STATUS).text
        for expected in (
            "dtt: 1 of 1 topic joined",
            "garden party: joined, 1 neighbour.",
            "joined, 1 neighbour for 10 minutes. It has a neighbour",
            "6161616161 quic 203.0.113.7:7000 12.3 ms",
            "record_slot 2 0 1 1 0 0",
            "2 other members in the last two minutes; 1 that our secret does not decrypt; 4 refused",
            "ours is stored on 3 DHT nodes",
            "Messages: 7 sent, 9 received.",
            "ipv4: symmetric (4 networks agree)",
            "UDP 6881 has the external address 203.0.113.1:6881 (PCP)",
            "answers; 150 nodes known",
            "We are linked to 6161616161. 6161616161 and 6262626262 are linked",
            "Running for 15 minutes",
            "49 known.",
        ):
            self.assertIn(expected, text)
        self.assertNotIn(f"{49 - SHOWN_EVENTS} known.", text)

    def test_strict(self) -> None:
        """Nothing is inline, nothing comes from elsewhere, and every reference has its element."""
        found = self.page(STATUS)
        self.assertEqual([name for name in found.attributes if name == "style" or name.startswith("on")], [])
        self.assertNotIn("style", found.elements)
        self.assertEqual(found.elements.count("script"), 1)
        self.assertEqual([url for url in found.urls if ":" in url or url.startswith("/")], [])
        self.assertEqual(len(found.ids), len(set(found.ids)))
        self.assertEqual([name for name in found.references if name not in found.ids], [])
        self.assertNotIn("<script></script>", self.html)

    def test_escaped(self) -> None:
        """What others have chosen is text."""
        evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
        topic = evolve(
            TOPIC,
            label=evil,
            doing=evil,
            reason=evil,
            neighbors=(evolve(TOPIC.neighbors[0], address=evil, transport=evil, found_by=evil),),
        )
        event = EventStatus(time=1.0, name=evil, text=evil, topic=topic.topic_id, is_warning=True)
        found = self.page(evolve(STATUS, topics=(topic,), events=(event,)))
        self.assertEqual(found.elements.count("script"), 1)
        self.assertNotIn("img", found.elements)
        self.assertNotIn("onerror", found.attributes)

    def test_empty(self) -> None:
        """A tracker that has not started and has no topics has a page, too."""
        dht = DHTStatus(ready=False, node_id=b"n" * 20, port=0)
        status = TrackerStatus(
            version="1", peer_id=US, state="not running", time=1.0, started=None, uptime=0.0, dht=dht
        )
        text = self.page(status).text
        for expected in ("No topic is joined.", "Nothing has happened yet.", "no node has answered"):
            self.assertIn(expected, text)

    def test_states(self) -> None:
        """Each state has its words."""
        for state, expected in (
            ("searching", "searching for 10 minutes. It searches: 3 reads. Why: nobody is there."),
            ("waiting", "waiting for 10 minutes."),
            ("stopped", "stopped."),
        ):
            topic = evolve(
                TOPIC,
                state=state,
                doing="searches: 3 reads",
                reason="nobody is there",
                neighbors=(),
                finds=(),
            )
            text = self.page(evolve(STATUS, topics=(topic,))).text
            self.assertIn(expected, text)
            self.assertIn("No neighbours. ", text)

    def test_no_secret(self) -> None:
        """A topic without a secret is warned of."""
        self.assertIn(
            "It has no secret", self.page(evolve(STATUS, topics=(evolve(TOPIC, has_secret=False),))).text
        )

    def test_many(self) -> None:
        """However many members there are, the picture stays small."""
        peers = tuple(bytes([n]) * 32 for n in range(200))
        topic = evolve(
            TOPIC, records=RecordsStatus(recent=tuple(record(peer, *peers) for peer in peers[:64]))
        )
        found = self.page(evolve(STATUS, topics=(topic,)))
        self.assertEqual(found.elements.count("circle"), MAX_NODES + 1)

    def test_ago(self) -> None:
        """Times are in the largest unit of which there are two."""
        for seconds, text in (
            (-1, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (400000, "4 days"),
        ):
            self.assertEqual(ago(seconds), text)


class FilesTests(WebTestCase):
    """
    The served page and its files.
    """

    def test_served(self) -> None:
        """The page is served with a policy that allows nothing but its own files."""
        self.served.join("garden party", b"secret")
        self.net.advance(15)
        answer = self.ask("/")
        self.assertEqual(answer.status, 200)
        policy = answer.headers["content-security-policy"]
        self.assertTrue(policy.startswith("default-src 'none';"))
        self.assertNotIn("unsafe", policy)
        for url in Page(answer.body.decode()).urls:
            if not url.startswith("#"):
                self.assertEqual(self.ask(f"/{url}").status, 200, url)

    def test_types(self) -> None:
        """The files have their media types, and load nothing from elsewhere."""
        for name, content_type in FILES.items():
            answer = self.ask(f"/{name}")
            self.assertEqual((answer.headers["content-type"], answer.body), (content_type, read(name)))
            text = answer.body.decode().replace("http://www.w3.org/2000/svg", "")
            self.assertNotIn("//", text.replace("\n// ", "").removeprefix("// "), name)
        ElementTree.fromstring(read("icon.svg"))
