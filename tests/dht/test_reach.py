"""
Tests for L{dtt.dht.reach}, and that a node sends nothing anywhere else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.dht.reach import Reach
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_nodes
from dtt.krpc.messages import Query, decode, encode_query, encode_response
from dtt.net.networks import Scope, scope
from tests.dht.network import Network
from tests.net.test_networks import ADDRESSES

#: Addresses that a node of the public DHT never sends to.
LOCAL = [host for each, hosts in ADDRESSES.items() if each is not Scope.GLOBAL for host in hosts]
LOCAL4 = [host for host in LOCAL if ":" not in host]
LOCAL6 = [host for host in LOCAL if ":" in host]

HOSTILE, HOSTILE6 = "80.66.6.6", "2a00:66::6"


def _nodes(hosts: Iterable[str]) -> bytes:
    return encode_nodes(Contact(bytes((number,)) * 20, host, 6881) for number, host in enumerate(hosts, 1))


class Hostile(DatagramProtocol):
    """
    Names the given addresses in every reply.
    """

    def __init__(self, four: list[str], six: list[str]) -> None:
        self.four, self.six = four, six
        self.asked = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Answer a query.
        """
        query = decode(datagram)
        if not isinstance(query, Query) or self.transport is None:
            return
        # A node takes 20 nodes of one reply.
        start = self.asked * 20
        self.asked += 1
        four = [self.four[(start + number) % len(self.four)] for number in range(20)]
        six = [self.six[(start + number) % len(self.six)] for number in range(20)]
        peers = [_nodes([host])[20:] for host in self.four + self.six]
        values = {
            b"nodes": _nodes(four),
            b"nodes6": _nodes(six),
            b"values": peers,
            b"token": b"token",
        }
        self.transport.write(encode_response(query.transaction, b"h" * 20, values, None), addr)


class ReachTests(SynchronousTestCase):
    """
    Which scopes a node reaches.
    """

    def test_public(self) -> None:
        """
        Without a local bootstrap host only global addresses are reached, wherever the
        node is bound.
        """
        for bootstrap, bound in (
            ([], ["0.0.0.0"]),
            ([], ["0.0.0.0", "::"]),
            ([], ["80.0.0.1"]),
            (["router.example"], ["192.168.1.5"]),
            (["router.example", "80.0.0.1"], ["10.0.0.5", "fd00::5"]),
        ):
            reach = Reach(False, bootstrap)
            for host in bound:
                reach.bound(host)
            self.assertEqual(reach.scopes, {Scope.GLOBAL}, bootstrap)
            self.assertEqual(reach.named_by("10.0.0.1"), {Scope.GLOBAL})

    def test_local(self) -> None:
        """
        A local network is one that was configured.
        """
        for bootstrap, bound, expected in (
            (["127.0.0.1"], "0.0.0.0", Scope.LOOPBACK),
            (["::1"], "::", Scope.LOOPBACK),
            ([], "127.0.0.1", Scope.LOOPBACK),
            (["router.example"], "127.0.0.5", Scope.LOOPBACK),
            (["192.168.1.1"], "0.0.0.0", Scope.PRIVATE),
            ([], "192.168.1.1", Scope.PRIVATE),
            (["fe80::1%eth0"], "::", Scope.LINK_LOCAL),
        ):
            reach = Reach(False, bootstrap)
            reach.bound(bound)
            self.assertEqual(reach.scopes, {Scope.GLOBAL, expected}, bootstrap)
        for host in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "router.example"):
            self.assertEqual(Reach(False, [host]).scopes, {Scope.GLOBAL})

    def test_named(self) -> None:
        """
        Only a node at a local address may name others of the same scope.
        """
        reach = Reach(False, ["127.0.0.1", "192.168.1.1"])
        self.assertEqual(reach.named_by("80.0.0.1"), {Scope.GLOBAL})
        self.assertEqual(reach.named_by("127.0.0.1"), {Scope.GLOBAL, Scope.LOOPBACK})
        self.assertEqual(reach.named_by("192.168.7.7"), {Scope.GLOBAL, Scope.PRIVATE})
        self.assertEqual(reach.named_by("169.254.1.1"), {Scope.GLOBAL})

    def test_closed(self) -> None:
        """
        In a closed network every node may name all addresses that can be used.
        """
        reach = Reach(True, [])
        for host in ("80.0.0.1", "127.0.0.1", "10.0.0.1"):
            self.assertEqual(reach.named_by(host), set(Scope) - {Scope.NEVER})


class PublicNodeTests(SynchronousTestCase):
    """
    A node of the public DHT among hostile ones.
    """

    def setUp(self) -> None:
        self.network = Network(0)
        self.addCleanup(lambda: self.network.stop())
        hostile = self.network.udp.reactor(HOSTILE, HOSTILE6)
        self.hostile = Hostile(LOCAL4, LOCAL6)
        hostile.listenUDP(6881, self.hostile)
        hostile.listenUDP(6881, Hostile(LOCAL4, LOCAL6), interface="::")

    def node(self, **more: Any) -> DHTNode:
        """
        Start a node at a public IPv4 and IPv6 address.
        """
        node = DHTNode(
            self.network.udp.reactor("80.1.0.1", "2a00:1::1"),
            **{
                "interface": "",
                "interface6": "::",
                "bootstrap": [(HOSTILE, 6881), (HOSTILE6, 6881)],
                **more,
            },
        )
        self.network.nodes.append(node)
        node.startService()
        return node

    def check(self) -> None:
        """
        Check that nothing was sent to a local address.
        """
        sent = {datagram.destination[0] for datagram in self.network.udp.log}
        self.assertEqual([host for host in sorted(sent) if scope(host) is not Scope.GLOBAL], [])

    def test_answers(self) -> None:
        """
        Nodes and peers named in replies, the first ones among them.
        """
        node = self.node()
        for _ in range(20):
            self.network.udp.advance(1.0)
        peers: list[str] = []
        for number in range(20):
            target = bytes((number,)) * 20
            self.network.result(node.get_peers(target, lambda host, port: peers.append(host)))
            self.network.result(node.get_mutable(target + bytes(12), b""))
            self.network.result(node.announce_peer(target, 1))
            self.network.result(node.sample_infohashes(target))
        self.network.udp.advance(1000.0)
        self.assertGreater(self.hostile.asked, 20)
        self.check()
        self.assertEqual(peers, [])

    def test_saved_nodes(self) -> None:
        """
        Nodes saved in a local network.
        """
        known = [Contact(bytes((number,)) * 20, host, 6881) for number, host in enumerate(LOCAL)]
        node = self.node(known_nodes=known)
        self.network.udp.advance(5.0)
        self.network.result(node.get_peers(b"i" * 20))
        self.network.udp.advance(100.0)
        self.check()
        # Without any host that answers, too.
        self.network.udp.dead |= {HOSTILE, HOSTILE6}
        node = DHTNode(self.network.udp.reactor("80.2.0.1"), known_nodes=known, bootstrap=[(HOSTILE, 6881)])
        self.network.nodes.append(node)
        node.startService()
        self.network.udp.advance(300.0)
        self.check()

    def test_queries(self) -> None:
        """
        Nodes that query us, or in whose name somebody does, are not pinged.
        """
        node = self.node()
        self.network.udp.advance(1.0)
        for side in node.sides:
            pings = side.neighbourhood.krpc.counters["sent_ping"]
            for number, host in enumerate(LOCAL):
                if side.family.has(host):
                    query = decode(encode_query(b"tttt", b"ping", bytes((number, 7)) * 10, {}, False))
                    assert isinstance(query, Query)
                    side.neighbourhood.answer(query, host, 6881)
            self.network.udp.advance(3.0)
            self.assertEqual(side.neighbourhood.krpc.counters["sent_ping"], pings)
            query = decode(encode_query(b"tttt", b"ping", b"g" * 20, {}, False))
            assert isinstance(query, Query)
            side.neighbourhood.answer(query, "80.3.0.1" if side.family.ip_size == 4 else "2a00:3::1", 6881)
            self.assertEqual(side.neighbourhood.krpc.counters["sent_ping"], pings + 1)
        self.check()

    def test_impossible_senders(self) -> None:
        """
        Nothing is sent to senders that can't exist, not even a reply.
        """
        node = self.node()
        self.network.udp.advance(1.0)
        self.network.udp.log.clear()
        ping = encode_query(b"tttt", b"ping", b"g" * 20, {}, False)
        impossible = {("80.3.0.1", 0)}
        impossible |= {
            (host, 6881) for host in ADDRESSES[Scope.NEVER] if not host.startswith(("2001:", "2002:"))
        }
        for side in node.sides:
            for host, port in impossible:
                if side.family.has(host):
                    side.neighbourhood.krpc.datagramReceived(ping, (host, port))
        self.network.udp.advance(1.0)
        # The node may also have answered a query of a real one.
        replies = [each for each in self.network.udp.log if each.data.endswith(b"1:y1:re")]
        self.assertEqual({each.destination for each in replies} & impossible, set())

    def test_names(self) -> None:
        """
        A bootstrap host whose name has no usable address is not queried.
        """
        self.network.udp.names = {"blocked": ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"]}
        self.node(bootstrap=[("blocked", 6881), ("0.0.0.0", 6881), ("240.0.0.1", 6881)])
        self.network.udp.advance(30.0)
        self.assertEqual(self.network.udp.log, [])

    def test_port_zero(self) -> None:
        """
        Nothing is sent to port 0.
        """
        node = self.node()
        query = decode(encode_query(b"tttt", b"ping", b"g" * 20, {}, False))
        assert isinstance(query, Query)
        node.sides[0].neighbourhood.answer(query, "80.3.0.1", 0)
        self.network.udp.advance(1.0)
        self.assertFalse([each for each in self.network.udp.log if each.destination[1] == 0])


class LocalNetworkTests(SynchronousTestCase):
    """
    Networks on local addresses.
    """

    def test_private(self) -> None:
        """
        A network on private addresses works, closed or not, with IP literals and with
        names.
        """
        for closed in (False, True):
            network = Network(6, closed=closed)
            self.addCleanup(network.stop)
            network.udp.names = {"first": [network.host(0)]}
            network.node(bootstrap=[("first", network.nodes[0].port)])
            network.udp.advance(20.0)
            for node in network.nodes:
                self.assertEqual(len(node.table), 6)

    def test_member_of_both(self) -> None:
        """
        A node with a public and a private bootstrap host does not believe strangers what
        they say about private addresses, but those that are there.
        """
        network = Network(4)
        self.addCleanup(network.stop)
        hostile = Hostile(["10.66.6.6", "127.0.0.1"], ["fd00::1"])
        network.udp.reactor(HOSTILE).listenUDP(6881, hostile)
        node = network.node(bootstrap=[(HOSTILE, 6881), (network.host(0), network.nodes[0].port)])
        network.udp.advance(30.0)
        self.assertGreater(hostile.asked, 0)
        sent = {datagram.destination[0] for datagram in network.udp.log}
        self.assertFalse(sent & {"10.66.6.6", "127.0.0.1"})
        self.assertGreaterEqual(len(node.table), 4)

    def test_first_of_a_private_network(self) -> None:
        """
        The first node learns of the others from their queries; bound to a private
        address and without bootstrap hosts it is in a private network.
        """
        network = Network(5)
        self.addCleanup(network.stop)
        network.udp.advance(10.0)
        hosts = {contact.host for contact in network.nodes[0].table.contacts()}
        self.assertEqual(hosts, {network.host(number) for number in range(1, 5)})
        self.assertTrue(all(ipaddress.ip_address(host).is_private for host in hosts))
