"""
Tests for the parts of examples/tahoe_grid, without Tahoe-LAFS; L{tests.interop.test_tahoe_grid}
runs a whole grid.
"""

from __future__ import annotations

import base64
import json
import zlib
from importlib.util import find_spec
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.contrib.latest import Entry, Limits
from dtt.identity import PeerKey
from tests.examples import load

KEY = PeerKey.from_seed(b"k" * 32)


def triple(content: object, key: PeerKey = KEY) -> tuple[bytes, bytes, bytes]:
    """
    Return what a Tahoe node sends to its introducer.
    """
    text = json.dumps(content).encode()

    def encoded(data: bytes) -> bytes:
        return b"v0-" + base64.b32encode(data).lower().rstrip(b"=")

    return text, encoded(key.sign(text)), encoded(key.peer_id)


def announced(number: int = 1, service: str = "storage", **more: object) -> tuple[bytes, bytes, bytes]:
    """
    Return an announcement as it should be.
    """
    furl = "pb://xextf3eap44o3wi27mf7ehiur6wvhzr6@tcp:127.0.0.1:1/abcdef"
    content = {"service-name": service, "seqnum": number, "nonce": "n", "anonymous-storage-FURL": furl}
    return triple({**content, **more})


class AnnouncementTests(SynchronousTestCase):
    """
    Tests for C{Announcement}.
    """

    def setUp(self) -> None:
        self.module: Any = load("tahoe_grid/announcement")

    def refused(self, call: Any, *arguments: object) -> None:
        """
        Check that something is refused.
        """
        self.assertRaises(self.module.BadAnnouncement, call, *arguments)

    def test_there_and_back(self) -> None:
        """
        An announcement survives the way over dtt unchanged.
        """
        for number in range(5):
            sent = announced(number, nickname="n" * number)
            announcement = self.module.Announcement.from_foolscap(sent)
            entry = Entry(announcement.author, announcement.number, announcement.value)
            self.assertEqual(self.module.Announcement.from_entry(entry).to_foolscap(), sent)
            self.assertLessEqual(len(entry.value), Limits().value)

    def test_forged(self) -> None:
        """
        Any change is noticed: of the text, the signature, the key, the number and the
        service.
        """
        good = self.module.Announcement.from_foolscap(announced())
        entry = Entry(good.author, good.number, good.value)
        text = good.text.replace(b"127.0.0.1", b"127.0.0.2")
        signature, compressed = good.value[:64], good.value[64:]
        other = PeerKey.from_seed(b"o" * 32)
        for forged in (
            Entry(good.author, 1, signature + zlib.compress(text)),
            Entry(good.author, 1, bytes((signature[0] ^ 1,)) + signature[1:] + compressed),
            Entry(other.peer_id + b"storage", 1, good.value),
            Entry(good.author, 2, good.value),
            Entry(KEY.peer_id + b"other", 1, good.value),
            Entry(good.author, 1, good.value[:-1]),
            Entry(good.author, 1, good.value + b"x"),
            Entry(good.author, 1, signature),
            Entry(good.author, 1, b""),
            Entry(b"short", 1, good.value),
        ):
            self.refused(self.module.Announcement.from_entry, forged)
        self.assertEqual(self.module.Announcement.from_entry(entry), good)

    def test_bomb(self) -> None:
        """
        A value that would be huge when decompressed is refused.
        """
        value = bytes(64) + zlib.compress(bytes(10**7))
        self.refused(self.module.Announcement.from_entry, Entry(KEY.peer_id + b"storage", 1, value))

    def test_malformed(self) -> None:
        """
        What is not an announcement is refused, also if it is signed.
        """
        parse = self.module.Announcement.from_foolscap
        text, signature, key = announced()
        for given in (
            None,
            (text, signature),
            (text, signature, None),
            (text, None, None),
            (text, b"v1-" + signature[3:], key),
            (text, b"v0-" + b"1" * 103, key),
            (text, signature, b"v0-" + b"a" * 500),
            (text.decode(), signature, key),
            triple([]),
            triple("text"),
            triple({"seqnum": 1}),
            triple({"service-name": "storage"}),
            triple({"service-name": "storage", "seqnum": -1}),
            triple({"service-name": "storage", "seqnum": 2**64}),
            triple({"service-name": "storage", "seqnum": "1"}),
            triple({"service-name": "s" * 33, "seqnum": 1}),
            triple({"service-name": 1, "seqnum": 1}),
            triple({"service-name": "storage", "seqnum": 1, "anonymous-storage-FURL": 5}),
            announced(nickname="x" * 20000),
        ):
            self.refused(parse, given)
        deep = b"[" * 10000
        signed = b"v0-" + base64.b32encode(KEY.sign(deep)).lower().rstrip(b"=")
        self.refused(parse, (deep, signed, key))


class Subscriber:
    """
    A node, as foolscap shows it.
    """

    def __init__(self, answer: Deferred[None] | None = None) -> None:
        self.told: list[tuple[str, Any]] = []
        self.gone: list[Any] = []
        self._answer = answer or succeed(None)

    def notifyOnDisconnect(self, call: Any, *arguments: object) -> None:
        self.gone.append(lambda: call(*arguments))

    def callRemote(self, name: str, announcements: Any) -> Deferred[None]:
        self.told.append((name, announcements))
        return self._answer


class LocalIntroducerTests(SynchronousTestCase):
    """
    Tests for C{LocalIntroducer}.
    """

    skip = None if find_spec("foolscap") else "foolscap is not installed (pip install '.[examples]')"

    def setUp(self) -> None:
        announcement = load("tahoe_grid/announcement").Announcement
        self.storage = announcement.from_foolscap(announced())
        self.other = announcement.from_foolscap(announced(service="other"))
        self.published: list[Any] = []
        self.introducer = load("tahoe_grid/introducer").LocalIntroducer(
            self.published.append, lambda: [self.storage, self.other]
        )

    def test_version(self) -> None:
        """
        It speaks the version that nodes ask for.
        """
        self.assertIn(
            b"http://allmydata.org/tahoe/protocols/introducer/v2", self.introducer.remote_get_version()
        )

    def test_publish(self) -> None:
        """
        What the node publishes is passed on, if it is an announcement.
        """
        self.introducer.remote_publish_v2(announced(), None)
        self.assertEqual(self.published, [self.storage])
        self.assertRaises(ValueError, self.introducer.remote_publish_v2, b"", None)

    def test_subscribe(self) -> None:
        """
        A subscriber gets the known announcements of its service, and later ones, until it is gone.
        """
        node = Subscriber()
        self.introducer.remote_subscribe_v2(node, b"storage", {})
        expected = ("announce_v2", {self.storage.to_foolscap()})
        self.assertEqual(node.told, [expected])
        self.introducer.announce(self.storage)
        self.introducer.announce(self.other)
        self.assertEqual(node.told, [expected] * 2)
        node.gone[0]()
        self.introducer.announce(self.storage)
        self.assertEqual(node.told, [expected] * 2)

    def test_node_refuses(self) -> None:
        """
        A node that refuses an announcement, or has gone meanwhile, harms nobody.
        """
        self.introducer.remote_subscribe_v2(Subscriber(fail(ZeroDivisionError())), b"storage", {})
        self.introducer.announce(self.storage)

    def test_limit(self) -> None:
        """
        There are only so many subscriptions.
        """
        for _ in range(16):
            self.introducer.remote_subscribe_v2(Subscriber(), b"storage", {})
        self.assertRaises(ValueError, self.introducer.remote_subscribe_v2, Subscriber(), b"storage", {})
