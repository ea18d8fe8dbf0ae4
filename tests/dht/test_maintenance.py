"""
Tests for L{dtt.dht.maintenance}.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.maintenance import MAX_PINGS
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import is_valid
from dtt.dht.routing.table import FRESH
from dtt.krpc.messages import Query, Response, decode, encode_query, encode_response
from tests.dht.network import PUBLIC_KEY, SALT, Network, outcome


class NeighbourhoodTests(SynchronousTestCase):
    """
    The upkeep of the routing table, BEP42 and BEP43.
    """

    def setUp(self) -> None:
        self.network = Network(6)
        self.addCleanup(lambda: self.network.stop())
        self.node = self.network.nodes[1]

    def test_full_mesh(self) -> None:
        """
        In a small network all nodes enter all tables.
        """
        self.assertEqual([len(node.table) for node in self.network.nodes], [5] * 6)

    def test_lookups_are_not_starved(self) -> None:
        """
        When answers have more than used up the upload, a lookup still queries as many
        nodes, immediately.
        """
        limits = self.node.responder.limits
        read = self.network.result(self.node.get_mutable(PUBLIC_KEY, SALT))
        now = self.network.clock.seconds()
        limits.charge(bytes(4), 1_000_000, now)
        self.assertFalse(limits.allows(bytes((10, 0, 0, 1)), now))
        self.network.udp.advance(11.0)
        again = outcome(self.node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.advance(1.0)
        self.assertFalse(limits.allows(bytes((10, 0, 0, 1)), self.network.clock.seconds()))
        self.assertEqual(len(again[0].answers), len(read.answers))
        self.assertEqual(len(read.answers), 5)

    def test_closed_network_on_one_host(self) -> None:
        """
        16 nodes on one address form a network.
        """
        network = Network(16, closed=True)
        read = network.result(network.nodes[0].get_mutable(PUBLIC_KEY, SALT))
        self.assertEqual(len(read.answers), 15)
        network.stop()

    def test_table_empties(self) -> None:
        """
        When all nodes have died the node bootstraps again, and finds the first one that
        returns.
        """
        self.network.udp.dead = {self.network.host(number) for number in (0, 2, 3, 4, 5)}
        for _ in range(3):
            outcome(self.node.get_mutable(PUBLIC_KEY, SALT))
            self.network.udp.advance(5.0)
        self.assertEqual(len(self.node.table), 0)
        ready = outcome(self.node.when_ready())
        self.network.udp.advance(200.0)
        self.assertEqual(ready, [])
        self.network.udp.dead.remove(self.network.host(3))
        self.network.udp.advance(80.0)
        self.assertEqual(ready, [1])

    def asked_again(self) -> set[str]:
        """
        Return the hosts that C{node} queries within the next second.
        """
        self.network.udp.log.clear()
        self.network.udp.advance(1.0)
        sources = {(self.network.host(1), self.node.port)}
        return {each.destination[0] for each in self.network.udp.log if each.source in sources}

    def test_sleep(self) -> None:
        """
        When the machine was suspended, or its clock jumps, all known nodes and
        bootstrap hosts are queried concurrently, and the known nodes are kept.
        """
        everybody = {self.network.host(number) for number in (0, 2, 3, 4, 5)}
        self.network.udp.advance(60.0)
        self.assertNotEqual(self.asked_again(), everybody)
        self.network.clock.advance(300.0)
        self.assertTrue(self.node.sides[0].ready)
        self.assertEqual(self.asked_again(), everybody)
        self.assertEqual(len(self.node.table), 5)
        self.assertFalse(self.node.sides[0]._bootstrap.running)

    def test_silence(self) -> None:
        """
        When responses stop, the node bootstraps again before each node of the table has
        failed twice; a response ends that.
        """
        network = Network(40, seed=9)
        node = network.nodes[1]
        network.udp.dead = {network.host(number) for number in range(40) if number != 1}
        lookups = 0
        while not node.sides[0]._bootstrap.running:
            lookups += 1
            outcome(node.get_mutable(PUBLIC_KEY, SALT))
            network.udp.advance(3.0)
        self.assertLessEqual(lookups, 2)
        self.assertGreater(len(node.table), 8)
        self.assertTrue(node.sides[0].ready)
        network.udp.dead = set()
        network.udp.advance(5.0)
        self.assertFalse(node.sides[0]._bootstrap.running)
        self.assertEqual(len(network.result(node.get_mutable(PUBLIC_KEY, SALT)).answers), 32)
        network.stop()

    def test_refresh(self) -> None:
        """
        After 15 minutes of silence the buckets are refreshed.
        """
        network = Network(10)
        self.addCleanup(network.stop)
        sent = network.nodes[1].krpc.counters
        before = sent["sent_find_node"]
        network.udp.advance(FRESH - 61)
        self.assertEqual(sent["sent_find_node"], before)
        network.udp.advance(122.0)
        self.assertGreater(sent["sent_find_node"], before)

    def test_few_nodes(self) -> None:
        """
        A node whose neighbours were too busy to answer at first has a bucketful of them
        a little later.
        """
        network = Network(10)
        self.addCleanup(network.stop)
        now = network.clock.seconds()
        for node in network.nodes[1:]:
            node.responder.limits.charge(bytes(4), 60_000, now)
        newcomer = network.node()
        network.udp.advance(5.0)
        self.assertEqual(len(newcomer.table), 1)
        network.udp.advance(26.0)
        self.assertGreaterEqual(len(newcomer.table), K)

    def test_ever_fewer_searches(self) -> None:
        """
        In a network of few nodes, the node looks for more at growing intervals, up to
        15 minutes.
        """
        sent = self.node.krpc.counters
        before = sent["sent_find_node"]
        searches = []
        for _ in range(3600 // 10):
            self.network.udp.advance(10.0)
            searches.append(sent["sent_find_node"] - before)
        at = [10 * number for number, (a, b) in enumerate(pairwise([0, *searches]), 1) if b > a]
        pauses = [b - a for a, b in pairwise([0, *at])]
        for pause, expected in zip(pauses, (10, 20, 40, 80, 160, 320), strict=False):
            self.assertIn(pause, (expected, expected + 10))
        self.assertGreaterEqual(len(pauses), 8)
        self.assertLess(len(pauses), 20)

    def test_read_only_nodes_stay_out(self) -> None:
        """
        A read-only node is answered, but neither pinged nor added to the table.
        """
        stranger = self.network.udp.reactor("10.50.0.1")
        replies: list[bytes] = []

        class Protocol(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: object) -> None:
                replies.append(datagram)

        port = stranger.listenUDP(1, Protocol())
        for read_only, expected in ((True, 1), (False, 3)):
            port.write(
                encode_query(b"tttt", b"ping", b"s" * 20, {}, read_only),
                (self.network.host(1), self.node.port),
            )
            self.network.udp.advance(1.0)
            self.assertEqual(len(replies), expected)
        self.assertEqual([type(decode(reply)) for reply in replies].count(Query), 1)

    def test_pings_are_bounded(self) -> None:
        """
        A flood of queries from unknown nodes triggers a bounded number of pings.
        """
        before = self.node.krpc.counters["sent_ping"]
        rng = Random(3)
        for number in range(200):
            query = Query(b"tttt", b"ping", rng.randbytes(20), {}, False, b"")
            self.node._neighbourhood.answer(query, f"10.60.{number}.1", 1)
        self.assertEqual(self.node.krpc.counters["sent_ping"] - before, MAX_PINGS)

    def test_forged_queries_use_up_no_budget(self) -> None:
        """
        Queries in a node's name, with ever new ids, leave us free to query this node.
        """
        rng = Random(4)
        for _ in range(300):
            query = Query(b"tttt", b"ping", rng.randbytes(20), {}, False, b"")
            self.node._neighbourhood.answer(query, "10.60.0.1", 1)
            self.assertTrue(self.node.krpc.may_query("10.60.0.1", 1))
            self.network.udp.advance(0.1)
        self.assertGreater(self.node.krpc.counters["sent_ping"], 5)

    def test_read_only_rule(self) -> None:
        """
        After 5 minutes without an unsolicited query we are read-only; the next such
        query ends that. Plain nodes never are.
        """
        plain = self.network.node(plain=True)
        self.network.udp.advance(0.1)
        self.assertFalse(self.node.krpc.read_only)
        self.network.udp.advance(420.0)
        self.assertTrue(self.node.krpc.read_only)
        self.assertFalse(plain.krpc.read_only)
        query = Query(b"tttt", b"ping", b"s" * 20, {}, False, b"")
        self.node._neighbourhood.answer(query, self.network.host(0), 1)
        self.assertTrue(self.node.krpc.read_only)
        self.node._neighbourhood.answer(query, "10.70.0.1", 1)
        self.assertFalse(self.node.krpc.read_only)

    def test_external_address(self) -> None:
        """
        When the hosts agree on our external address, we adopt an id that is valid
        there, and keep our nodes.
        """
        reported: list[str] = []
        self.node = self.network.node()
        self.node.observe(reported.append)
        self.network.udp.advance(1.0)
        before = self.node.node_id
        ip = bytes((203, 0, 113, 9))
        for number in range(8):
            response = Response(
                b"tttt", bytes((32 * number,)) + bytes((number,)) * 19, {}, b"", ip + b"\x1a\xe1"
            )
            self.node._neighbourhood.seen(response, f"10.80.{number}.1", 1)
        self.network.udp.advance(1.0)
        self.assertEqual(reported, [])
        # The majority has to last.
        self.network.udp.advance(15.0)
        self.assertEqual(reported[-1], "203.0.113.9")
        self.assertNotEqual(self.node.node_id, before)
        self.assertTrue(is_valid(self.node.node_id, "203.0.113.9"))
        self.assertEqual(self.node.table.own_id, self.node.node_id)
        self.assertEqual(self.node.krpc.node_id, self.node.node_id)
        self.assertEqual(self.node.responder.node_id, self.node.node_id)
        self.assertEqual(len(self.node.table), 14)
        self.network.udp.advance(1.0)
        read = self.network.result(self.node.get_mutable(PUBLIC_KEY, SALT))
        hosts = {answer.contact.host for answer in read.answers}
        self.assertEqual(hosts, {self.network.host(number) for number in range(6)})

    def vote(self, host: str, ip: bytes) -> None:
        """
        Let a node at an address respond, and report our address.
        """
        node_id = bytes((int(host.split(".")[2]) * 8 % 256,)) + host.encode().ljust(19)
        self.node._neighbourhood.seen(Response(b"tttt", node_id, {}, b"", ip + b"\x1a\xe1"), host, 1)

    def test_local_addresses_are_not_elected(self) -> None:
        """
        We are never at an address of a local scope, whatever the votes.
        """
        reported: list[str] = []
        self.node = self.network.node()
        self.node.observe(reported.append)
        before = self.node.node_id
        for host in ("127.0.0.1", "169.254.169.254", "224.0.0.1", "10.0.0.1", "0.0.0.0", "255.255.255.255"):
            for number in range(30):
                self.vote(f"10.80.{number}.1", bytes(map(int, host.split("."))))
            self.network.udp.advance(60.0)
        self.assertEqual((reported, self.node.external_host, self.node.node_id), ([], None, before))

    def test_only_nodes_in_the_table_vote(self) -> None:
        """
        Nodes for which there is no place in the table have no vote.
        """
        self.node = self.network.node()
        self.network.udp.advance(1.0)
        for number in range(20):
            # All claim the id of a node in the table.
            node_id = self.node.table.contacts()[0].node_id
            response = Response(b"tttt", node_id, {}, b"", bytes((203, 0, 113, 9, 1, 1)))
            self.node._neighbourhood.seen(response, f"10.80.{number}.1", 1)
        self.network.udp.advance(60.0)
        self.assertIsNone(self.node.external_host)

    def test_who_queries_us_does_not_vote(self) -> None:
        """
        Nodes of many networks that query us, and are therefore pinged, elect nothing,
        neither by their responses to the pings nor later.
        """
        lie = bytes((203, 0, 113, 9, 1, 1))

        class Voter(DatagramProtocol):
            """
            Reports a false address.
            """

            def __init__(self, node_id: bytes) -> None:
                self.node_id = node_id
                self.asked = 0

            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                """
                Answer a query.
                """
                message = decode(datagram)
                if isinstance(message, Query) and self.transport is not None:
                    self.asked += 1
                    reply = encode_response(message.transaction, self.node_id, {b"nodes": b""}, lie)
                    self.transport.write(reply, addr)

        voters = []
        node = self.node
        for number in range(16):
            node_id = bytes((number * 16,)) + bytes((number,)) * 19
            voter = Voter(node_id)
            port = self.network.udp.reactor(f"10.80.{number}.1").listenUDP(1, voter)
            port.write(encode_query(b"tttt", b"ping", node_id, {}, False), (self.network.host(1), node.port))
            voters.append(voter)
            self.network.udp.advance(0.5)
        for number in range(60):
            self.network.result(node.get_peers(bytes((number * 4,)) * 20))
            self.network.udp.advance(5.0)
        self.assertGreater(len(node.table), 12)
        self.assertGreater(sum(voter.asked for voter in voters), 100)
        self.assertIsNone(node.external_host)

    def test_hostile_responses(self) -> None:
        """
        A node that answers with nonsense does no harm.
        """
        network = self.network
        nonsense: list[dict[bytes, Any]] = [
            {b"nodes": 7, b"token": [], b"v": {b"x": 1}, b"values": {b"y": 2}},
            {b"nodes": b"\xff" * 26 * 20, b"values": [b"123456", 5], b"seq": b"x"},
            {b"nodes": b"\0" * 52, b"v": 5, b"k": PUBLIC_KEY, b"seq": -1, b"sig": bytes(64)},
        ]

        class Hostile(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                query = decode(datagram)
                if isinstance(query, Query) and self.transport is not None:
                    values = nonsense[len(network.udp.log) % 3]
                    self.transport.write(encode_response(query.transaction, b"h" * 20, values, None), addr)

        network.udp.reactor("10.90.0.1").listenUDP(1, Hostile())
        self.node.add_node("10.90.0.1", 1)
        network.udp.advance(1.0)
        # It names no usable nodes, so it is an ordinary node.
        self.assertEqual(len(self.node.table), 6)
        for _ in range(3):
            read = network.result(self.node.get_mutable(PUBLIC_KEY, SALT))
            self.assertEqual(read.values(), {})
            network.result(self.node.get_peers(b"i" * 20))
            network.result(self.node.get_immutable(b"i" * 20))
            network.result(self.node.put_immutable(b"1:x"))
        self.assertEqual(self.node.krpc.counters["faults"], 0)
