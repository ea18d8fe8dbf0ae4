"""
Whole trackers behind NATs and firewalls, in virtual time.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.testing.net.nat import Behaviour
from dtt.testing.net.udp import Datagram
from dtt.transport.streams.frames import Rendezvous, encode_frame
from dtt.wire.addresses import QUIC, PeerAddress
from tests.sweeps import sized, thorough
from tests.tracker.common import without_iroh
from tests.tracker.internet import KINDS, Internet, Member, parts

#: Pairs that can't meet without a third member: the port of a symmetric NAT can't be known, and the
#: other side lets in only whom it has sent to.
IMPOSSIBLE: Final = {("nat", "sym"), ("eim", "sym"), ("fw", "sym"), ("sym", "sym")}

PAIRS: Final = [pair for pair in combinations_with_replacement(KINDS, 2) if pair not in IMPOSSIBLE]


class NATTestCase(SynchronousTestCase):
    """
    Has internets.
    """

    def setUp(self) -> None:
        """Without iroh."""
        without_iroh(self)

    def internet(self, seed: int = 0, **network: Any) -> Internet:
        """Return a network that is stopped at the end."""
        internet = Internet(seed, **network)
        self.addCleanup(internet.stop)
        return internet

    def assert_joined(self, internet: Internet, members: tuple[Member, Member], limit: float) -> None:
        """Two members join within some seconds from the start of the later one, and hear each other."""
        joined = internet.until(lambda: all(member.joined_at for member in members), limit)
        kinds = [member.kind for member in members]
        self.assertTrue(joined, f"seed {internet.seed}: {kinds} not within {limit} s")


class PairTests(NATTestCase):
    """
    Two members meet, whatever each of them is behind.
    """

    def meet(self, internet: Internet, gap: float, limit: float = 60.0) -> list[tuple[float, str, str]]:
        """
        Let a pair of members of each pair of kinds meet, all pairs at the same time; of every
        sixth or twentieth one if the test is to be quick.

        @param gap: seconds between the starts of the two members of a pair; the first may be of either
            kind.
        @return: how long each pair has taken from the start of the later one, the quickest first.
        """
        kinds = dict.fromkeys([*PAIRS, *(pair[::-1] for pair in PAIRS if gap)])
        some = list(kinds)[:: sized(20 if gap else 6, 1)]
        pairs = [(internet.member(first), internet.member(second)) for first, second in some]
        for number, (member, _) in enumerate(pairs):
            internet.start(member, f"topic {number}")
        internet.advance(gap)
        for number, (_, member) in enumerate(pairs):
            internet.start(member, f"topic {number}")
        internet.until(lambda: all(member.joined_at for member in internet.members), limit)
        took = []
        for one, other in pairs:
            joined = max(member.joined_at or float("inf") for member in (one, other))
            took.append((joined - other.started_at, one.kind, other.kind))
        return sorted(took)

    def test_together(self) -> None:
        """Two members that start together are neighbours within a second, but for few."""
        for seed in range(sized(1, 2)):
            took = self.meet(self.internet(seed), 0.0)
            self.assertLess(took[-1][0], 4.0, f"seed {seed}: {took[-1]}")
            self.assertLess(took[len(took) * 9 // 10][0], 1.0, f"seed {seed}: {took}")

    def test_newcomer(self) -> None:
        """A member that starts 7 s after the other one is its neighbour within 2.5 s."""
        took = self.meet(self.internet(), 7.0)
        self.assertLess(took[-1][0], 2.5, took[-1])

    @thorough
    def test_loss(self) -> None:
        """With 10 to 80 ms one way and a tenth of the datagrams lost, most meet within 3 s, and all soon."""
        took = self.meet(self.internet(1, low=0.01, high=0.08, loss=0.1), 0.0)
        self.assertLess(took[-1][0], 20.0, took[-1])
        self.assertLess(took[len(took) * 3 // 4][0], 3.0, took)

    def test_impossible(self) -> None:
        """
        Behind symmetric NATs two members can't meet; with a public member all three are one
        swarm, and everybody hears everybody.
        """
        internet = self.internet()
        two = [internet.start(internet.member("sym")) for _ in range(2)]
        internet.advance(sized(5, 20))
        self.assertEqual([member.joined_at for member in two], [None, None])
        third = internet.start(internet.member("public"))
        self.assertTrue(internet.until(lambda: all(member.joined_at for member in two), 8.0))
        internet.advance(2.0)
        for member in (*two, third):
            assert member.topic is not None
            member.topic.broadcast(member.tracker.peer_id)
        internet.advance(2.0)
        for member in (*two, third):
            others = {other.tracker.peer_id for other in internet.members if other is not member}
            self.assertEqual(member.heard, others)


class SharedNATTests(NATTestCase):
    """
    Members with a NAT in common.  They are late to the DHT, since its bootstrap hosts
    answer one address rarely.
    """

    def test_same_network(self) -> None:
        """Two members in one home meet at their local addresses, whether or not the NAT hairpins."""
        for hairpin in (False, True)[: sized(1, 2)]:
            internet = self.internet(int(hairpin))
            home = internet.nat(hairpin=hairpin)
            one, other = (internet.member(f"hairpin {hairpin}", behind=home) for _ in range(2))
            internet.start(one)
            internet.start(other)
            self.assert_joined(internet, (one, other), 4.0)

    @thorough
    def test_double_nat(self) -> None:
        """
        A home behind a provider's NAT meets a home elsewhere, and one behind the same
        provider's NAT if that hairpins.
        """
        internet = self.internet()
        provider = internet.nat(hairpin=True, filtering=Behaviour.ENDPOINT_INDEPENDENT)
        homes = [internet.nat(provider, f"100.64.{number}.1") for number in range(2)]
        one, other = (internet.member("double", behind=home) for home in homes)
        internet.start(one, "same provider")
        internet.start(other, "same provider")
        third = internet.member("double", behind=internet.nat(provider, "100.64.9.1"))
        fourth = internet.member("nat")
        internet.start(third, "elsewhere")
        internet.start(fourth, "elsewhere")
        self.assert_joined(internet, (third, fourth), 12.0)
        self.assert_joined(internet, (one, other), 6.0)


class SwarmTests(NATTestCase):
    """
    More than two members.
    """

    def settle(self, internet: Internet, members: list[Member], limit: float) -> None:
        """Wait until all members are one swarm."""
        united = internet.until(lambda: len(parts(members)) == 1, limit, 0.5)
        self.assertTrue(united, f"seed {internet.seed}: {parts(members)}")

    def assert_all_hear_all(self, internet: Internet, members: list[Member]) -> None:
        """A message of each member reaches all others."""
        for member in members:
            assert member.topic is not None
            member.topic.broadcast(member.tracker.peer_id)
            internet.advance(0.1)
        internet.advance(3.0)
        for member in members:
            others = {other.tracker.peer_id for other in members if other is not member}
            self.assertEqual(others - member.heard, set(), f"seed {internet.seed}")

    @thorough
    def test_mostly_behind_nats(self) -> None:
        """
        Twelve members, of which one can be reached, are one swarm within 30 s; all hear all, and
        there is less than one change of neighbours a member and minute afterwards.
        """
        internet = self.internet()
        kinds = ["public", *["nat", "eim", "nat", "fw"] * 3][:12]
        members = [internet.start(internet.member(kind)) for kind in kinds]
        self.settle(internet, members, 30.0)
        self.assert_all_hear_all(internet, members)
        internet.advance(30.0)
        for member in members:
            member.changes = 0
        internet.advance(120.0)
        self.assertLess(sum(member.changes for member in members) / len(members) / 2, 1.0)
        self.assertEqual(len(parts(members)), 1)

    def test_newcomer_to_an_unreachable_swarm(self) -> None:
        """Where all are behind NATs, members watch for newcomers: one is let in within 8 s."""
        internet = self.internet()
        self.settle(internet, [internet.start(internet.member("nat")) for _ in range(2)], 30.0)
        internet.advance(20.0)
        internet.start(internet.member("nat"))
        self.assertTrue(internet.until(lambda: internet.members[-1].joined_at is not None, 8.0))

    @thorough
    def test_newcomers_to_an_unreachable_swarm(self) -> None:
        """
        Where all are behind NATs, the members look for newcomers, and let them in within some
        seconds; each sends less than 5 datagrams a second to the DHT.
        """
        internet = self.internet()
        members = [internet.start(internet.member("nat")) for _ in range(4)]
        self.settle(internet, members, 30.0)
        internet.advance(45.0)
        internet.sent.clear()
        seconds = 120
        internet.advance(seconds)
        for member in members:
            self.assertLess(internet.sent[member.host] / seconds, 5.0)
        took = []
        for _ in range(5):
            newcomer = internet.start(internet.member("nat"))
            joined = internet.until(lambda: internet.members[-1].joined_at is not None, 30.0)
            self.assertTrue(joined)
            took.append((newcomer.joined_at or 0.0) - newcomer.started_at)
            newcomer.tracker.stopService()
            internet.advance(17.0)
        self.assertLess(sorted(took)[len(took) // 2], 8.0, took)
        self.assertLess(max(took), 20.0, took)

    def test_reachable_members_do_not_watch(self) -> None:
        """A member that others reach by themselves does not read the slot more often than before."""
        internet = self.internet()
        members = [internet.start(internet.member("public")) for _ in range(sized(3, 4))]
        self.settle(internet, members, 30.0)
        internet.advance(45.0)
        internet.sent.clear()
        seconds = sized(25, 120)
        internet.advance(seconds)
        self.assertLess(min(internet.sent[member.host] for member in members) / seconds, 2.5)


class HostileTests(NATTestCase):
    """
    Members that name a victim's addresses.
    """

    def test_a_record_that_names_a_victim(self) -> None:
        """
        Members that publish records with eight ports of a victim, and ask to be introduced to
        everybody as if they were at the victim, make a member send it 60 probes within ten
        minutes, not more, whatever the number of records.
        """
        internet = self.internet()
        victim = internet.host()
        got: Counter[str] = Counter()

        def observe(datagram: Datagram) -> None:
            if datagram.destination[0] == victim:
                got[datagram.source[0]] += 1

        internet.net.udp.observers.append(observe)
        ports = [PeerAddress(QUIC, victim, port) for port in range(5000, 5008)]
        for _ in range(sized(2, 4)):
            attacker = internet.member("public")
            streams = attacker.tracker._listeners._streams
            assert streams is not None
            self.patch(streams, "addresses", lambda: tuple(ports))
            internet.start(attacker)
        attackers = [*internet.members]
        members = [internet.start(internet.member(kind)) for kind in ("nat", "public")]
        internet.advance(sized(8, 60))
        for _ in range(sized(4, 60)):
            for attacker in attackers:
                streams = attacker.tracker._listeners._streams
                assert streams is not None
                assert attacker.topic is not None
                sockets = [(victim, internet.rng.randrange(1, 65536)) for _ in range(4)]
                for member in members:
                    streams.multiplexer.ask_for(member.tracker.peer_id, attacker.topic.topic_id, sockets)
                    for link in streams.multiplexer.table.current.values():
                        number = link.channels.sending(attacker.topic.topic_id)
                        if number is not None:
                            asker = PeerKey(internet.rng.randbytes(32)).peer_id
                            forged = Rendezvous(number, True, asker, link.peer_id, tuple(sockets))
                            link.connection.send(encode_frame(forged))
            internet.advance(1.0)
        for member in members:
            host = member.host
            self.assertLessEqual(got[host], 60, f"{member.kind}: {got}")
        self.assertGreater(sum(got.values()), 0)
        self.assertEqual(len(parts(members)), 1)
