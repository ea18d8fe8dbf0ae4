"""
Tests for L{dtt.testing.vast.dht}.
"""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.ids import distance
from dtt.krpc.compact import decode_nodes
from dtt.krpc.messages import encode_query
from dtt.testing.vast import VastDHT, member_host
from tests.sweeps import thorough
from tests.testing.vast.common import MEMBER, TARGET, Asker, item


class VastDHTTests(SynchronousTestCase):
    """
    The complete DHT.
    """

    def test_lookup(self) -> None:
        """Step by step, the answers lead to the node that is truly nearest."""
        dht = VastDHT()
        asker, number = Asker(dht), 99
        for _ in range(12):
            (first, *_) = decode_nodes(asker.node(number, "find_node", target=TARGET)[b"r"][b"nodes"])
            found = dht.number_at(first.host, first.port)
            assert found is not None
            nearest = dht.contact(found)
            if distance(nearest.node_id, TARGET) >= distance(dht.contact(number).node_id, TARGET):
                break
            number = found
        self.assertEqual(dht.contact(number), dht.nearest(TARGET, 1)[0])

    def test_nearest(self) -> None:
        """The nearest nodes are in order of distance; silent nodes can be excluded."""
        dht = VastDHT(silent=0.5)
        found = dht.nearest(TARGET, 100, living=False)
        self.assertEqual(found, sorted(found, key=lambda node: distance(node.node_id, TARGET)))
        numbers = {node: dht.number_at(node.host, node.port) or 0 for node in found}
        living = [node for node in found if not dht.is_silent(numbers[node])]
        self.assertEqual(dht.nearest(TARGET, len(living)), living)
        self.assertTrue(30 < len(living) < 70)

    def test_silent(self) -> None:
        """The given share of nodes never answers."""
        dht = VastDHT(silent=0.35)
        asker = Asker(dht)
        replies = [asker.node(number, "ping") for number in range(2000)]
        self.assertApproximates(replies.count(None) / 2000, 0.35, 0.03)
        self.assertEqual([reply is None for reply in replies], [dht.is_silent(n) for n in range(2000)])

    def test_dead(self) -> None:
        """The given share of entries has an address at which there is no node."""
        dht = VastDHT(dead=0.2)
        asker, gone = Asker(dht), 0
        for number in range(500):
            for contact in decode_nodes(asker.node(number, "find_node", target=TARGET)[b"r"][b"nodes"]):
                if dht.number_at(contact.host, contact.port) is None:
                    gone += 1
                    self.assertTrue(dht.has(contact.host))
                    self.assertIsNone(asker.ask((contact.host, contact.port), "ping"))
        self.assertApproximates(gone / 4000, 0.2, 0.03)

    def test_has(self) -> None:
        """Members, private networks and IPv6 are not part of this DHT."""
        dht = VastDHT()
        self.assertTrue(dht.has(dht.contact(5).host))
        for host in (member_host(9), "127.0.0.1", "10.0.0.1", "192.168.1.1", "2001:db8::1", "224.0.0.1"):
            self.assertFalse(dht.has(host))

    def test_junk(self) -> None:
        """A datagram that is not a query gets no answer."""
        dht = VastDHT()
        contact = dht.contact(1)
        destination = (contact.host, contact.port)
        for junk in (b"", b"junk", b"d1:rd2:id20:" + b"x" * 20 + b"e1:t1:x1:y1:re"):
            self.assertIsNone(dht.answer(junk, MEMBER, destination, 0.0))

    def test_holders(self) -> None:
        """C{holders} returns the nodes that have an item; other nodes do not have it."""
        dht = VastDHT()
        asker = Asker(dht)
        for number in (5, 6):
            asker.put(number, item(b"x"))
        self.assertEqual(dht.holders(TARGET), {5: b"1:x", 6: b"1:x"})
        self.assertNotIn(b"v", asker.node(7, "get", target=TARGET)[b"r"])

    def test_deterministic(self) -> None:
        """The same seed gives the same bytes, in any process; another one gives others."""

        def digest(seed: int) -> str:
            dht = VastDHT(22, seed=seed, silent=0.3, secure=0.5, missing=0.1, dead=0.1)
            rng, whole = Random(1), sha256()
            for _ in range(200):
                contact, target = dht.contact(rng.randrange(2**22)), rng.randbytes(20)
                for destination in ((contact.host, contact.port), *dht.bootstrap):
                    query = encode_query(b"abcd", b"get", b"x" * 20, {b"target": target}, False)
                    whole.update(dht.answer(query, MEMBER, destination, rng.random() * 1e4) or b"silence")
            return whole.hexdigest()[:16]

        self.assertEqual(digest(0), "1b5662bd8b75b88b")
        self.assertNotEqual(digest(1), digest(0))

    @thorough
    def test_memory(self) -> None:
        """Replies leave nothing behind except bounded caches."""
        dht, rng = VastDHT(), Random(1)

        def ask(times: int) -> None:
            for _ in range(times):
                contact = dht.contact(rng.randrange(2**22))
                query = encode_query(b"abcd", b"find_node", b"x" * 20, {b"target": rng.randbytes(20)}, False)
                assert dht.answer(query, MEMBER, (contact.host, contact.port), 0.0)

        ask(4000)  # each takes 9 places, of which 32768 are cached
        tracemalloc.start()
        try:
            ask(500)
            before = tracemalloc.get_traced_memory()[0]
            ask(1000)
            self.assertLess(tracemalloc.get_traced_memory()[0] - before, 10_000_000)
        finally:
            tracemalloc.stop()

    def test_bad(self) -> None:
        """Impossible parameters are refused."""
        for bad in ({"silent": 1.5}, {"missing": 1.0}, {"dead": -1.0}, {"bits": 30}):
            self.assertRaises(ValueError, VastDHT, **bad)
