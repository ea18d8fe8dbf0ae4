"""
Tests for L{dtt.dht.statistics}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.interfaces import Contact
from tests.dht.network import Network


class StatisticsTests(SynchronousTestCase):
    """
    The statistics of a node with two families.
    """

    def test_statistics(self) -> None:
        """
        Queries by method, answers, errors by code, drops by reason, stored values,
        tables, round trips and open transactions.
        """
        network = Network(10, seed=3, families="46")
        node, other = network.nodes[:2]
        self.assertEqual(network.node(start=False).statistics()["ipv4_nodes_alive"], 0)
        network.result(other.put_immutable(b"5:value"))
        network.result(other.announce_peer(node.node_id, 1))
        contact = Contact(node.node_id, network.host(0), node.port)
        refused = other.krpc.query(contact.host, contact.port, b"nonsense", {})
        network.udp.advance(0.5)
        refused.addErrback(lambda _: None)
        node.krpc.datagramReceived(b"junk", ("10.3.3.3", 1))
        other.krpc.query("10.77.0.1", 1, b"ping", {}).addErrback(lambda _: None)
        found, theirs = node.statistics(), other.statistics()
        for name in (
            "ipv4_received_find_node", "ipv6_received_find_node", "ipv4_received_get", "ipv4_sent_find_node",
            "ipv4_answered", "ipv4_responses", "ipv6_responses",
        ):  # fmt: skip
            self.assertGreater(found[name], 0, name)
        self.assertEqual(found["ipv4_answer_errors_204"], 1)
        self.assertEqual(theirs["ipv4_errors_204"], 1)
        self.assertEqual(sum(count for name, count in found.items() if "ipv4_dropped_" in name), 1)
        self.assertEqual((found["items"], found["peers"], found["info_hashes"]), (1, 2, 1))
        self.assertEqual((found["ipv4_nodes_alive"], found["ipv6_nodes_alive"]), (9, 9))
        self.assertEqual((found["ipv4_nodes_bad"], theirs["ipv4_transactions"]), (0, 1))
        self.assertTrue(0 < found["ipv4_round_trip"] < found["ipv4_soft_timeout"])
        self.assertTrue(all(type(value) in (int, float) for value in found.values()))
        network.stop()
        self.assertEqual(node.statistics()["items"], 1)
