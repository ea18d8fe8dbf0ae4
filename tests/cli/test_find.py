"""
Tests for L{dtt.cli.find}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dtt.app.options import TopicSettings
from dtt.cli.commands import NOT_FOUND, run
from dtt.cli.find import AnnounceOptions, FindOptions, row
from dtt.config import Config, DHTConfig, DiscoveryConfig
from dtt.errors import LookupFailed
from dtt.identity import PeerKey
from dtt.records.record import GossipContent
from dtt.records.topic import TopicId
from dtt.tracker.discover import DiscoveryService, Found
from dtt.tracker.tracker import Tracker
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.cli.common import FIRST, CommandTestCase, DHTTestCase

TOPIC = TopicId.from_name("garden party")
KEYS = [PeerKey.from_seed(bytes((number,)) * 32) for number in range(1, 4)]
MEMBER = GossipContent((KEYS[1].peer_id,), (), (PeerAddress(STREAMS, "198.18.0.1", 5),)).encode()


class FindTests(DHTTestCase):
    """
    Tests for both commands on a DHT in memory.
    """

    def asked(self, options: Any, *arguments: str, secret: bytes = b"s", host: str = "10.1.1.2") -> Any:
        """Run a command on a machine of its own, and return its Deferred."""
        options.parseOptions([*arguments, "--bind", host, "--bootstrap", f"{FIRST}:6881", "x"])
        options.topic = TopicSettings("x", TOPIC, secret)
        reactor = self.network.reactor(host)
        tracker = options.tracker(reactor)
        tracker.startService()
        running = Deferred.fromCoroutine(options.ask(reactor, tracker))
        running.addBoth(lambda result: tracker.stopService().addCallback(lambda _: result))
        return running

    def announcing(self, content: bytes, key: PeerKey, *arguments: str, **kw: Any) -> Deferred[int]:
        """Announce a content."""
        options = AnnounceOptions()
        options.content, options.key = content, key
        running: Deferred[int] = self.asked(options, "--content", "x", *arguments, **kw)
        return running

    def publisher(self, number: int, content: bytes, **config: Any) -> DiscoveryService:
        """Publish with a tracker."""
        dht = DHTConfig(bind=f"10.2.{number}.1", bootstrap=((FIRST, 6881),))
        tracker = Tracker(
            self.network.reactor(f"10.2.{number}.1"),
            Config(transport=(), dht=dht, **config),
            lambda event: None,
            key=KEYS[number],
        )
        self.addCleanup(self.network.advance, 3)
        self.addCleanup(tracker.stopService)
        service = tracker.discover(TOPIC, secret=b"s", content=content)
        tracker.startService()
        return service

    def find(self, *arguments: str, secret: bytes = b"s") -> tuple[int, list[dict[str, Any]]]:
        """Return the exit code, and what was found."""
        self.printed()
        finding = self.asked(FindOptions(), "--json", *arguments, secret=secret)
        self.network.advance(25)
        lines = [line for line in self.printed() if line.startswith("{")]
        return self.successResultOf(finding), sorted(map(json.loads, lines), key=str)

    def test_found(self) -> None:
        """Members and announced contents are found, each once."""
        for number, content in enumerate((b"caf\xc3\xa9", MEMBER, b"\xff\x00")):
            self.publisher(number, content)
        self.network.advance(5)
        code, found = self.find()
        self.assertEqual(code, 0)
        by_id = {each.pop("publisher"): each for each in found}
        self.assertEqual(len(by_id), len(found))
        self.assertEqual(set(by_id), {key.peer_id.hex() for key in KEYS})
        for each in found:
            del each["unix_minute"], each["channel"]
        self.assertEqual(by_id[KEYS[0].peer_id.hex()], {"content": "café"})
        self.assertEqual(by_id[KEYS[2].peer_id.hex()], {"content_hex": "ff00"})
        self.assertEqual(
            by_id[KEYS[1].peer_id.hex()],
            {"neighbors": [KEYS[1].peer_id.hex()], "addresses": ["198.18.0.1:5"]},
        )

    def test_sealed_only(self) -> None:
        """A member whose record is only in the sealed slot is found."""
        service = self.publisher(0, b"x")
        self.patch(service._channels.records, "publish", nowhere)
        self.network.advance(60)
        code, found = self.find()
        self.assertEqual((code, [each["channel"] for each in found]), (0, ["sealed_slot"]))

    def test_public_only(self) -> None:
        """So is one whose record is only in the public slot, as that of a Rust program."""
        self.publisher(0, b"x", discovery=DiscoveryConfig(sealed=False))
        self.network.advance(5)
        code, found = self.find()
        self.assertEqual((code, [each["channel"] for each in found]), (0, ["record_slot"]))

    def test_local_network(self) -> None:
        """Those in the local network are found although no DHT node answers."""
        self.network.lan.connect("10.1.1.2", "10.2.0.1")
        self.publisher(0, b"x")
        self.network.advance(5)
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        code, found = self.find()
        self.assertEqual((code, [each["channel"] for each in found]), (0, ["local_network"]))
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_nobody(self) -> None:
        """If nobody is there, it looks again until the time is over; a wrong secret is said."""
        self.assertEqual(self.find(), (NOT_FOUND, []))
        self.assertIn("nobody was found within 20 s\n", self.err.getvalue())
        self.publisher(0, b"x")
        self.network.advance(5)
        self.assertEqual(self.find(secret=b"other"), (NOT_FOUND, []))
        self.assertIn("1 record that our secret does not decrypt", self.err.getvalue())

    def test_late(self) -> None:
        """Somebody who comes while it looks is found."""
        finding = self.asked(FindOptions(), "--json")
        self.network.advance(5)
        self.assertNoResult(finding)
        self.publisher(0, b"x")
        self.network.advance(12)
        self.assertEqual(self.successResultOf(finding), 0)

    def test_announce(self) -> None:
        """An announced content is put into both slots with a secret, into one without."""
        for number, (secret, channels) in enumerate(
            ((b"s", {"record_slot", "sealed_slot"}), (b"", {"record_slot"}))
        ):
            self.printed()
            announcing = self.announcing(
                b"x", KEYS[0], "--once", "--json", secret=secret, host=f"10.3.{number}.1"
            )
            self.network.advance(12)
            self.assertEqual(self.successResultOf(announcing), 0)
            lines = [json.loads(line) for line in self.printed()]
            self.assertEqual({line["channel"] for line in lines}, channels)
            self.assertEqual({line["publisher"] for line in lines}, {KEYS[0].peer_id.hex()})
            self.assertTrue(all(line["stored"] for line in lines))
        self.assertEqual(self.find()[0], 0)

    def test_stays(self) -> None:
        """Without --once the content stays there, until Ctrl-C, which is no error."""
        announcing = self.announcing(b"x", KEYS[0], host="10.3.0.1")
        self.network.advance(200)
        self.assertIn("stored on", self.printed()[0])
        self.assertNoResult(announcing)
        self.assertEqual(self.find()[0], 0)
        announcing.cancel()
        self.network.advance(3)
        self.assertEqual(self.successResultOf(announcing), 0)

    def test_no_dht(self) -> None:
        """If no node answers, the time-out is an error."""
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        announcing = self.announcing(b"x", KEYS[0], "--timeout", "20")
        finding = self.asked(FindOptions(), host="10.1.1.3")
        self.network.advance(25)
        for running in (announcing, finding):
            self.assertIn("within 20 s", str(self.failureResultOf(running, LookupFailed).value))
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")


async def nowhere(*arguments: object) -> int:
    """Store nothing."""
    return 0


class ArgumentTests(CommandTestCase):
    """
    Tests for what is given and shown.
    """

    def test_row(self) -> None:
        """What was found is one line, whatever it contains, and no longer than the terminal is wide."""
        publisher = Found(b"\x11" * 32, b"a\nb\x1b[2J" + b"x" * 100, 5, "record_slot")
        self.assertEqual(row(publisher, 30), "1111111111  a\ufffdb\ufffd[2Jxxxxxxxx...")
        self.assertEqual(row(Found(b"\x11" * 32, b"text\n", 5, "record_slot"), 30), "1111111111  text")
        self.assertEqual(
            row(Found(b"\x11" * 32, MEMBER, 5, "record_slot"), 100),
            "1111111111  member with 1 neighbour, at 198.18.0.1:5",
        )

    def test_wrong(self) -> None:
        """Wrong arguments are one line."""
        large = Path(self.mktemp())
        large.write_bytes(b"x" * 713)
        for words, code in (
            (["find"], 2),
            (["find", "a", "b"], 2),
            (["find", "x", "--ticket-file", "y"], 2),
            (["find", "--ticket-file", "y", "--secret-file", "z"], 2),
            (["find", "--ticket-file", "nowhere"], 1),
            (["find", " "], 2),
            (["find", "x", "--bind", "::1"], 2),
            (["find", "x", "--bind", "localhost"], 2),
            (["announce", "x"], 2),
            (["announce", "x", "--content", "nowhere"], 1),
            (["announce", "x", "--content", os.curdir], 1),
            (["announce", "x", "--content", str(large)], 2),
            (["announce", "x", "--content", "-", "--secret-file", "-"], 2),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(words), code, words)
            self.assertRegex(self.err.getvalue(), r"dtt: [^\n]+\n\Z", str(words))
