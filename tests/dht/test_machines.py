"""
Stateful tests of the pure modules of L{dtt.dht}: Hypothesis drives them through any
sequence of events and compares them with simple, slow models.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.buckets import MAX_FAILURES, K
from dtt.dht.routing.table import MAX_WAITING, RoutingTable
from dtt.dht.server.storage import ItemStore, PeerStore
from dtt.dht.server.tokens import ROTATION_INTERVAL, Tokens
from dtt.dht.server.upload import (
    BURST_SECONDS,
    MAX_CHARGED,
    MAX_PROVEN,
    NETWORK_RATE,
    RESERVE_SECONDS,
    UPLOAD_BURST_SECONDS,
    UPLOAD_RATE,
    AnswerLimits,
)
from dtt.interfaces import Contact
from dtt.krpc.bencode import Encoded
from dtt.krpc.items import MutableItem
from dtt.net.networks import packed_network, subnet
from tests.sweeps import sized

OWN = bytes(20)

#: Irrelevant: all peers are returned.
RNG = Random(1)

#: Few ids and places, so that they collide.
IDS = st.builds(
    lambda first, rest: bytes((first,)) + bytes(18) + bytes((rest,)),
    st.sampled_from((0x80, 0x81, 0x40, 1, 0)),
    st.integers(0, 14),
)
HOSTS = st.builds(
    lambda net, host: f"{net}.{host}",
    st.sampled_from(("80.0.0", "80.0.1", "81.2.3", "10.0.0", "127.0.0", "99.1.1", "99.1.2")),
    st.integers(1, 6),
)
CONTACTS = st.builds(Contact, IDS, HOSTS, st.integers(1, 2))
SECONDS = st.floats(0, 2000)


class RoutingMachine(RuleBasedStateMachine):
    """
    A table; the model has the last response and the failures since, per node.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = RoutingTable(OWN, 0.0)
        self.answered: dict[Contact, float] = {}
        self.failures: dict[Contact, int] = {}

    @rule(contact=CONTACTS)
    def responded(self, contact: Contact) -> None:
        """
        A node answers.
        """
        self.answered[contact] = self.now
        self.failures[contact] = 0
        doubtful = self.table.responded(contact, self.now)
        assert doubtful is None or doubtful in self.table.contacts()

    @rule(contact=CONTACTS)
    def failed(self, contact: Contact) -> None:
        """
        A node does not answer.
        """
        self.failures[contact] = self.failures.get(contact, 0) + 1
        self.table.failed(contact)

    @rule(contact=CONTACTS)
    def heard(self, contact: Contact) -> None:
        """
        A node sends a query.
        """
        known = contact in self.table.contacts()
        worth = self.table.heard(contact.node_id, contact.host, contact.port, self.now)
        assert not (known and worth)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(own_id=IDS)
    def move(self, own_id: bytes) -> None:
        """
        Our id changes.
        """
        alive = len(self.table)
        self.table = self.table.with_id(own_id, self.now)
        assert len(self.table) <= alive

    @invariant()
    def bounded(self) -> None:
        """
        There is one place per node, per address, and per network in a bucket.
        """
        table = self.table
        contacts = table.contacts()
        assert table.own_id not in {contact.node_id for contact in contacts}
        assert len({contact.node_id for contact in contacts}) == len(contacts)
        places = {c.host if not c.host.startswith("127") else (c.host, c.port) for c in contacts}
        assert len(places) == len(contacts) == len(table) + table.bad
        for bucket in table._buckets:
            assert len(bucket.entries) <= K
            assert len(bucket.waiting) <= MAX_WAITING
            networks = [
                subnet(entry.contact.host)
                for entry in bucket.entries
                if not entry.contact.host.startswith("127")
            ]
            assert len(set(networks)) == len(networks)

    @invariant()
    def honest(self) -> None:
        """
        Only nodes that have answered are in the table, and only those that have not
        failed since are handed out.
        """
        contacts = set(self.table.contacts())
        assert contacts <= set(self.answered)
        for contact in self.table.nearest(OWN, 1000):
            assert self.failures[contact] < MAX_FAILURES + 1

    @invariant()
    def exact(self) -> None:
        """
        The nearest nodes are the nearest of all that are alive.
        """
        alive = self.table.nearest(OWN, 1000)
        assert len(alive) == len(self.table)
        for target in (bytes(20), b"\x80" * 20, b"\x01" + bytes(19)):
            number = int.from_bytes(target)
            by_distance = sorted(alive, key=lambda c: int.from_bytes(c.node_id) ^ number)
            assert self.table.nearest(target, K) == by_distance[:K]
            compact = self.table.nearest_compact(target)
            assert len(compact) == 26 * min(K, len(alive))


TARGETS = st.integers(0, 30).map(lambda number: number.to_bytes(20))
NETWORKS = st.sampled_from((b"aaa", b"bbb", b"ccc"))


class StoreMachine(RuleBasedStateMachine):
    """
    Items and peers in small stores; the model has the last put per key.
    """

    CAPACITY, SHARE, LIFETIME = 12, 6, 100.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.items = ItemStore(OWN, self.CAPACITY, self.SHARE, self.LIFETIME)
        self.peers = PeerStore(OWN, self.CAPACITY, self.SHARE, self.LIFETIME)
        self.put_at: dict[bytes, tuple[Any, float]] = {}
        self.announced: dict[tuple[bytes, bytes], float] = {}

    @rule(where=TARGETS, seq=st.integers(0, 3), value=st.sampled_from((b"1:a", b"1:b")), net=NETWORKS)
    def put(self, where: bytes, seq: int, value: bytes, net: bytes) -> None:
        """
        A node puts what BEP44 allows.
        """
        item = MutableItem(b"k" * 32, b"", seq, Encoded(value), b"s" * 64)
        stored = self.items.get(where, self.now)
        if stored is not None and self.items.conflict(stored, item, None) is not None:
            return
        self.items.put(where, item, net, self.now)
        self.put_at[where] = (item, self.now)
        assert self.items.get(where, self.now) == item

    @rule(where=TARGETS)
    def refresh(self, where: bytes) -> None:
        """
        A node repeats a put.
        """
        stored = self.items.get(where, self.now)
        if stored is not None:
            self.items.refresh(where, self.now)
            self.put_at[where] = (stored, self.now)

    @rule(info_hash=TARGETS, number=st.integers(0, 5), net=NETWORKS)
    def announce(self, info_hash: bytes, number: int, net: bytes) -> None:
        """
        A node announces a peer.
        """
        peer = b"peer-%d" % number
        self.peers.announce(info_hash, peer, net, self.now)
        self.announced[info_hash, peer] = self.now
        assert peer in self.peers.peers(info_hash, 6, 500, RNG, self.now)

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(count=st.integers(1, 20))
    def sample(self, count: int) -> None:
        """
        A node requests info hashes.
        """
        sample, total = self.peers.sample(count, self.now)
        assert len(set(sample)) == len(sample) <= min(count, total)
        assert all(self.peers.peers(each, 6, 500, RNG, self.now) for each in sample)

    @rule(most=st.integers(0, 20))
    def expire(self, most: int) -> None:
        """
        The upkeep runs.
        """
        self.items.expire(self.now, most)
        self.peers.expire(self.now, most)

    @invariant()
    def bounded(self) -> None:
        """
        Neither the total nor any network's share is exceeded.
        """
        for store in (self.items, self.peers):
            assert len(store) <= self.CAPACITY
            shares = Counter(entry.leaf.network for entry in store._entries.values()).values()
            assert len(store._shares) == len(store)
            assert all(0 < share <= self.SHARE for share in shares)
        assert sum(map(len, self.peers._torrents.values())) == len(self.peers)

    @invariant()
    def honest(self) -> None:
        """
        A value found is the last one put, within its lifetime.
        """
        for target, (item, since) in self.put_at.items():
            found = self.items.get(target, self.now)
            assert found is None or (found == item and self.now - since < self.LIFETIME)
        for (info_hash, peer), since in self.announced.items():
            if peer in self.peers.peers(info_hash, 6, 500, RNG, self.now):
                assert self.now - since < self.LIFETIME


IPS = st.builds(lambda net, host: bytes((80, 0, net, host)), st.integers(0, 9), st.integers(0, 3))


class LimitsMachine(RuleBasedStateMachine):
    """
    Answers of any size to any address; the model has what was sent, when and to which
    address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.limits = AnswerLimits()
        self.sent = 0
        self.unproven: dict[bytes, int] = {}

    @rule(ip=IPS, size=st.integers(50, 1500), count=st.integers(1, 30))
    def answer(self, ip: bytes, size: int, count: int) -> None:
        """
        An address sends a number of queries.
        """
        for _ in range(count):
            if self.limits.allows(ip, self.now):
                if not self.limits.is_proven(ip, self.now):
                    self.unproven[packed_network(ip)] = self.unproven.get(packed_network(ip), 0) + size
                self.limits.charge(ip, size, self.now)
                self.sent += size

    @rule(ip=IPS)
    def prove(self, ip: bytes) -> None:
        """An address completes a round trip."""
        self.limits.prove(ip, self.now)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        """
        Neither the total nor a network gets more than rates and bursts allow.
        """
        passed = self.now - 1000.0
        assert self.sent <= UPLOAD_RATE * (passed + UPLOAD_BURST_SECONDS + RESERVE_SECONDS) + 1500
        for sent in self.unproven.values():
            assert sent <= NETWORK_RATE * (passed + BURST_SECONDS) + 1500
        assert len(self.limits._proven) <= MAX_PROVEN
        assert len(self.limits._charged) <= MAX_CHARGED


class TokenMachine(RuleBasedStateMachine):
    """
    Tokens for any address at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tokens = Tokens(Random(1), 0.0)
        self.given: list[tuple[bytes, bytes, bytes, float]] = []

    @rule(ip=IPS, where=TARGETS)
    def give(self, ip: bytes, where: bytes) -> None:
        """
        An address gets a token.
        """
        self.given.append((self.tokens.token(ip, where, self.now), ip, where, self.now))

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def valid(self) -> None:
        """
        Each token is valid for 5 to 10 minutes, for no other address and target.
        """
        for token, ip, target, since in self.given[-20:]:
            good = self.tokens.is_valid(token, ip, target, self.now)
            if self.now - since < ROTATION_INTERVAL:
                assert good
            if self.now - since >= 2 * ROTATION_INTERVAL:
                assert not good
            assert not self.tokens.is_valid(token, bytes((9, 9, 9, 9)), target, self.now)
            assert not self.tokens.is_valid(token, ip, b"\xff" * 20, self.now)


class MachineTests(SynchronousTestCase):
    """
    Each machine, for some hundred sequences.
    """

    def run_machine(self, machine: type[RuleBasedStateMachine]) -> None:
        """
        Run one; a failing sequence is printed in its shortest form.
        """
        run_state_machine_as_test(
            machine, settings=settings(max_examples=sized(5, 60), stateful_step_count=60, deadline=None)
        )

    def test_routing(self) -> None:
        """
        L{RoutingTable} obeys its rules.
        """
        self.run_machine(RoutingMachine)

    def test_storage(self) -> None:
        """
        L{ItemStore} and L{PeerStore} obey their rules.
        """
        self.run_machine(StoreMachine)

    def test_limits(self) -> None:
        """
        L{AnswerLimits} obeys its rates.
        """
        self.run_machine(LimitsMachine)

    def test_tokens(self) -> None:
        """
        L{Tokens} recognizes its own tokens.
        """
        self.run_machine(TokenMachine)
