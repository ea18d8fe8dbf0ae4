"""
Tests for L{dtt.dht.node}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.dht.node import DHTNode
from dtt.errors import ListenError, LocalError, LookupFailed, UsageError, WrongType
from dtt.interfaces import Contact
from dtt.krpc.messages import Query, decode
from tests.dht.network import PUBLIC_KEY, SALT, Network, PublicNetwork, outcome


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

    def test_start_twice(self) -> None:
        """
        A node that runs can't be started again; it goes on.
        """
        self.network.node()
        node = self.network.node()
        self.assertIn("has started already", str(self.assertRaises(UsageError, node.startService)))
        self.network.result(node.when_ready())

    def test_wrong_arguments(self) -> None:
        """
        Wrong arguments are refused by the constructor; the message names the argument.
        """
        pair: Any = ("router.example", 6881)
        wrong: Any
        for name, wrong in (
            ("port", "6881"),
            ("port", 65536),
            ("node_id", "x" * 20),
            ("node_id", bytes(19)),
            ("upload_rate", "fast"),
            ("external_host", b"192.0.2.1"),
            ("rng", 5),
            ("known_nodes", None),
            ("known_nodes", [pair]),
            ("bootstrap", None),
            ("bootstrap", "router.example:6881"),
            ("bootstrap", pair),
            ("bootstrap", ["router.example:6881"]),
            ("bootstrap", [("router.example", "6881")]),
        ):
            expected = "port" if wrong == [("router.example", "6881")] else name
            error = self.assertRaises(UsageError, DHTNode, Clock(), **{name: wrong})
            self.assertIn(expected, str(error))
        self.assertRaises(WrongType, DHTNode, None)
        DHTNode(Clock(), bootstrap=[pair])

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
