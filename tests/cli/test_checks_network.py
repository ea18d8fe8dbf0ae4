"""
Tests for L{dtt.cli.checks_network}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtt.cli import checks_network
from dtt.cli.findings import Finding, Verdict
from dtt.dht.node import DHTNode
from dtt.identity import PeerKey
from dtt.portmap.mapper import Mapping
from dtt.portmap.wire import Transport
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash
from tests.cli.common import FIRST, CommandTestCase, DHTTestCase

TOPIC = TopicId.from_name("garden party")

MINUTE = 30_000_000


class NetworkTests(DHTTestCase):
    """
    Tests for the checks on a DHT in memory.
    """

    def test_bootstrap_hosts(self) -> None:
        """Each host is asked: one that answers, one that is silent, and one without an address."""
        self.network.udp.names["good.example"] = [FIRST]
        found = self.result(
            checks_network.bootstrap_hosts(
                self.reactor, self.node, [("good.example", 6881), ("10.0.0.77", 1), ("nowhere.example", 1)]
            )
        )
        self.assertEqual([each.verdict for each in found], [Verdict.GOOD, Verdict.WARNING, Verdict.WARNING])
        self.assertFalse(checks_network.all_silent(found))
        self.assertTrue(checks_network.all_silent(found[1:]))

    def test_dht(self) -> None:
        """A DHT that answers, and one that does not."""
        for host, verdict in ((FIRST, Verdict.GOOD), ("10.0.0.77", Verdict.BAD)):
            node = DHTNode(
                self.network.reactor(f"10.2.{verdict is Verdict.BAD:d}.1"), bootstrap=[(host, 6881)]
            )
            (finding,) = self.result(checks_network.dht(self.reactor, node, silent=True), 15)
            self.assertEqual(finding.verdict, verdict)
            node.stopService()
            self.flushLoggedErrors()

    def test_item(self) -> None:
        """An item is stored and read back."""
        (finding,) = self.result(checks_network.stored_and_read(self.reactor, self.node))
        self.assertEqual(finding.verdict, Verdict.GOOD)
        self.assertIn("stored on 8 nodes", finding.text)

    def test_external_address(self) -> None:
        """What other nodes say is reported."""
        nat, udp_in = self.result(checks_network.external_address(self.reactor, self.node, ["10.1.1.1"]))
        self.assertEqual(nat.verdict, Verdict.GOOD)
        self.assertIn("this machine is 10.1.1.1", nat.text)
        self.assertIn(udp_in.verdict, (Verdict.GOOD, Verdict.NOTE))
        nat, _ = self.result(checks_network.external_address(self.reactor, self.node, ["192.168.0.1"]))
        self.assertIn("the same port for all destinations: 10.1.1.1", nat.text)

    def publish(self, secret: bytes, minute: int) -> None:
        """Store a record in a slot."""
        slot = Slot(TOPIC, minute)
        key = encryption_key(slot, initial_secret_hash(secret))
        record = Record.sign(PeerKey.from_seed(b"\x05" * 32), slot, GossipContent((), (), ()).encode())
        stored = encrypt(record, key.public, bytes(ENTROPY_BYTES))
        self.result(self.put(slot, stored))

    async def put(self, slot: Slot, stored: bytes) -> None:
        """Store a value in a slot."""
        await self.node.put_latest(slot.signing_seed, stored, 1, slot.salt)

    def test_slots(self) -> None:
        """Records of others, of another secret, and of another minute are distinguished."""

        def check(secret: bytes, minute: int, own: bytes = b"") -> list[Finding]:
            return self.result(
                checks_network.slots(self.reactor, self.node, TOPIC, secret, minute, own), seconds=40
            )

        (finding,) = check(b"a", MINUTE)
        self.assertIn("no record within five minutes", finding.text)
        self.publish(b"a", MINUTE)
        (finding,) = check(b"a", MINUTE)
        self.assertEqual((finding.check, finding.verdict), ("members", Verdict.GOOD))
        (finding,) = check(b"other", MINUTE)
        self.assertEqual((finding.check, finding.verdict), ("secret", Verdict.BAD))
        (finding,) = check(b"a", MINUTE + 4)
        self.assertEqual((finding.check, finding.verdict), ("members", Verdict.BAD))
        self.assertIn("4 minutes behind the clock", finding.text)
        (finding,) = check(b"a", MINUTE - 3)
        self.assertIn("3 minutes ahead of the clock", finding.text)

    def test_fingerprint(self) -> None:
        """What two sides compare depends on topic, secret and hour."""
        texts = [
            next(iter(checks_network.fingerprint(topic, secret, minute))).text
            for topic, secret, minute in (
                (TOPIC, b"a", MINUTE),
                (TOPIC, b"a", MINUTE),
                (TopicId(bytes(32)), b"a", MINUTE),
                (TOPIC, b"b", MINUTE),
                (TOPIC, b"a", MINUTE + 60),
            )
        ]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(len(set(texts)), 4)

    def test_one_minute(self) -> None:
        """One minute is not several."""
        self.publish(b"a", MINUTE)
        self.assertIn("1 minute ahead of", self.slots(MINUTE - 1)[0].text)
        self.assertIn("2 minutes behind", self.slots(MINUTE + 2)[0].text)

    def slots(self, minute: int, own: bytes = b"", node: Any = None) -> list[Finding]:
        """Read the slots of the topic."""
        asking = checks_network.slots(self.reactor, node or self.node, TOPIC, b"a", minute, own)
        return self.result(asking, seconds=40)

    def test_own_record(self) -> None:
        """Our own record is not that of another member."""
        self.publish(b"a", MINUTE)
        (finding,) = self.slots(MINUTE, PeerKey.from_seed(b"\x05" * 32).peer_id)
        self.assertEqual(finding.verdict, Verdict.NOTE)
        self.assertIn("no record within", finding.text)

    def test_both(self) -> None:
        """Readable records beside others of another secret are no failure, but worth a look."""
        self.publish(b"a", MINUTE)
        self.publish(b"other", MINUTE - 1)
        members, secret = self.slots(MINUTE)
        self.assertEqual((members.verdict, secret.verdict), (Verdict.GOOD, Verdict.WARNING))
        self.assertTrue(secret.text.startswith("1 record in "), secret.text)

    def test_slots_fail(self) -> None:
        """A slot that can't be read has no records; this is no error."""
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        (finding,) = self.slots(MINUTE)
        self.assertIn("no record within", finding.text)
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_item_fails(self) -> None:
        """A DHT that no longer answers, and one that keeps nothing, are failures with a reason."""
        keeps_nothing = self.node_that_asks({b"token": b"t"})
        (finding,) = self.result(checks_network.stored_and_read(self.reactor, keeps_nothing), 25)
        self.assertEqual(
            (finding.verdict, finding.text),
            (Verdict.BAD, "1 node accepted it, but none returned it"),
        )
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        (finding,) = self.result(checks_network.stored_and_read(self.reactor, self.node), 25)
        self.assertEqual(finding.verdict, Verdict.BAD)
        self.assertRegex(finding.text, r"^could not be stored and read back: \w+")
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_no_answer(self) -> None:
        """The advice depends on whether the bootstrap hosts answer."""
        advice = []
        for silent in (False, True):
            node = DHTNode(self.network.reactor(f"10.2.{silent:d}.1"), bootstrap=[("10.0.0.77", 1)])
            (finding,) = self.result(checks_network.dht(self.reactor, node, silent=silent), 15)
            advice.append(finding.advice)
            node.stopService()
            self.flushLoggedErrors()
        self.assertIn("the bootstrap hosts answer", advice[0])
        self.assertIn("firewall", advice[1])

    def test_unknown_nat(self) -> None:
        """If too few networks report our address, the check ends after some seconds, and says so."""
        node = self.node_that_asks({})
        asking = Deferred.fromCoroutine(checks_network.external_address(self.reactor, node, []))
        self.network.advance(checks_network.VOTES_TIMEOUT - 0.3)
        self.assertNoResult(asking)
        self.network.advance(0.6)
        nat, udp_in = self.successResultOf(asking)
        self.assertEqual((nat.verdict, udp_in.verdict), (Verdict.NOTE, Verdict.NOTE))
        self.assertRegex(nat.text, r"^unknown: only \d networks? reported our address$")

    def test_other_family(self) -> None:
        """A bootstrap host that has only IPv6 addresses is not a failure of an IPv4 node."""
        self.network.udp.names["six.example"] = ["2001:db8::1"]
        (finding,) = self.result(
            checks_network.bootstrap_hosts(self.reactor, self.node, [("six.example", 6881)])
        )
        self.assertEqual(
            (finding.verdict, finding.text), (Verdict.NOTE, "six.example:6881 has only IPv6 addresses")
        )


class PortMappingTests(CommandTestCase):
    """
    Tests for the check of the router.
    """

    def check(self, mapping: Mapping | None) -> Finding:
        """Return the result with a router that maps a port after a second, or not at all."""
        clock = Clock()
        self.stopped = 0
        case = self

        class Mapper:
            """A mapper of ports."""

            def __init__(self, reactor: Any, rng: Any, router: Any, changed: Any, further: Any) -> None:
                self.changed = changed

            def want(self, transport: Transport, port: int) -> None:
                case.assertEqual((transport, port), (Transport.UDP, 6881))

            def startService(self) -> None:
                if mapping is not None:
                    clock.callLater(0.5, self.changed, mapping, False)
                    clock.callLater(1, self.changed, mapping, True)
                    clock.callLater(1, self.changed, mapping, True)

            def stopService(self) -> None:
                case.stopped += 1

        self.patch(checks_network, "PortMapper", Mapper)
        self.patch(checks_network, "find_router", lambda host: ("192.168.0.5", "192.168.0.1"))
        checking = Deferred.fromCoroutine(checks_network.port_mapping(clock, 6881))
        clock.advance(0.5)
        self.assertNoResult(checking)
        clock.advance(0.5)
        if mapping is None:
            clock.advance(checks_network.ROUTER_TIMEOUT)
        (finding,) = self.successResultOf(checking)
        self.assertEqual((self.stopped, clock.getDelayedCalls()), (1, []))
        return finding

    def test_mapped(self) -> None:
        """A mapped port is shown; one whose address is private is behind a further NAT."""
        for host, verdict in (("203.0.113.7", Verdict.GOOD), ("192.168.7.7", Verdict.WARNING)):
            mapping = Mapping(Transport.UDP, 6881, host, 7000, "PCP", 7200)
            finding = self.check(mapping)
            self.assertEqual(finding.verdict, verdict)
            self.assertIn("(PCP)", finding.text)
            self.assertIn(f"{host}:7000", finding.text)

    def test_no_address(self) -> None:
        """A router that does not report its address is not said to be behind a NAT."""
        finding = self.check(Mapping(Transport.UDP, 6881, None, 7000, "UPnP", 7200))
        self.assertEqual(finding.verdict, Verdict.NOTE)
        self.assertEqual(finding.text, "the router opens ports (UPnP): 7000; it does not report its address")

    def test_refused(self) -> None:
        """A router that does not answer is worth knowing."""
        finding = self.check(None)
        self.assertEqual(finding.verdict, Verdict.NOTE)
        self.assertIn("does not open ports", finding.text)

    def test_no_router(self) -> None:
        """Without a router none is asked."""
        self.patch(checks_network, "find_router", lambda host: None)
        (finding,) = self.successResultOf(Deferred.fromCoroutine(checks_network.port_mapping(Clock(), 6881)))
        self.assertIn("not needed, or no router", finding.text)
