"""
Tests for L{dtt.testing.vast.manners} and L{dtt.testing.vast.storage}: the rows
of the table of docs/protocol/dht.md, section 1.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.items import MAX_SEQ, MutableItem, immutable_target, mutable_target, sign
from dtt.testing.vast import VastDHT
from dtt.testing.vast.manners import MANNERS
from dtt.testing.vast.storage import BoundedStore
from tests.testing.vast.common import SEED, TARGET, Asker, item, outcome

#: The order of the columns below.
NAMES = ("libtorrent", "mainline", "bittorrent-dht", "dtt")

NODE = 4711


class MannersTests(SynchronousTestCase):
    """
    One node with each behaviour.
    """

    def setUp(self) -> None:
        """Create a DHT for each behaviour."""
        self.askers = {name: Asker(VastDHT(20, manners={name: 1.0})) for name in MANNERS}

    def each(self, question: Any) -> list[Any]:
        """The results of a check for each implementation that supports BEP44."""
        return [question(self.askers[name]) for name in NAMES]

    def value(self, asker: Asker, **more: Any) -> Any:
        """The stored value."""
        return asker.node(NODE, "get", target=TARGET, **more)[b"r"].get(b"v")

    def test_equal_seq(self) -> None:
        """A put of another value with an equal seq: ignored silently, replaced, 302, 302."""

        def question(asker: Asker) -> Any:
            self.assertIs(asker.put(NODE, item(b"old")), True)
            return asker.put(NODE, item(b"new")), self.value(asker)

        self.assertEqual(self.each(question), [(True, b"old"), (True, b"new"), (302, b"old"), (302, b"old")])

    def test_same_value(self) -> None:
        """A put of the same value again: 302 only from bittorrent-dht."""

        def question(asker: Asker) -> Any:
            asker.put(NODE, item(b"old"))
            return asker.put(NODE, item(b"old"))

        self.assertEqual(self.each(question), [True, True, 302, True])

    def test_highest_seq(self) -> None:
        """A put with the greatest seq: no reply from bittorrent-dht."""
        self.assertEqual(
            self.each(lambda asker: asker.put(NODE, item(b"x", MAX_SEQ))), [True, True, None, True]
        )

    def test_lower_seq(self) -> None:
        """A put with a lower seq gives 302."""

        def question(asker: Asker) -> Any:
            asker.put(NODE, item(b"old", 5))
            return asker.put(NODE, item(b"new", 4)), self.value(asker)

        self.assertEqual(self.each(question), [(302, b"old")] * 4)

    def test_cas(self) -> None:
        """A mismatch of cas gives 301, even with a lower seq, but not in an empty slot."""

        def question(asker: Asker) -> Any:
            return [
                asker.put(NODE, item(b"first", 5), cas=3),
                asker.put(NODE, item(b"second", 4), cas=4),
                asker.put(NODE, item(b"third", 6), cas=0),
                asker.put(NODE, item(b"fourth", 6), cas=5),
            ]

        self.assertEqual(self.each(question), [[True, 301, 301, True]] * 4)

    def test_token(self) -> None:
        """A bad token gives 203; one up to five minutes old is valid; another address has other tokens."""

        def question(asker: Asker) -> Any:
            token = asker.token(NODE, TARGET)
            bad = asker.put(NODE, item(b"x"), token=b"bad")
            asker.now += 300
            old = asker.put(NODE, item(b"x"), token=token)
            asker.now += 300
            stale = asker.put(NODE, item(b"x", 2), token=token)
            other = Asker(asker.dht, ("45.9.9.9", 1)).put(
                NODE, item(b"x", 3), token=asker.token(NODE, TARGET)
            )
            return bad, old, stale, other

        self.assertEqual(self.each(question), [(203, True, 203, 203)] * 4)

    def test_signature(self) -> None:
        """A bad signature gives 206; bittorrent-dht does not reply."""
        self.assertEqual(
            self.each(lambda asker: asker.put(NODE, item(b"x"), sig=bytes(64))), [206, 206, None, 206]
        )

    def test_size(self) -> None:
        """A value that is too big gives 205: more than 1000 bytes bencoded, or raw."""

        def question(asker: Asker) -> Any:
            found = []
            for size in (996, 997, 1000, 1001):
                encoded = Encoded(encode(b"x" * size))
                good = MutableItem(
                    item(b"").public_key, b"salt", size, encoded, sign(SEED, b"salt", size, encoded)
                )
                found.append(asker.put(NODE, good))
            return found

        tight, raw = [True, 205, 205, 205], [True, True, True, 205]
        self.assertEqual(self.each(question), [tight, raw, raw, tight])

    def test_salt(self) -> None:
        """A salt of more than 64 bytes gives 207; bittorrent-dht accepts it."""

        def question(asker: Asker) -> Any:
            encoded, salt = Encoded(b"1:x"), b"s" * 65
            return asker.put(
                NODE, MutableItem(item(b"").public_key, salt, 1, encoded, sign(SEED, salt, 1, encoded))
            )

        self.assertEqual(self.each(question), [207, 207, True, 207])

    def test_get_with_seq(self) -> None:
        """
        A client with the same seq gets only seq, token and nodes; bittorrent-dht always
        sends the value.
        """

        def question(asker: Asker) -> Any:
            asker.put(NODE, item(b"old", 5))
            self.assertEqual(self.value(asker, seq=4), b"old")
            return sorted(asker.node(NODE, "get", target=TARGET, seq=5)[b"r"])

        short = [b"id", b"nodes", b"seq", b"token"]
        self.assertEqual(
            self.each(question), [short, short, [b"id", b"k", b"seq", b"sig", b"token", b"v"], short]
        )

    def test_nodes(self) -> None:
        """The number of nodes in a reply without and with a value: 8, 20, none, 8."""

        def question(asker: Asker) -> Any:
            before = len(asker.node(NODE, "get", target=TARGET)[b"r"][b"nodes"]) // 26
            asker.put(NODE, item(b"x"))
            after = asker.node(NODE, "get", target=TARGET)[b"r"].get(b"nodes", b"")
            return before, len(after) // 26

        self.assertEqual(self.each(question), [(8, 8), (20, 20), (20, 0), (8, 8)])

    def test_immutable(self) -> None:
        """An immutable item is stored under its hash."""

        def question(asker: Asker) -> Any:
            target = immutable_target(b"5:hello")
            token = asker.token(NODE, target)
            stored = outcome(asker.node(NODE, "put", v=b"hello", token=token, target=target))
            reply = asker.node(NODE, "get", target=target)[b"r"]
            self.assertEqual(asker.dht.holders(target), {NODE: b"5:hello"})
            return stored, reply[b"v"], b"k" in reply

        self.assertEqual(self.each(question), [(True, b"hello", False)] * 4)

    def test_shadowing(self) -> None:
        """
        libtorrent stores an unsigned put under the mutable target; a get with seq returns
        the real item.
        """
        asker = self.askers["libtorrent"]
        asker.put(NODE, item(b"real"))
        key = item(b"").public_key
        token = asker.token(NODE, TARGET)
        self.assertIs(outcome(asker.node(NODE, "put", k=key, salt=b"salt", v=b"shadow", token=token)), True)
        self.assertEqual(self.value(asker), b"shadow")
        self.assertEqual(self.value(asker, seq=0), b"real")
        self.assertEqual(mutable_target(key, b"salt"), TARGET)
        for name in NAMES[1:]:
            other = self.askers[name]
            arguments = {"k": key, "salt": b"salt", "v": b"x", "target": TARGET}
            self.assertEqual(
                outcome(other.node(NODE, "put", **arguments, token=other.token(NODE, TARGET))), 203
            )

    def test_versions(self) -> None:
        """C{v} is sent as configured, and so is C{ip}, which some implementations omit."""
        found = {}
        for name, asker in self.askers.items():
            reply = asker.node(NODE, "ping")
            self.assertEqual(sorted(reply[b"r"]), [b"id"])
            found[name] = reply.get(b"v"), b"ip" in reply
        self.assertEqual(
            found,
            {
                "libtorrent": (b"LT\x02\x01", True),
                "mainline": (b"RS\x00\x05", True),
                "bittorrent-dht": (None, False),
                "dtt": (b"DT\x00\x01", True),
                "jech": (b"JC\x00\x00", False),
            },
        )

    def test_strict(self) -> None:
        """mainline drops a put without a target; others accept it."""

        def question(asker: Asker) -> Any:
            arguments = {name.decode("ascii"): value for name, value in item(b"x").arguments().items()}
            return outcome(asker.node(NODE, "put", **arguments, token=asker.token(NODE, TARGET)))

        self.assertEqual(self.each(question), [True, None, True, True])

    def test_jech(self) -> None:
        """jech/dht does not reply to BEP44 queries, but supports peers."""
        asker = self.askers["jech"]
        self.assertIsNone(asker.node(NODE, "get", target=TARGET))
        self.assertIsNone(asker.node(NODE, "put", target=TARGET, v=b"x"))
        self.assertEqual(len(asker.node(NODE, "find_node", target=TARGET)[b"r"][b"nodes"]), 8 * 26)
        self.assertIn(b"token", asker.node(NODE, "get_peers", info_hash=TARGET)[b"r"])

    def test_peers(self) -> None:
        """All implementations store peers; bittorrent-dht sends no nodes with them."""
        for name, asker in self.askers.items():
            token = asker.node(NODE, "get_peers", info_hash=TARGET)[b"r"][b"token"]
            for more in ({"port": 77}, {"port": 1, "implied_port": 1}):
                reply = asker.node(NODE, "announce_peer", info_hash=TARGET, token=token, **more)
                self.assertIs(outcome(reply), True)
            bad = asker.node(NODE, "announce_peer", info_hash=TARGET, token=b"bad", port=1)
            self.assertEqual(outcome(bad), 203)
            found = asker.node(NODE, "get_peers", info_hash=TARGET)[b"r"]
            ip = bytes((45, 0, 0, 1))
            self.assertEqual(found[b"values"], [ip + (77).to_bytes(2), ip + (4000).to_bytes(2)])
            self.assertEqual(b"nodes" in found, name != "bittorrent-dht")

    def test_samples(self) -> None:
        """libtorrent and dtt support C{sample_infohashes}; others do not reply."""
        for name, asker in self.askers.items():
            token = asker.node(NODE, "get_peers", info_hash=TARGET)[b"r"][b"token"]
            asker.node(NODE, "announce_peer", info_hash=TARGET, token=token, port=77)
            reply = asker.node(NODE, "sample_infohashes", target=TARGET)
            if name in ("libtorrent", "dtt"):
                self.assertEqual((reply[b"r"][b"num"], reply[b"r"][b"samples"]), (1, TARGET))
            else:
                self.assertIsNone(reply)

    def test_unknown(self) -> None:
        """
        An unknown query gives 203 from libtorrent, 204 from dtt, nodes if there is a
        target; others do not reply.
        """
        found = [outcome(self.askers[name].node(NODE, "vote")) for name in MANNERS]
        self.assertEqual(found, [203, None, None, 204, None])
        for name in ("libtorrent", "dtt"):
            self.assertIn(b"nodes", self.askers[name].node(NODE, "vote", info_hash=TARGET)[b"r"])

    def test_malformed(self) -> None:
        """A missing target gives 203."""
        self.assertEqual(outcome(self.askers["libtorrent"].node(NODE, "find_node")), 203)

    def test_mix(self) -> None:
        """Each node has one behaviour; the shares must add up to 1, and the names must be known."""
        dht = VastDHT(20, manners={"libtorrent": 0.7, "mainline": 0.2, "jech": 0.1})
        found = [dht.manner(number) for number in range(5000)]
        self.assertApproximates(found.count(MANNERS["libtorrent"]) / 5000, 0.7, 0.03)
        self.assertApproximates(found.count(MANNERS["mainline"]) / 5000, 0.2, 0.03)
        self.assertRaises(ValueError, VastDHT, manners={"libtorrent": 0.9})
        self.assertRaises(ValueError, VastDHT, manners={"nobody": 1.0})


class ShelfTests(SynchronousTestCase):
    """
    Bounds.
    """

    def test_full(self) -> None:
        """The oldest entry is evicted; a replaced one keeps its position."""
        shelf: BoundedStore[int] = BoundedStore(2)
        for number, value in ((1, 1), (2, 2), (1, 3), (3, 4)):
            shelf.put(number, TARGET, value)
        self.assertEqual(shelf.at(TARGET), {2: 2, 3: 4})
        self.assertEqual((len(shelf), shelf.of(3), shelf.get(1, TARGET)), (2, [TARGET], None))
