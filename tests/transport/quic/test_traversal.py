"""
Tests for L{dtt.transport.quic.traversal}.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.transport.quic import traversal as traversal_module
from dtt.transport.quic.probes import Probes
from dtt.transport.quic.traversal import (
    FREE_UNANSWERED,
    FURTHER,
    LEARN_AGAIN,
    LEARNT,
    MAX_ADDRESSES,
    MAX_LEARNT_ADDRESSES,
    MAX_LEARNT_PEERS,
    MAX_PEERS,
    MAX_UNANSWERED,
    PROVED_FOR,
    SCHEDULE,
    TRICKLE,
    UNANSWERED_WINDOW,
    Path,
    Traversal,
)
from tests.transport.quic.network import KEYS

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32
ALICE, BOB, CAROL = (key.peer_id for key in KEYS[:3])
AT_ALICE, AT_BOB = ("203.0.113.1", 1), ("203.0.113.2", 2)
NOW = 1_800_000_000.0


class TraversalTests(SynchronousTestCase):
    """
    When what is sent where.
    """

    def setUp(self) -> None:
        self.alice, self.bob = self.traversal(ALICE), self.traversal(BOB)

    def traversal(self, own_id: bytes) -> Traversal:
        """
        Return a machine with the topic open.
        """
        traversal = Traversal(own_id, Random(own_id), Counter())
        traversal.probes.open_topic(TOPIC, SECRET)
        return traversal

    def run_until(self, traversal: Traversal, end: float) -> list[tuple[float, tuple[str, int]]]:
        """
        Return what is sent by C{end}, seconds after L{NOW}, if nobody answers.
        """
        sent = []
        while (due := traversal.next_time()) is not None and due <= NOW + end:
            sent += [(round(due - NOW, 3), address) for _, address in traversal.poll(due)]
        return sent

    def test_schedule(self) -> None:
        """
        The first address of each family gets the full schedule, the others its
        beginning.
        """
        addresses = [("203.0.113.1", 1), ("192.168.1.1", 1), ("2001:db8::1", 1), ("2001:db8::2", 1)]
        self.alice.want(BOB, addresses, [TOPIC], NOW)
        sent = self.run_until(self.alice, 1000.0)
        for address, number in zip(addresses, (len(SCHEDULE), FURTHER) * 2, strict=True):
            times = [at for at, to in sent if to == address]
            self.assertEqual(times, [round(each, 3) for each in SCHEDULE[:number]])
        self.assertEqual(SCHEDULE[:9], (0.0, 0.05, 0.15, 0.3, 0.5, 0.8, 1.1, 1.5, 2.0))
        self.assertEqual((SCHEDULE[14], SCHEDULE[15], SCHEDULE[-1]), (5.0, 10.0, 150.0))
        self.assertIsNone(self.alice.next_time())
        self.assertFalse(self.alice.is_probing(BOB))

    def deliver(self, to: Traversal, sending: list[tuple[bytes, tuple[str, int]]]) -> list[Path | None]:
        """
        Deliver datagrams and everything that answers them.
        """
        paths: list[Path | None] = []
        source = AT_BOB if to is self.alice else AT_ALICE
        back = self.bob if to is self.alice else self.alice
        for datagram, _ in sending:
            answers, path = to.receive(datagram, source, NOW)
            if path is not None:
                paths.append(path)
            paths += self.deliver(back, answers)
        return paths

    def test_path(self) -> None:
        """
        One PING that arrives proves the path to both sides, and probing ends.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        paths = self.deliver(self.bob, self.alice.poll(NOW))
        self.assertCountEqual(paths, [Path(ALICE, AT_ALICE, NOW), Path(BOB, AT_BOB, NOW)])
        self.assertEqual((self.alice.proved(AT_BOB, NOW), self.bob.proved(AT_ALICE, NOW)), (BOB, ALICE))
        self.assertEqual(self.alice.path_to(BOB, NOW), AT_BOB)
        self.assertEqual((self.alice.next_time(), self.bob.next_time()), (None, None))
        later = NOW + PROVED_FOR + 1
        self.assertEqual((self.alice.proved(AT_BOB, later), self.alice.path_to(BOB, later)), (None, None))
        self.alice.disprove(AT_BOB)
        self.assertIsNone(self.alice.path_to(BOB, NOW))

    def test_used_path(self) -> None:
        """
        After a connection, the path must be proved again; both sides prove it with one PING.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.deliver(self.bob, self.alice.poll(NOW))
        for each, peer, address in ((self.alice, BOB, AT_BOB), (self.bob, ALICE, AT_ALICE)):
            each.connected(peer)
            self.assertIsNone(each.path_to(peer, NOW))
            self.assertEqual(each.proved(address, NOW), peer)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        paths = self.deliver(self.bob, self.alice.poll(NOW))
        self.assertCountEqual(paths, [Path(ALICE, AT_ALICE, NOW), Path(BOB, AT_BOB, NOW)])
        self.assertEqual((self.alice.path_to(BOB, NOW), self.bob.path_to(ALICE, NOW)), (AT_BOB, AT_ALICE))

    def test_pong_from_elsewhere(self) -> None:
        """
        A PONG proves nothing if it comes from another address, twice, or unasked.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        ((ping, _),) = self.alice.poll(NOW)
        answers, _ = self.bob.receive(ping, AT_ALICE, NOW)
        pong = answers[-1][0]
        self.assertEqual(self.alice.receive(pong, ("198.51.100.1", 2), NOW), ([], None))
        self.assertEqual(self.alice.receive(pong, AT_BOB, NOW), ([], None))
        self.assertEqual(self.alice.counters["dropped_pong"], 2)

    def test_forged_source(self) -> None:
        """
        An address that a PING came from gets one answer for each PING, and at most three of our probes within
        30 s: never more bytes than a member has sent with its address, plus these.
        """
        victim = ("198.51.100.9", 9)
        sent = 0
        for number in range(50):
            ping = self.alice.probes.ping(TOPIC, BOB, Random(number).randbytes(12), NOW)
            answers, _ = self.bob.receive(ping, victim, NOW + number * 0.01)
            sent += len(answers)
        sent += len(self.run_until(self.bob, 1000.0))
        self.assertLessEqual(sent, 50 + LEARNT)
        self.assertEqual(self.bob.counters["sent_ping"], LEARNT)
        later = NOW + LEARN_AGAIN + 1
        ping = self.alice.probes.ping(TOPIC, BOB, b"n" * 12, later)
        self.assertEqual(len(self.bob.receive(ping, victim, later)[0]), 2)

    def forge(self, number: int, sender: bytes = ALICE) -> None:
        """
        Let Bob receive a PING from the nth address.
        """
        probes = Probes(sender)
        probes.open_topic(TOPIC, SECRET)
        ping = probes.ping(TOPIC, BOB, number.to_bytes(12, "big"), NOW)
        answers, _ = self.bob.receive(ping, (f"198.51.{number // 250}.{number % 250}", 9), NOW)
        self.assertGreater(len(answers), 0)

    def test_forged_sources_of_one_peer(self) -> None:
        """
        PINGs from many addresses in a peer's name do not keep us from probing the peer.
        """
        for number in range(4 * MAX_ADDRESSES):
            self.forge(number)
        self.assertEqual(len(self.bob._targets[ALICE]), MAX_LEARNT_ADDRESSES)
        addresses = [("203.0.113.1", 1 + number) for number in range(MAX_ADDRESSES)]
        self.bob.want(ALICE, addresses, [TOPIC], NOW)
        self.assertLessEqual(set(addresses), {address for _, address in self.run_until(self.bob, 0.0)})

    def test_forged_peers(self) -> None:
        """
        PINGs of many peers leave room for those that we want to reach.
        """
        for number in range(MAX_PEERS):
            self.forge(number, PeerKey.from_seed(number.to_bytes(32, "big")).peer_id)
        self.assertEqual(len(self.bob._targets), MAX_LEARNT_PEERS)
        self.bob.want(CAROL, [AT_ALICE], [TOPIC], NOW)
        self.assertIn((0.0, AT_ALICE), self.run_until(self.bob, 0.0))

    def test_forged_addresses(self) -> None:
        """
        Addresses that PINGs came from leave room for those that we want to probe, for as
        long as they are counted.
        """
        self.patch(traversal_module, "MAX_COUNTED", 20)
        for number in range(40):
            self.forge(number, KEYS[3 + number % 20].peer_id)
        self.assertEqual(len(self.bob._unanswered), 10)
        for number in range(10):
            self.bob.want(CAROL, [(f"203.0.113.{number}", 1)], [TOPIC], NOW)
        self.assertEqual(len(self.run_until(self.bob, 0.0)), 10)

    def test_limit_of_an_ip_address(self) -> None:
        """
        However many peers and ports are named, one IP address gets at most 60 unanswered probes
        within 10 minutes: as many as a whole schedule has, then one now and then.
        """
        for number in range(40):
            addresses = [("198.51.100.9", 1 + number * 20 + n) for n in range(20)]
            self.alice.want(number.to_bytes(32, "big"), addresses, [TOPIC], NOW)
        first = len(self.run_until(self.alice, 0.0))
        self.assertEqual(first, FREE_UNANSWERED)
        later = [at for at, _ in self.run_until(self.alice, UNANSWERED_WINDOW - 1)]
        self.assertGreater(len(later), 3)
        self.assertGreaterEqual(min(b - a for a, b in pairwise((0.0, *later))), TRICKLE)
        for number in range(100):
            now = 151.0 + 30 * number
            self.alice.want(bytes(32), [("198.51.100.9", 1 + number)], [TOPIC], NOW + now)
            later += [at for at, _ in self.run_until(self.alice, now)]
        for at in later:
            within = sum(at - UNANSWERED_WINDOW < each <= at for each in (*[0.0] * first, *later))
            self.assertLessEqual(within, MAX_UNANSWERED)
        self.assertGreater(self.alice.counters["probe_limit"], 0)
        late = NOW + 4000.0
        self.run_until(self.alice, 4000.0)
        self.alice.want(BOB, [("198.51.100.9", 7)], [TOPIC], late)
        self.assertEqual(len(self.alice.poll(late)), 1)

    def test_bounds(self) -> None:
        """
        Peers, addresses of a peer and proved paths are bounded.
        """
        for number in range(MAX_PEERS + 10):
            addresses = [(f"198.51.{number}.{n}", 1) for n in range(30)]
            self.alice.want(number.to_bytes(32, "big"), addresses, [TOPIC], NOW)
        self.assertEqual(len(self.alice._targets), MAX_PEERS)
        self.assertLessEqual(max(map(len, self.alice._targets.values())), MAX_ADDRESSES)
        self.run_until(self.alice, 1000.0)
        self.alice.poll(NOW + 1000.0)
        self.assertEqual((self.alice._targets, self.alice._pings, self.alice._due), ({}, {}, []))

    def test_wanted_again(self) -> None:
        """
        A running schedule continues unchanged; one that has ended starts again.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.run_until(self.alice, 1.0)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW + 1.0)
        self.assertEqual(self.run_until(self.alice, 1.1), [(1.1, AT_BOB)])
        self.run_until(self.alice, 700.0)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW + 701.0)
        self.assertEqual(len(self.run_until(self.alice, 701.5)), 5)

    def test_answer_beyond_the_limit(self) -> None:
        """
        An address that has had all its probes gets one in answer to a PING, which proves the path: its
        network has returned.
        """
        for number in range(20):
            self.alice.want(BOB, [AT_BOB], [TOPIC], NOW + 30 * number)
            self.run_until(self.alice, 30.0 * (number + 1) - 1)
        now = NOW + 600.0
        self.bob.want(ALICE, [AT_ALICE], [TOPIC], now)
        (ping,) = self.bob.poll(now)
        sending, _ = self.alice.receive(ping[0], AT_BOB, now)
        self.assertEqual(len(sending), 2)
        for datagram, _ in sending:
            for answer, _ in self.bob.receive(datagram, AT_ALICE, now)[0]:
                self.alice.receive(answer, AT_BOB, now)
        self.assertEqual(self.alice.proved(AT_BOB, now), BOB)

    def test_restart_allows_more(self) -> None:
        """
        When our network has changed, addresses that have ever answered may get as many probes as before.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.deliver(self.bob, self.alice.poll(NOW))
        self.alice.restart(NOW + 1)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW + 1)
        self.run_until(self.alice, 300.0)
        self.alice.restart(NOW + 300)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW + 300)
        self.assertEqual(len(self.run_until(self.alice, 300.5)), 5)

    def test_stop(self) -> None:
        """
        A peer that is connected gets no more probes.
        """
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.alice.poll(NOW)
        self.alice.connected(BOB)
        self.assertEqual(self.run_until(self.alice, 1000.0), [])

    def test_topics(self) -> None:
        """
        If it is unknown which topic the peer has, the probes use four of our topics in turn;
        another dial for the same address adds its topic.
        """
        many = [bytes((number,)) * 32 for number in range(10)]
        for topic_id in many:
            self.alice.probes.open_topic(topic_id, SECRET)
        for topic_ids, expected in ((many, many[:4]), ([OTHER, many[9]], [many[9]])):
            self.setUp()
            for topic_id in many:
                self.alice.probes.open_topic(topic_id, SECRET)
            for topic_id in expected:
                reader = self.traversal(BOB)
                reader.probes.open_topic(topic_id, SECRET)
                self.alice.want(BOB, [AT_BOB], topic_ids, NOW)
                sent = [probe for time in SCHEDULE[:5] for probe, _ in self.alice.poll(NOW + time)]
                read = [reader.probes.open(probe, NOW) for probe in sent]
                self.assertIn(topic_id, [probe.topic_id for probe in read if probe is not None])
                self.alice.connected(BOB)
        self.alice.want(BOB, [AT_BOB], many[:1], NOW)
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.assertEqual(self.alice._targets[BOB][AT_BOB].topic_ids, [TOPIC, many[0]])

    def test_no_topic(self) -> None:
        """
        Without a topic in common nothing is sent; a topic that is closed ends its probes.
        """
        self.alice.want(BOB, [AT_BOB], [OTHER], NOW)
        self.assertIsNone(self.alice.next_time())
        self.alice.want(BOB, [AT_BOB], [TOPIC], NOW)
        self.alice.probes.close_topic(TOPIC)
        self.assertEqual(self.run_until(self.alice, 1000.0), [])
