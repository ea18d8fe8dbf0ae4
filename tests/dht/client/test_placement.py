"""
Tests for L{dtt.dht.client.placement}.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.dht.client.placement import FEW, INNER, MANY, MIDDLE, MOST, FirstCopy, Placement, default_copies
from dtt.dht.routing.ids import generate
from dtt.interfaces import Contact, IPlacement, MutableRead, NodeAnswer

OURS = b"o" * 32
VALUE = OURS + b"value"


def classify(value: bytes) -> bytes | None:
    """
    Records begin with their publisher; C{junk...} is junk.
    """
    return None if value.startswith(b"junk") else value[:32]


def other(number: int) -> bytes:
    """
    The record of another publisher.
    """
    return bytes((number,)) * 32 + b"record"


def make_read(count: int = 32, /, **held: bytes) -> MutableRead:
    """
    A read of C{count} free nodes; C{r5=value}: rank 5 holds the value.
    """
    answers = tuple(
        NodeAnswer(Contact(rank.to_bytes(20), f"10.0.0.{rank}", 1), b"token", held.get(f"r{rank}"))
        for rank in range(1, count + 1)
    )
    return MutableRead(b"k" * 32, b"salt", answers)


def rank(answer: NodeAnswer) -> int:
    """
    The rank of an answer of L{make_read}.
    """
    return int.from_bytes(answer.contact.node_id)


class PlanTests(SynchronousTestCase):
    """
    Rules 2, 3 and 4 of docs/protocol/dht.md section 4.
    """

    def setUp(self) -> None:
        self.placement = Placement(OURS, classify)

    def ranks(self, read: MutableRead) -> list[list[int]]:
        return [[rank(answer) for answer in sequence] for sequence in self.placement.plan(read, VALUE)]

    def test_interface(self) -> None:
        """
        It provides L{IPlacement}.
        """
        verifyObject(IPlacement, self.placement)

    def test_first_put(self) -> None:
        """
        One inner copy, tried within ranks 1-12, then 13-20, then anywhere; and one
        outer copy, tried within ranks 21-32 only, since the inner ranks are for other
        members' first copies.
        """
        inner, outer = self.ranks(make_read())
        self.assertEqual(set(inner[:INNER]), set(range(1, 13)))
        self.assertEqual(set(inner[INNER:MIDDLE]), set(range(13, 21)))
        self.assertEqual(set(inner[MIDDLE:]), set(range(21, 33)))
        self.assertEqual(outer, inner[MIDDLE:])

    def test_order_of_values(self) -> None:
        """
        Each value is classified once, in the order of the nodes: simulations are the same in each process.
        """
        classified: list[bytes] = []

        def record(value: bytes) -> bytes | None:
            classified.append(value)
            return classify(value)

        held = {f"r{number}": other(number % 12) for number in range(1, 25)}
        Placement(OURS, record).plan(make_read(32, **held), VALUE)
        self.assertEqual(classified, [other(number % 12) for number in range(1, 13)])

    def test_few_nodes(self) -> None:
        """
        With fewer than 21 nodes both copies are inner.
        """
        first, second = self.ranks(make_read(20))
        self.assertEqual(first, second)
        self.assertEqual(set(first), set(range(1, 21)))

    def test_no_nodes(self) -> None:
        """
        If no node answers, nothing is placed.
        """
        self.assertEqual(self.ranks(make_read(0)), [])

    def test_only_32(self) -> None:
        """
        Nodes behind the 32 nearest are not written to.
        """
        self.assertEqual({r for sequence in self.ranks(make_read(50)) for r in sequence}, set(range(1, 33)))

    def test_free_nodes_with_tokens_only(self) -> None:
        """
        A node that holds a value or gave no token is not a candidate.
        """
        read = make_read(8, r1=other(1), r2=b"junk", r3=VALUE)
        read = evolve(read, answers=(*read.answers[:7], evolve(read.answers[7], token=None)))
        self.assertEqual({r for sequence in self.ranks(read) for r in sequence}, {4, 5, 6, 7})

    def test_order_is_rendezvous(self) -> None:
        """
        The order within a band differs between publishers and is stable.
        """
        firsts = set()
        for number in range(50):
            placement = Placement(bytes((number,)) * 32, classify)
            plan = placement.plan(make_read(), other(number))
            self.assertEqual(plan, placement.plan(make_read(), other(number)))
            firsts.add(rank(plan[0][0]))
        self.assertGreaterEqual(len(firsts), 10)

    def test_crowd(self) -> None:
        """
        In a slot of more than ten publishers, including us, each has one copy.
        """
        for others, copies in ((9, 2), (10, 1), (20, 1)):
            held = {f"r{number}": other(number) for number in range(1, others + 1)}
            self.assertEqual(len(self.ranks(make_read(**held))), copies)
        self.assertEqual(self.ranks(make_read(r32=VALUE, **held)), [])

    def test_top_up(self) -> None:
        """
        With our record in the slot, the copies missing to clamp(20 // publishers, 2, 6)
        are planned, inner ranks first.
        """
        alone = self.ranks(make_read(r3=VALUE, r22=VALUE))
        self.assertEqual(len(alone), 4)
        self.assertEqual(set(alone[0][:11]), set(range(1, 13)) - {3})
        crowd = {f"r{number}": other(number) for number in range(5, 14)}
        self.assertEqual(self.ranks(make_read(r3=VALUE, r22=VALUE, **crowd)), [])
        self.assertEqual(len(self.ranks(make_read(r3=VALUE, **crowd))), 1)
        four = {f"r{number}": other(number) for number in range(5, 9)}
        self.assertEqual(len(self.ranks(make_read(r3=VALUE, r22=VALUE, **four))), 2)

    def test_second_copy(self) -> None:
        """
        With one of our copies in the slot, at any rank, the next one goes to the outer
        band; to the inner ones only if no outer node is free or there is none.
        """
        for own in ("r3", "r15", "r25"):
            (sequence,) = self.ranks(make_read(**{own: VALUE}))
            self.assertEqual(set(sequence), set(range(21, 33)) - {int(own[1:])})
        taken = {f"r{number}": b"junk" for number in range(21, 33)}
        (sequence,) = self.ranks(make_read(r3=VALUE, **taken))
        self.assertEqual(set(sequence[: INNER - 1]), set(range(1, 13)) - {3})
        self.assertEqual(set(sequence[INNER - 1 :]), set(range(13, 21)))
        (sequence,) = self.ranks(make_read(20, r3=VALUE))
        self.assertEqual(set(sequence), set(range(1, 21)) - {3})

    def test_valid_ids(self) -> None:
        """
        Nodes with a valid id come first in their band until one of them holds our copy,
        then last: one of the first two copies goes to a valid node.
        """
        for seed in range(20):
            rng = Random(seed)
            hosts = [f"80.1.{number}.1" for number in range(32)]
            valid = [rng.random() < 0.3 for _ in hosts]
            ids = [
                generate(host, rng) if good else rng.randbytes(20)
                for host, good in zip(hosts, valid, strict=True)
            ]
            answers = tuple(
                NodeAnswer(Contact(node_id, host, 1), b"token")
                for node_id, host in zip(ids, hosts, strict=True)
            )
            read = MutableRead(b"k" * 32, b"salt", answers)

            def is_good(answer: NodeAnswer, ids: list[bytes] = ids, valid: list[bool] = valid) -> bool:
                return valid[ids.index(answer.contact.node_id)]

            first, second = (list(map(is_good, sequence)) for sequence in self.placement.plan(read, VALUE))
            self.assertEqual(first[:INNER], sorted(first[:INNER], reverse=True), f"seed {seed}")
            self.assertEqual(second, sorted(second, reverse=not first[0]), f"seed {seed}")
            for place in range(INNER):
                held = [evolve(each, value=VALUE) if n == place else each for n, each in enumerate(answers)]
                (sequence,) = self.placement.plan(evolve(read, answers=tuple(held)), VALUE)
                good = list(map(is_good, sequence))
                self.assertEqual(good, sorted(good, reverse=not valid[place]), f"seed {seed}, {place}")

    def test_older_record_counts(self) -> None:
        """
        A node that stores our earlier record counts as a copy.
        """
        self.assertEqual(len(self.ranks(make_read(r3=OURS + b"older", r22=VALUE))), 4)

    def test_copies_setting(self) -> None:
        """
        The number of copies is a function of the number of publishers, including us.
        """
        asked = []

        def copies(publishers: int) -> int:
            asked.append(publishers)
            return 3

        plan = Placement(OURS, classify, copies).plan(make_read(r1=VALUE, r2=other(1), r3=b"junk"), VALUE)
        self.assertEqual((len(plan), asked), (1, [2]))

    def test_default_copies(self) -> None:
        """
        clamp(20 // publishers, 2, 6); one copy each in a crowd.
        """
        self.assertEqual([default_copies(n) for n in (1, 3, 4, 5, 6, 10, 11, 100)], [6, 6, 5, 4, 3, 2, 1, 1])


class FirstCopyTests(SynchronousTestCase):
    """
    The copy placed before all nodes have answered.
    """

    def setUp(self) -> None:
        self.whole = Placement(OURS, classify)
        self.placement = FirstCopy(self.whole)

    def test_interface(self) -> None:
        """
        It provides L{IPlacement}.
        """
        verifyObject(IPlacement, self.placement)

    def test_one_inner_copy(self) -> None:
        """
        One copy is planned, on a free one of the 12 nearest nodes, in the order of the
        full plan, so that both choose the same node.
        """
        for number in range(50):
            whole = Placement(bytes((number,)) * 32, classify)
            read = make_read(32, r1=other(99), r5=b"junk")
            (sequence,) = FirstCopy(whole).plan(read, other(number))
            self.assertEqual({rank(answer) for answer in sequence}, set(range(1, INNER + 1)) - {1, 5})
            self.assertEqual(sequence, whole.plan(read, other(number))[0][: INNER - 2])

    def test_few_answers(self) -> None:
        """
        The nodes with tokens that have answered so far are sufficient.
        """
        read = make_read(5)
        read = evolve(read, answers=(evolve(read.answers[0], token=None), *read.answers[1:]))
        (sequence,) = self.placement.plan(read, VALUE)
        self.assertEqual({rank(answer) for answer in sequence}, {2, 3, 4, 5})
        self.assertEqual(self.placement.plan(make_read(0), VALUE), [])

    def test_a_copy_is_there(self) -> None:
        """
        Nothing is planned if one of our copies is seen, even of an earlier record; copies
        farther out are ignored.
        """
        for held, copies in (({"r4": VALUE}, 0), ({"r12": OURS + b"older"}, 0), ({"r13": VALUE}, 1), ({}, 1)):
            self.assertEqual(len(self.placement.plan(make_read(**held), VALUE)), copies, held)

    def test_overwrites_nothing(self) -> None:
        """
        If no node is free, nothing is placed or overwritten.
        """
        taken = {f"r{number}": b"junk" for number in range(1, 13)}
        read = make_read(12, **taken)
        self.assertEqual(self.placement.plan(read, VALUE), [])
        self.assertEqual(self.placement.overwrite(read, VALUE), [])
        self.assertNotEqual(self.whole.overwrite(read, VALUE), [])


class OverwriteTests(SynchronousTestCase):
    """
    Rules 5 and 6.
    """

    def setUp(self) -> None:
        self.placement = Placement(OURS, classify)

    def ranks(self, read: MutableRead) -> list[int]:
        return [rank(answer) for answer in self.placement.overwrite(read, VALUE)]

    def full(self, version: bytes = b"RS\x00\x01", seq: int = 2**63 - 1, /, **held: bytes) -> MutableRead:
        """
        20 mainline nodes, each with the record of another publisher unless C{held}.
        """
        records = {f"r{number}": other(number) for number in range(1, 21)} | held
        read = make_read(20, **records)
        return evolve(
            read, answers=tuple(evolve(answer, version=version, seq=seq) for answer in read.answers)
        )

    def test_not_while_a_node_is_free(self) -> None:
        """
        Nothing is overwritten while a node is free, or if there are two copies.
        """
        self.assertEqual(self.ranks(make_read(20, r1=b"junk", r2=b"junk")), [])
        self.assertEqual(self.ranks(self.full(r1=b"junk", r2=VALUE, r3=VALUE)), [])

    def test_junk(self) -> None:
        """
        Junk is overwritten; where success is uncertain, last.
        """
        self.assertEqual(set(self.ranks(self.full(r4=b"junk", r7=b"junk2"))), {4, 7})
        read = self.full(r4=b"junk", r7=b"junk2")
        read = evolve(
            read,
            answers=tuple(
                evolve(answer, version=b"LT") if rank(answer) == 4 else answer for answer in read.answers
            ),
        )
        self.assertEqual(self.ranks(read), [7, 4])

    def test_largest_publisher(self) -> None:
        """
        A publisher with three copies loses one, a publisher with two none; two missing
        copies are both taken from it only if it still has three.
        """
        self.assertEqual(self.ranks(self.full(r1=other(99), r2=other(99))), [])
        three = self.ranks(self.full(r1=other(99), r2=other(99), r3=other(99)))
        self.assertEqual(len(three), 1)
        self.assertLessEqual(set(three), {1, 2, 3})
        four = {f"r{number}": other(99) for number in range(1, 5)}
        self.assertEqual(len(self.ranks(self.full(**four))), 2)
        four["r9"] = VALUE
        self.assertEqual(len(self.ranks(self.full(**four))), 1)

    def test_only_where_it_works(self) -> None:
        """
        A record of the highest seq is replaced on mainline only; a record of a lower
        seq on any node.
        """
        held = {f"r{number}": other(99) for number in range(1, 4)}
        self.assertEqual(self.ranks(self.full(b"LT\x01\x02", **held)), [])
        self.assertEqual(len(self.ranks(self.full(b"LT\x01\x02", 5, **held))), 1)

    def flooded(self, copies: int = 20, version: bytes = b"RS", /, **held: bytes) -> MutableRead:
        """
        32 nodes; the nearest C{copies} hold the record of the same publisher unless C{held}.
        """
        read = make_read(32, **({f"r{number}": other(99) for number in range(1, copies + 1)} | held))
        return evolve(
            read, answers=tuple(evolve(each, version=version, seq=2**63 - 1) for each in read.answers)
        )

    def test_flood(self) -> None:
        """
        Of a publisher with more copies than a member places, one is overwritten while one
        of ours is missing, although other nodes are free and we have two copies; the plan
        leaves room for it.
        """
        for held in ({}, {"r8": VALUE, "r30": VALUE}):
            read = self.flooded(**held)
            self.assertEqual(set(self.ranks(read)), set(range(1, 21)) - {8 if held else 0})
            self.assertLessEqual(set(self.ranks(read)[:11]), set(range(1, INNER + 1)))
        self.assertEqual(len(self.placement.plan(self.flooded(r30=VALUE, r31=VALUE), VALUE)), 3)
        full = {f"r{number}": VALUE for number in range(21, 27)}
        self.assertEqual(self.ranks(self.flooded(**full)), [])

    def test_no_flood(self) -> None:
        """
        As many copies as a member places are left alone, and so is a record that the node
        would keep, junk, and every record where each publisher has one copy only.
        """
        self.assertEqual(self.ranks(self.flooded(MOST)), [])
        self.assertEqual(len(self.ranks(self.flooded(MOST + 1))), MOST + 1)
        self.assertEqual(self.ranks(self.flooded(20, b"LT")), [])
        self.assertEqual(self.ranks(self.flooded(**{f"r{number}": b"junk" for number in range(1, 21)})), [])
        self.assertEqual(self.ranks(self.flooded(**{f"r{n}": OURS + b"older" for n in range(1, 21)})), [])
        crowd = {f"r{number}": other(number) for number in range(21, 30)}
        self.assertEqual(self.ranks(self.flooded(**crowd)), [])

    def test_invariants(self) -> None:
        """
        In any slot, plans use only free nodes with tokens, and their first sequence all
        of them; an overwrite leaves no publisher with fewer than two copies; while a node
        is free, or we have two copies, only a publisher with more copies than a member
        places loses one.
        """
        for seed in range(300):
            rng = Random(seed)
            held = {
                f"r{number}": rng.choice(
                    (b"junk", VALUE, other(1), other(1), other(2), other(rng.randrange(9)))
                )
                for number in range(1, 41)
                if rng.random() < rng.choice((0.1, 0.5, 1.0, 1.0))
            }
            read = make_read(rng.randrange(40), **held)
            read = evolve(
                read,
                answers=tuple(
                    evolve(
                        answer,
                        token=rng.choice((b"t", b"t", None)),
                        seq=rng.choice((1, 2**63 - 1)),
                        version=rng.choice((b"LT", b"RS")),
                    )
                    for answer in read.answers
                ),
            )
            considered = read.answers[:32]
            free = {a.contact for a in considered if a.value is None and a.token}
            for number, sequence in enumerate(self.placement.plan(read, VALUE)):
                contacts = {a.contact for a in sequence}
                self.assertEqual(len(sequence), len(contacts), f"seed {seed}")
                self.assertLessEqual(contacts, free, f"seed {seed}")
                if number == 0 and not self.placement.copies(read, VALUE):
                    self.assertEqual(contacts, free, f"seed {seed}")
            chosen = self.placement.overwrite(read, VALUE)
            self.assertEqual(len({a.contact for a in chosen}), len(chosen), f"seed {seed}")
            copies = Counter(classify(a.value) for a in considered if a.value)
            if chosen:
                self.assertLess(copies[OURS], MOST, f"seed {seed}")
            if free or copies[OURS] >= FEW:
                for answer in chosen:
                    assert answer.value is not None
                    self.assertGreater(copies[classify(answer.value)], MOST, f"seed {seed}")
                    self.assertIsNotNone(classify(answer.value), f"seed {seed}")
                continue
            lost = Counter(classify(a.value) for a in chosen if a.value)
            self.assertNotIn(OURS, lost, f"seed {seed}")
            for publisher, count in lost.items():
                if publisher is not None:
                    self.assertGreaterEqual(copies[publisher], MANY, f"seed {seed}")
                    self.assertGreaterEqual(copies[publisher] - count, MANY - 1, f"seed {seed}")
