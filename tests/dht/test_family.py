"""
Tests for L{dtt.dht.family}: IPv6 nodes and dual-stack nodes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.placement import Placement
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import distance, is_valid
from dtt.errors import ListenError
from dtt.interfaces import Contact, MutableRead, PutResult
from dtt.krpc.items import immutable_target, mutable_target
from dtt.krpc.messages import Query, Response, decode, encode_query
from tests.dht.network import PUBLIC_KEY, SALT, SEED, Network, PublicNetwork, classify, outcome, record

INFO_HASH = b"i" * 20


def tables(node: DHTNode) -> list[int]:
    """
    The sizes of a node's tables.
    """
    return [len(side.neighbourhood.table) for side in node.sides]


class LifeTests(SynchronousTestCase):
    """
    Ports, readiness, and the state of an earlier run.
    """

    def setUp(self) -> None:
        self.network = Network(0)
        self.addCleanup(lambda: self.network.stop())

    def test_no_interface(self) -> None:
        """
        A node without an interface is an error.
        """
        with self.assertRaises(ValueError):
            DHTNode(self.network.udp.reactor("10.0.0.1"), interface=None)

    def test_ports(self) -> None:
        """
        Both families get the same port; if any port will do and it is taken on IPv6,
        another is used there.
        """
        node = self.network.node(families="46")
        self.assertEqual(node.port, node.port6)
        self.assertEqual(
            self.network.udp.addresses(),
            [(self.network.host(0), node.port), (self.network.host6(0), node.port)],
        )
        reactor = self.network.udp.reactor(self.network.host6(1))
        reactor.listenUDP(49152, DatagramProtocol())
        other = self.network.node(families="46")
        self.assertEqual((other.port, other.port6), (49152, 49153))
        alone = self.network.node(families="6")
        self.assertEqual(alone.port, alone.port6)
        self.assertIsNone(self.network.node().port6)

    def test_port_taken(self) -> None:
        """
        If the given port is taken in one family, none is bound; binding can be retried.
        """
        taken = self.network.udp.reactor(self.network.host6(0)).listenUDP(6881, DatagramProtocol())
        node = self.network.node(families="46", port=6881, start=False)
        self.assertRaises(ListenError, node.privilegedStartService)
        self.assertEqual(self.network.udp.addresses(), [(self.network.host6(0), 6881)])
        taken.stopListening()
        node.startService()
        self.assertEqual((node.port, node.port6), (6881, 6881))

    def test_family_without_network(self) -> None:
        """
        A dual-stack node without IPv6 connectivity is ready over IPv4 and as fast as
        without IPv6; IPv6 joins later.
        """
        for _ in range(4):
            self.network.node(families="46")
        self.network.udp.advance(1.0)
        node = self.network.node(families="46")
        self.network.udp.dead = {self.network.host6(4)}
        start = self.network.clock.seconds()
        read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
        self.assertEqual(
            {answer.contact.host for answer in read.answers}, {self.network.host(n) for n in range(4)}
        )
        self.assertLess(self.network.clock.seconds() - start, 0.3)
        self.assertEqual([side.ready for side in node.sides], [True, False])
        self.assertFalse(node.unreachable)
        self.network.udp.dead.clear()
        self.network.udp.advance(90.0)
        self.assertEqual(tables(node), [4, 4])

    def test_known_nodes(self) -> None:
        """
        The known nodes of both families are kept, and suffice to start.
        """
        for _ in range(3):
            self.network.node(families="46")
            self.network.udp.advance(0.2)
        known = self.network.nodes[0].known_nodes()
        self.assertEqual(len([contact for contact in known if ":" in contact.host]), 2)
        self.assertEqual(len(known), 4)
        node = self.network.node(families="46", bootstrap=[], known_nodes=known)
        self.assertEqual(set(node.known_nodes()), set(known))
        alone = self.network.node(families="6", bootstrap=[], known_nodes=known)
        self.network.udp.advance(1.0)
        self.assertEqual((tables(node), tables(alone)), ([3, 4], [4]))

    def test_known_family_is_gone(self) -> None:
        """
        If the known nodes of one family are all gone, reads that begin with them end as
        soon as the other family has been read.
        """
        for dead, alive in (("6", "4"), ("4", "6")):
            with self.subTest(dead=dead):
                self.network = Network(10, families="46")
                known = self.network.nodes[0].known_nodes()
                find = self.network.host6 if dead == "6" else self.network.host
                self.network.udp.dead = {find(number) for number in range(10)}
                node = self.network.node(families="46", bootstrap=[], known_nodes=known)
                start = self.network.clock.seconds()
                read = self.network.result(node.get_mutable(PUBLIC_KEY, SALT))
                self.assertLess(self.network.clock.seconds() - start, 0.5)
                self.assertEqual(len(read.answers), 10)
                self.assertEqual([side.ready for side in node.sides], [alive == "4", alive == "6"])

    def test_names(self) -> None:
        """
        A bootstrap name is resolved to both families.
        """
        first = self.network.node(families="46")
        self.network.udp.names = {"router": [self.network.host(0), self.network.host6(0)]}
        node = self.network.node(families="46", bootstrap=[("router", first.port)])
        self.network.udp.advance(0.1)
        self.assertEqual(tables(node), [1, 1])

    def test_stop_and_restart(self) -> None:
        """
        Stopping closes both ports and leaves no delayed call; the next start uses the
        same ports.
        """
        self.network.node(families="46")
        node = self.network.node(families="46")
        self.network.udp.advance(0.1)
        result = outcome(node.get_peers(INFO_HASH))
        self.network.udp.advance(0.005)
        ports = (node.port, node.port6)
        self.successResultOf(node.stopService())
        result[0].trap(CancelledError)
        self.assertEqual(len(self.network.udp.addresses()), 2)
        node.startService()
        self.network.udp.advance(0.1)
        self.assertEqual((node.port, node.port6), ports)
        self.assertEqual(tables(node), [1, 1])
        self.network.stop()
        self.network.udp.advance(0.1)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])


class BothTests(SynchronousTestCase):
    """
    8 IPv4 nodes, 8 IPv6 nodes, and a dual-stack one.
    """

    def setUp(self) -> None:
        self.network = PublicNetwork(0, seed=7)
        self.addCleanup(lambda: self.network.stop())
        self.dual = self.network.node(families="46")
        for _ in range(8):
            self.network.node(families="4")
            self.network.node(families="6")
            self.network.udp.advance(0.2)
        self.four, self.six = self.network.nodes[1], self.network.nodes[2]

    def slot(self, node: DHTNode) -> MutableRead:
        return self.network.result(node.get_mutable(PUBLIC_KEY, SALT))

    def put(self, node: DHTNode, number: int) -> PutResult:
        value = record(number)
        return self.network.result(
            node.put_mutable(SEED, SALT, value, Placement(value[:32], classify), self.slot(node))
        )

    def test_families_stay_apart(self) -> None:
        """
        A table has only nodes of its own family.
        """
        for node in self.network.nodes:
            for side in node.sides:
                hosts = [contact.host for contact in side.neighbourhood.table.contacts()]
                self.assertEqual(len(hosts), 8)
                self.assertTrue(all(side.family.has(host) for host in hosts))

    def test_read(self) -> None:
        """
        A read has the nodes of both families, nearest first, and can be refreshed.
        """
        read = self.slot(self.dual)
        self.assertEqual(len(read.answers), 16)
        target = mutable_target(PUBLIC_KEY, SALT)
        distances = [distance(target, answer.contact.node_id) for answer in read.answers]
        self.assertEqual(distances, sorted(distances))
        again = self.network.result(self.dual.refresh(read))
        self.assertEqual([a.contact for a in again.answers], [a.contact for a in read.answers])

    def test_put(self) -> None:
        """
        A value put by a dual-stack node is found in each family; a value put in one
        family is found by a dual-stack node.
        """
        self.assertEqual(len(self.put(self.dual, 1).stored), 4)
        self.put(self.four, 2)
        self.put(self.six, 3)
        self.assertEqual(set(self.slot(self.dual).values()), {record(1), record(2), record(3)})
        self.assertLessEqual({record(1), record(2)}, set(self.slot(self.four).values()))
        self.assertLessEqual({record(1), record(3)}, set(self.slot(self.six).values()))

    def test_immutable(self) -> None:
        """
        An immutable item is stored in both families, and found in either.
        """
        value = b"5:value"
        target = immutable_target(value)
        self.network.result(self.dual.put_immutable(value))
        for node in (self.four, self.six):
            self.assertEqual(self.network.result(node.get_immutable(target)), value)
        other = b"5:other"
        self.network.result(self.six.put_immutable(other))
        self.assertEqual(self.network.result(self.dual.get_immutable(immutable_target(other))), other)
        self.assertIsNone(self.network.result(self.dual.get_immutable(b"n" * 20)))

    def test_peers(self) -> None:
        """
        Peers are announced and found with the addresses of each family.
        """
        self.network.result(self.dual.announce_peer(INFO_HASH, 1111))
        self.network.result(self.four.announce_peer(INFO_HASH, 2222))
        self.network.result(self.six.announce_peer(INFO_HASH, 3333))
        fours = {(self.network.host(0), 1111), (self.network.host(1), 2222)}
        sixes = {(self.network.host6(0), 1111), (self.network.host6(2), 3333)}
        reader = self.network.node(families="46")
        found: list[tuple[str, int]] = []
        self.network.udp.advance(1.0)
        peers = self.network.result(reader.get_peers(INFO_HASH, lambda *peer: found.append(peer)))
        self.assertEqual(peers, fours | sixes)
        self.assertEqual(sorted(found), sorted(peers))
        self.assertEqual(self.network.result(self.network.nodes[3].get_peers(INFO_HASH)), fours)
        self.assertEqual(self.network.result(self.network.nodes[4].get_peers(INFO_HASH)), sixes)

    def test_one_store(self) -> None:
        """
        A value stored over one family can be read over the other, from a dual-stack
        node.
        """
        one, two = (side.neighbourhood.responder for side in self.dual.sides)
        self.assertIs(one.items, two.items)
        self.assertIs(one.peers, two.peers)
        self.assertIs(one.limits, two.limits)

    def replies(self, host: str, there: tuple[str, int], **arguments: Any) -> Response:
        replies: list[bytes] = []

        class Protocol(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: object) -> None:
                replies.append(datagram)

        port = self.network.udp.reactor(host).listenUDP(1, Protocol())
        values = {name.encode("ascii"): value for name, value in arguments.items()}
        port.write(encode_query(b"tttt", b"find_node", b"s" * 20, values, True), there)
        self.network.udp.advance(0.1)
        port.stopListening()
        (response,) = map(decode, replies)
        assert isinstance(response, Response)
        return response

    def test_want(self) -> None:
        """
        A query over one family is answered with nodes of that family, or of the wanted
        ones; C{ip} is the querier's address in its family.
        """
        port = self.dual.port
        for host, there, size in (
            ("10.50.0.1", (self.network.host(0), port), 6),
            ("2001:db8:50::1", (self.network.host6(0), port), 18),
        ):
            for want, expected in (
                (None, {b"nodes"} if size == 6 else {b"nodes6"}),
                ([b"n4"], {b"nodes"}),
                ([b"n6"], {b"nodes6"}),
                ([b"n4", b"n6"], {b"nodes", b"nodes6"}),
            ):
                more = {} if want is None else {"want": want}
                response = self.replies(host, there, target=bytes(20), **more)
                self.assertEqual(set(response.values), expected)
                self.assertEqual(len(response.ip or b""), size)
                for key, entry in ((b"nodes", 26), (b"nodes6", 38)):
                    self.assertIn(len(response.values.get(key, b"")), (0, 8 * entry))

    def test_bridge(self) -> None:
        """
        A dual-stack node that knows nodes of one family only finds those of the other
        by C{want}.
        """
        for host in (self.network.host(0), self.network.host6(0)):
            node = self.network.node(families="46", bootstrap=[(host, self.dual.port)])
            self.network.udp.advance(5.0)
            self.assertGreaterEqual(min(tables(node)), 8)

    def test_want_is_rare(self) -> None:
        """
        Nodes of both families are requested only by dual-stack nodes that lack nodes.
        """
        self.network.node(families="46")
        self.network.udp.advance(5.0)
        self.network.udp.log.clear()
        for node in (self.four, self.six, self.dual):
            self.slot(node)
        queries = [decode(datagram.data) for datagram in self.network.udp.log]
        self.assertFalse([q for q in queries if isinstance(q, Query) and b"want" in q.arguments])

    def test_external_address(self) -> None:
        """
        Each family elects its own address, with one vote per network (/48), and then
        has its own id.
        """
        reported: list[str] = []
        node = self.network.node(families="46", bootstrap=[])
        node.observe(reported.append)
        four, six = (side.neighbourhood for side in node.sides)
        before = node.node_id
        ip = bytes.fromhex("20010db8000500060000000000000009")

        def seen(number: int, host: str, seen_at: bytes) -> None:
            four_or_six = six if ":" in host else four
            node_id = bytes((32 * number % 256,)) + bytes((number,)) * 19
            four_or_six.seen(Response(b"tttt", node_id, {}, b"", seen_at), host, 1)

        for number in range(4):
            seen(number, f"45.80.{number}.1", ip + b"\x1a\xe1")
            seen(number, f"2001:db8:77:{number:x}::1", ip + b"\x1a\xe1")
            seen(number, f"2001:db8:78{number:02x}::1", b"\x01\x02\x03\x04\x1a\xe1")
        self.assertEqual((four.node_id, six.node_id, reported), (before, before, []))
        for number in range(20):
            seen(100 + number, f"2001:db8:79{number:02x}::1", ip + b"\x1a\xe1")
        self.network.udp.advance(20.0)
        self.assertTrue(is_valid(six.node_id, "2001:db8:5:6::9"))
        self.assertNotEqual(six.node_id, before)
        self.assertEqual((node.node_id, reported), (before, []))
        for number in range(20):
            seen(100 + number, f"45.81.{number}.1", bytes((203, 0, 113, 9, 1, 1)))
        self.network.udp.advance(20.0)
        self.assertTrue(is_valid(node.node_id, "203.0.113.9"))
        self.assertEqual(reported, ["203.0.113.9"])


class TableTests(SynchronousTestCase):
    """
    An IPv6 host has many addresses.
    """

    def test_one_of_a_network(self) -> None:
        """
        A /56 has one place in the table, and a /48 one in a bucket; another address with
        the same port does not displace its holder.
        """
        network = Network(1, families="6")
        self.addCleanup(network.stop)
        table = network.nodes[0].table
        for number in range(1, 9):
            table.responded(Contact(bytes((number,)) * 20, f"2001:db8::{number}", 1), 0.0)
        self.assertEqual([contact.host for contact in table.contacts()], ["2001:db8::1"])
        table.responded(Contact(b"x" * 20, "2001:db8:0:1::1", 1), 0.0)
        table.responded(Contact(b"x" * 20, "2001:db8:0:100::1", 1), 0.0)
        self.assertEqual(len(table), 1)
        table.responded(Contact(b"x" * 20, "2001:db8:1::1", 1), 0.0)
        self.assertEqual(len(table.nearest_compact(bytes(20))), 2 * 38)
