"""
Tests for L{dtt.dht.node}, L{dtt.dht.maintenance} and L{dtt.dht.client.client}.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.dht.client.placement import FirstCopy, Placement
from dtt.dht.maintenance import MAX_PINGS, OWN_LOOKUP_DELAY
from dtt.dht.node import DHTNode
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import is_valid
from dtt.dht.routing.table import FRESH
from dtt.errors import ListenError, LocalError, LookupFailed
from dtt.interfaces import Contact, MutableRead, NodeAnswer
from dtt.krpc.messages import Query, Response, decode, encode_query, encode_response
from tests.dht.network import PUBLIC_KEY, SALT, SEED, Network, PublicNetwork, classify, outcome, record


class LifeTests(SynchronousTestCase):
    """
    Binding, becoming ready, stopping.
    """

    def setUp(self) -> None:
        self.network = Network(0)
        self.addCleanup(lambda: self.network.stop())

    def warnings(self) -> list[str]:
        """
        Return a list of what is logged from now on.
        """
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: dict[str, Any]) -> None:
            if event["log_level"].name == "warn":
                lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines

    def test_port(self) -> None:
        """
        C{privilegedStartService} binds the port; 0 becomes the actual port.
        """
        node = self.network.node(start=False)
        node.privilegedStartService()
        self.assertEqual(self.network.udp.addresses(), [("10.0.0.1", node.port)])
        node.startService()
        self.assertEqual(len(self.network.udp.addresses()), 1)

    def test_port_taken(self) -> None:
        """
        A taken port is reported in one line that says what to do.
        """
        self.network.udp.reactor("10.0.0.1").listenUDP(6881, DatagramProtocol())
        node = self.network.node(start=False, port=6881)
        error = self.assertRaises(ListenError, node.privilegedStartService)
        self.assertEqual(
            str(error),
            "can't listen on UDP * port 6881: Address already in use; choose another DHT port, or 0 for any",
        )

    def test_ready_after_one_round_trip(self) -> None:
        """
        A node is ready with the first response; dead and unresolvable hosts delay
        nothing.
        """
        first = self.network.node()
        self.network.udp.names = {"never": None, "good": ["10.0.0.1"]}
        hosts = [("10.66.0.1", 1), ("never", 2), ("unknown", 3), ("10.0.0.1", first.port)]
        start = self.network.clock.seconds()
        node = self.network.node(bootstrap=hosts)
        ready = outcome(node.when_ready()), outcome(node.when_ready())
        self.network.udp.advance(0.02)
        self.assertEqual(ready, ([1], [1]))
        self.assertEqual(self.network.clock.seconds() - start, 0.02)
        self.assertEqual(self.successResultOf(node.when_ready()), 1)

    def test_unsorted_reply(self) -> None:
        """
        A bootstrap host whose replies have unsorted keys and odd numbers is understood.
        """
        replies = []

        class Host(DatagramProtocol):
            """
            Answers as no strict encoder does.
            """

            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                """
                Answer a query; keep other datagrams.
                """
                message = decode(datagram)
                if not isinstance(message, Query):
                    replies.append(datagram)
                    return
                transaction = message.transaction
                reply = b"d1:y1:r1:t4:%b1:pi%de1:rd5:nodes26:%b2:id20:%bee" % (
                    transaction,
                    10**40,
                    b"n" * 20 + b"\x0a\0\1\1\0\1",
                    b"h" * 20,
                )
                assert self.transport is not None
                self.transport.write(reply, addr)

        port = self.network.udp.reactor("10.0.9.1").listenUDP(6881, Host())
        node = self.network.node(bootstrap=[("10.0.9.1", 6881)])
        self.assertGreater(self.network.result(node.when_ready()), 0)
        # A query with such a number is answered, if only with an error.
        query = b"d1:q3:get1:ad2:id20:%b6:target20:%b3:seqi%dee1:t2:aa1:y1:qe" % (
            b"h" * 20,
            b"t" * 20,
            10**30,
        )
        port.write(query, (self.network.host(0), node.port))
        self.network.udp.advance(0.1)
        self.assertEqual([decode(reply).transaction for reply in replies], [b"aa"])

    def test_all_are_bootstrap_hosts(self) -> None:
        """
        In a small network that is not closed, the bootstrap hosts of a node may be all
        the other nodes: it finds and stores all the time, also when its id has just
        changed.
        """
        network = PublicNetwork(12)
        self.addCleanup(network.stop)
        hosts = [(network.host(number), node.port) for number, node in enumerate(network.nodes)]
        changed: list[str] = []
        node = network.node(bootstrap=hosts, node_id=bytes(20))
        node.observe(changed.append)
        while not changed:
            network.udp.advance(0.005)
        for seconds in (0.0, 0.1, 20.0):
            network.udp.advance(seconds)
            result = network.result(node.put_latest(b"s" * 32, b"value", 1))
            self.assertGreaterEqual(len(result.stored), 7, f"after {seconds} s")
        self.assertEqual(changed, [network.host(12)])
        self.assertNotEqual(node.node_id, bytes(20))
        self.assertGreaterEqual(len(node.table), 8)

    def test_known_nodes(self) -> None:
        """
        The nodes of an earlier run suffice to start; they can be saved again even
        before any node has answered.
        """
        first = self.network.node()
        known = [
            Contact(b"d" * 20, "10.77.0.1", 1),
            Contact(first.node_id, "10.0.0.1", first.port),
        ]
        node = self.network.node(bootstrap=[], known_nodes=known)
        self.assertEqual(node.known_nodes(), known)
        self.network.udp.advance(0.1)
        self.assertEqual(node.known_nodes(), known[1:])

    def known(self, count: int) -> list[Contact]:
        """
        Start C{count} nodes, and return what another one has saved about them.
        """
        for _ in range(count + 1):
            self.network.node()
            self.network.udp.advance(0.2)
        known = self.network.nodes[0].known_nodes()
        self.assertEqual(len(known), count)
        return known

    def test_begins_with_known_nodes(self) -> None:
        """
        With 8 nodes of an earlier run operations begin at once: the first datagrams
        already ask for the item, and a read takes two round trips where it otherwise
        takes three.  The node counts as ready only once a node has answered.
        """
        for count, usable in ((7, False), (8, True)):
            with self.subTest(count=count):
                self.network = Network(0)
                known = self.known(count)
                node = self.network.node(bootstrap=[], known_nodes=known, start=False)
                order = outcome(node.when_usable())
                node.startService()
                self.assertEqual(order, [None] if usable else [])
                ready = outcome(node.when_ready())
                read = outcome(node.get_mutable(PUBLIC_KEY, SALT))
                self.assertEqual(node.statistics().get("ipv4_sent_get", 0), count if usable else 0)
                self.assertEqual(ready, [])
                self.network.udp.advance(0.02)
                self.assertEqual(ready, [count])
                self.assertEqual(order, [None])
                self.network.udp.advance(0.5)
                self.assertEqual(len(read[0].answers), count + 1)

    def test_known_nodes_are_gone(self) -> None:
        """
        Operations that begin with nodes that are all gone fail, and after 5 s new ones
        wait until a node answers.
        """
        gone = [Contact(bytes([number]) * 20, f"10.77.{number}.1", 1) for number in range(64)]
        node = self.network.node(bootstrap=[], known_nodes=gone)
        first = outcome(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.advance(4.99)
        first[0].trap(LookupFailed)
        self.successResultOf(node.when_usable())
        self.network.udp.advance(0.01)
        self.assertNoResult(node.when_usable())
        second = outcome(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.advance(100.0)
        self.assertEqual(second, [])
        other = self.network.node()
        node.add_node("10.0.1.1", other.port)
        self.network.udp.advance(5.0)
        self.assertEqual(len(second[0].answers), 1)

    def test_stopped_while_it_begins(self) -> None:
        """
        Stopping cancels what has begun and leaves no delayed call; the node can be
        started again.
        """
        known = self.known(8)
        node = self.network.node(bootstrap=[], known_nodes=known)
        first = outcome(node.get_mutable(PUBLIC_KEY, SALT))
        self.successResultOf(node.stopService())
        first[0].trap(CancelledError)
        self.failureResultOf(node.when_usable(), LocalError)
        node.startService()
        self.successResultOf(node.when_usable())

    def test_node_id_is_kept(self) -> None:
        """
        The id can be given; otherwise it is random.
        """
        self.assertEqual(self.network.node(start=False, node_id=b"i" * 20).node_id, b"i" * 20)
        self.assertEqual(len(self.network.node(start=False).node_id), 20)

    def test_unreachable(self) -> None:
        """
        After 10 s without a response there is one warning that names the hosts; the
        node keeps trying, and is ready once a host responds.
        """
        lines = self.warnings()
        node = self.network.node(bootstrap=[("10.0.1.1", 6881)])
        ready = outcome(node.when_ready())
        self.network.udp.advance(9.9)
        self.assertEqual((lines, node.unreachable), ([], False))
        self.network.udp.advance(100.0)
        self.assertEqual(len(lines), 1)
        self.assertIn("10.0.1.1:6881", lines[0])
        self.assertTrue(node.unreachable)
        self.network.node(bootstrap=[], port=6881)
        self.network.udp.advance(80.0)
        self.assertEqual((ready, node.unreachable), ([1], False))

    def test_first_node_is_not_unreachable(self) -> None:
        """
        A node without hosts to query waits for others without a warning, and is ready
        when one has come.
        """
        lines = self.warnings()
        first = self.network.node()
        ready = outcome(first.when_ready())
        self.network.udp.advance(60.0)
        self.assertEqual((lines, ready), ([], []))
        self.network.node()
        self.network.udp.advance(0.1)
        self.assertEqual(ready, [1])

    def test_add_node(self) -> None:
        """
        A host can be added at any time.
        """
        first = self.network.node()
        node = self.network.node(bootstrap=[])
        node.add_node("10.0.0.1", first.port)
        self.network.udp.advance(0.1)
        self.assertEqual(len(node.table), 1)

    def test_operations_wait_until_ready(self) -> None:
        """
        A read requested before the start runs with the first response.
        """
        self.network.node()
        node = self.network.node(start=False)
        results = outcome(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.advance(1.0)
        self.assertEqual(results, [])
        node.startService()
        self.network.udp.advance(0.1)
        self.assertEqual(len(results[0].answers), 1)

    def test_stop(self) -> None:
        """
        Stopping cancels everything and leaves no delayed call and no port.
        """
        for _ in range(5):
            self.network.node()
            self.network.udp.advance(0.1)
        self.network.udp.names = {"never": None}
        waiting = self.network.node(bootstrap=[("never", 1), ("10.66.0.1", 1)])
        busy = self.network.nodes[1]
        results = [
            outcome(waiting.when_ready()),
            outcome(waiting.get_mutable(PUBLIC_KEY, SALT)),
            outcome(busy.get_mutable(PUBLIC_KEY, SALT)),
            outcome(busy.get_peers(b"i" * 20)),
        ]
        self.network.udp.advance(0.005)
        for node in self.network.nodes:
            self.successResultOf(node.stopService())
        self.assertEqual([type(result[0].value) for result in results], [CancelledError] * 4)
        self.assertEqual(self.network.udp.addresses(), [])
        self.network.udp.advance(0.1)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.failureResultOf(waiting.when_ready(), LocalError)
        self.failureResultOf(busy.get_mutable(PUBLIC_KEY), LocalError)

    def test_restart(self) -> None:
        """
        A stopped node can be started again, on the same port with the same id.
        """
        self.network.node()
        node = self.network.node()
        self.network.udp.advance(0.1)
        port, node_id = node.port, node.node_id
        self.successResultOf(node.stopService())
        node.startService()
        self.assertEqual((node.port, node.node_id), (port, node_id))
        self.network.result(node.when_ready())
        self.assertEqual(len(self.network.result(node.get_mutable(PUBLIC_KEY, SALT)).answers), 1)


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


class SlotTests(SynchronousTestCase):
    """
    Slots in a real network; see also C{test_contract}.
    """

    def setUp(self) -> None:
        self.network = Network(30, seed=4)
        self.addCleanup(lambda: self.network.stop())

    def test_cold_start(self) -> None:
        """
        The first stored copy takes at most five round trips from the start; the second,
        after the full read, another four.
        """
        node = self.network.node()
        start = self.network.clock.seconds()
        placement = Placement(record(1)[:32], classify)

        def put_first(inner: MutableRead) -> None:
            outcome(node.put_mutable(SEED, SALT, record(1), FirstCopy(placement), inner, read_back=False))

        read = outcome(node.get_mutable(PUBLIC_KEY, SALT, None, put_first))
        copies: dict[int, float] = {}
        put: list[Any] = []
        while not put:
            self.network.udp.advance(0.005)
            stored = sum(len(each.responder.items) for each in self.network.nodes)
            copies.setdefault(stored, self.network.clock.seconds() - start)
            if read:
                put = outcome(node.put_mutable(SEED, SALT, record(1), placement, read.pop()))
                self.network.udp.advance(0.1)
        stored = sum(len(each.responder.items) for each in self.network.nodes)
        copies.setdefault(stored, self.network.clock.seconds() - start)
        self.assertLess(copies[1], 5.5 * 0.02)
        self.assertGreaterEqual(max(copies), 2)

    def test_cold_read_is_wide(self) -> None:
        """
        A newcomer looks up its own id in parallel with its first read, which needs more
        nodes than the nearest ones name; without a read, a little later.
        """
        for reads in (True, False):
            node = self.network.node()
            looked_up: list[float] = []
            neighbourhood = node.sides[0].neighbourhood
            original = neighbourhood._look_up

            def look_up(
                target: bytes,
                node: DHTNode = node,
                looked_up: list[float] = looked_up,
                original: Callable[[bytes], Deferred[None]] = original,
            ) -> Deferred[None]:
                if target == node.node_id:
                    looked_up.append(self.network.clock.seconds())
                return original(target)

            self.patch(neighbourhood, "_look_up", look_up)
            if reads:
                node.get_mutable(PUBLIC_KEY, SALT)
            ready = self.network.result(node.when_ready().addCallback(lambda _: self.network.clock.seconds()))
            self.network.udp.advance(1)
            self.assertEqual(len(looked_up), 1)
            self.assertEqual(looked_up[0] - ready < OWN_LOOKUP_DELAY / 2, reads)

    def test_dead_nodes(self) -> None:
        """
        With 20 % of the nodes dead a newcomer reads and puts without waiting for a
        time-out of 2 s; a lost packet does no harm either.
        """
        self.network.udp.dead = {self.network.host(number) for number in range(24, 30)}
        self.network.udp.loss = 0.02
        node = self.network.node()
        start = self.network.clock.seconds()
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        result = self.network.result(
            node.put_mutable(SEED, SALT, record(1), Placement(record(1)[:32], classify), read)
        )
        self.assertEqual(len(result.stored), 2)
        self.assertGreaterEqual(len(read.answers), 18)
        self.assertLess(self.network.clock.seconds() - start, 0.6)

    def test_on_answer_that_raises(self) -> None:
        """
        An exception of the application is logged; the read continues.
        """

        def on_answer(answer: NodeAnswer) -> None:
            raise RuntimeError("mine")

        read = self.network.result(self.network.nodes[3].get_mutable(PUBLIC_KEY, SALT, on_answer))
        self.assertGreater(len(read.answers), 20)
        self.assertGreater(len(self.flushLoggedErrors(RuntimeError)), 20)

    def test_own_store(self) -> None:
        """
        Values that others have put on this very node are in its reads, and reported to
        the observer.
        """
        node, other = self.network.nodes[:2]
        read = self.network.result(other.get_mutable(PUBLIC_KEY, SALT))
        there = [answer for answer in read.answers if answer.contact.node_id == node.node_id]

        class Here(Placement):
            def plan(self, read: object, value: bytes) -> Any:
                return [there]

        self.network.result(other.put_mutable(SEED, SALT, record(1), Here(bytes(32), classify), read))
        answers: list[NodeAnswer] = []
        own = self.network.result(node.get_mutable(PUBLIC_KEY, SALT, answers.append))
        self.assertEqual(list(own.values()), [record(1)])
        self.assertEqual(answers[0], own.answers[-1])
        again = self.network.result(node.refresh(own))
        self.assertEqual(len(again.answers), len(own.answers))
        self.assertIsNone(again.answers[-1].token)

    def test_packet_limits(self) -> None:
        """
        Fifty refreshes within a second send no node more than 20 packets in 10 s; nodes
        that can't be queried keep their answers.
        """
        node = self.network.nodes[5]
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.log.clear()
        start = self.network.clock.seconds()
        for _ in range(50):
            again = self.network.result(node.refresh(read))
            self.assertEqual(len(again.answers), len(read.answers))
        self.assertLess(self.network.clock.seconds() - start, 2.0)
        sent: dict[str, int] = {}
        for datagram in self.network.udp.log:
            if datagram.source[0] == self.network.host(5) and b"1:q3:get" in datagram.data:
                sent[datagram.destination[0]] = sent.get(datagram.destination[0], 0) + 1
        self.assertLessEqual(max(sent.values()), 20)

    def test_put_sender_id(self) -> None:
        """
        A put has our own id as sender, a target and C{cas=0}.
        """
        node = self.network.nodes[5]
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        self.network.udp.log.clear()
        self.network.result(
            node.put_mutable(SEED, SALT, record(1), Placement(record(1)[:32], classify), read)
        )
        puts = [datagram.data for datagram in self.network.udp.log if b"1:q3:put" in datagram.data]
        self.assertEqual(len(puts), 2)
        for data in puts:
            query = decode(data)
            assert isinstance(query, Query)
            self.assertEqual((query.node_id, query.arguments[b"cas"]), (node.node_id, 0))
            self.assertEqual(len(query.arguments[b"target"]), 20)
