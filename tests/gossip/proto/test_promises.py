"""
Tests for L{dtt.gossip.proto.promises}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.promises import (
    DEBT_EAGER,
    DEBTOR_REQUESTS,
    FIRST_REQUESTS,
    MAX_DEBTORS,
    MAX_REQUESTS,
    MAX_WAITING,
    PATIENCE,
    SPOOFED,
    Promises,
)

A, B, C = (bytes((number,)) * 32 for number in range(1, 4))


def content(number: int) -> bytes:
    """
    Return a message id.
    """
    return number.to_bytes(32, "big")


class PromisesTests(SynchronousTestCase):
    """
    Tests for L{Promises}.
    """

    def setUp(self) -> None:
        self.promises = Promises()

    def ask(self, peer: bytes, *numbers: int) -> list[bool]:
        """
        Ask a peer for contents.
        """
        return [self.promises.ask(peer, content(number), 0) for number in numbers]

    def owe(self, peer: bytes, debt: int) -> None:
        """
        Let a peer owe us contents.
        """
        for _ in range(debt // SPOOFED):
            self.promises.spoofed(peer)
        for number in range(debt % SPOOFED):
            self.ask(peer, 10**6 + number)
        for _ in range(PATIENCE):
            self.promises.tick()
        self.assertEqual(self.promises.debt(peer), debt)

    def test_limit(self) -> None:
        """
        Beyond the limit the contents of a peer wait, in order; those of another peer do not.
        """
        self.assertEqual(self.ask(A, *range(FIRST_REQUESTS + 2)), [True] * FIRST_REQUESTS + [False] * 2)
        self.assertEqual(self.ask(B, 0), [True])
        self.assertIsNone(self.promises.next_waiting(A))
        self.promises.came(content(0), A, {})
        self.assertEqual(self.promises.next_waiting(A), (content(FIRST_REQUESTS), 0))
        self.assertEqual(self.promises.next_waiting(A), (content(FIRST_REQUESTS + 1), 0))
        self.assertIsNone(self.promises.next_waiting(A))

    def test_waiting_is_bounded(self) -> None:
        """
        Of the contents that wait, further ones are dropped; a round is kept with its content.
        """
        self.ask(A, *range(FIRST_REQUESTS))
        for number in range(MAX_WAITING + 5):
            self.promises.ask(A, content(10**5 + number), number)
        for number in range(FIRST_REQUESTS):
            self.promises.came(content(number), A, {})
        waiting = []
        while (entry := self.promises.next_waiting(A)) is not None:
            waiting.append(entry)
        self.assertEqual(waiting, [(content(10**5 + number), number) for number in range(MAX_WAITING)])

    def test_limit_grows(self) -> None:
        """
        Each announced content that comes lets us ask for one more at a time, up to a maximum; one
        that does not come ends that.
        """
        for number in range(3):
            self.promises.came(content(number), A, {A: 0})
        self.assertEqual(self.ask(A, *range(10, 10 + FIRST_REQUESTS + 4)).count(True), FIRST_REQUESTS + 3)
        self.setUp()
        for number in range(MAX_REQUESTS + 10):
            self.promises.came(content(number), B, {A: 0})
        numbers = range(10**5, 10**5 + MAX_REQUESTS + 10)
        self.assertEqual(self.ask(A, *numbers).count(True), MAX_REQUESTS)

    def test_limit_falls(self) -> None:
        """
        One announced content that does not come ends that.
        """
        for number in range(3):
            self.promises.came(content(number), A, {A: 0})
        self.owe(A, 1)
        self.assertEqual(self.ask(A, *range(10, 10 + FIRST_REQUESTS + 4)).count(True), FIRST_REQUESTS)

    def test_overdue(self) -> None:
        """
        A content that nobody has sent in time is owed by all who were asked for it, in the order
        in which they were asked; one that comes in time by nobody.
        """
        self.ask(A, 1, 2)
        self.ask(B, 1)
        self.assertEqual(self.promises.came(content(2), C, {}), (A,))
        for _ in range(PATIENCE - 1):
            self.assertEqual(self.promises.tick(), [])
        self.assertEqual(len(self.promises), 1)
        self.assertEqual(self.promises.tick(), [A, B])
        self.assertEqual([self.promises.debt(peer) for peer in (A, B, C)], [1, 1, 0])
        self.assertEqual(len(self.promises), 0)
        self.assertEqual(self.promises.came(content(1), A, {}), ())

    def test_asked_later(self) -> None:
        """
        A content is overdue when the first request for it is, whoever else is asked later.
        """
        self.ask(A, 1)
        for _ in range(PATIENCE - 1):
            self.promises.tick()
        self.ask(B, 1, 2)
        self.assertEqual(self.promises.tick(), [A, B])
        self.assertEqual(len(self.promises), 1)

    def test_paid_off(self) -> None:
        """
        A debt is paid by contents that are sent, and by those that others send after an honest
        announcement.
        """
        self.owe(A, 2)
        self.promises.came(content(1), A, {})
        self.assertEqual(self.promises.debt(A), 1)
        self.promises.came(content(2), B, {A: 0})
        self.assertEqual(self.promises.debt(A), 0)
        self.owe(A, 2)
        self.ask(A, 3)
        self.promises.came(content(3), B, {})
        self.assertEqual((self.promises.debt(A), self.promises.debt(B)), (1, 0))

    def test_spoofed(self) -> None:
        """
        A content that does not match its id costs many others.
        """
        self.promises.spoofed(A)
        self.assertEqual((self.promises.debt(A), self.promises.debt(B)), (SPOOFED, 0))

    def test_debtor(self) -> None:
        """
        Of a peer with a large debt few contents are requested at a time, until it has paid.
        """
        self.owe(A, DEBT_EAGER)
        self.assertEqual(self.ask(A, *range(DEBTOR_REQUESTS + 2)).count(True), DEBTOR_REQUESTS)
        self.promises.came(content(0), A, {})
        self.assertLess(self.promises.debt(A), DEBT_EAGER)
        self.assertIsNotNone(self.promises.next_waiting(A))
        self.assertEqual(self.ask(A, 100), [True])

    def test_forgotten_peer(self) -> None:
        """
        Nothing is expected of a peer that has gone; another that was asked too still owes the
        content.  Its debt is remembered.
        """
        self.owe(A, 3)
        self.ask(A, 1, 2)
        self.ask(B, 2)
        self.ask(A, *range(100, 100 + FIRST_REQUESTS))
        self.promises.forget_peer(A)
        self.assertEqual((len(self.promises), self.promises.debt(A)), (1, 3))
        self.assertIsNone(self.promises.next_waiting(A))
        for _ in range(PATIENCE - 1):
            self.promises.tick()
        self.assertEqual(self.promises.tick(), [B])
        self.assertEqual(self.promises.debt(A), 3)
        for number in range(5):
            self.promises.came(content(number), B, {C: 0})
        self.promises.forget_peer(C)
        for peer in (A, C):
            self.assertEqual(self.ask(peer, *range(FIRST_REQUESTS + 1)).count(True), FIRST_REQUESTS)

    def test_debts_are_bounded(self) -> None:
        """
        The debts that changed least recently are forgotten first.
        """
        peers = [content(number) for number in range(MAX_DEBTORS + 1)]
        for peer in peers[:-1]:
            self.promises.spoofed(peer)
        self.promises.spoofed(peers[0])
        self.promises.spoofed(peers[-1])
        self.assertEqual(
            [self.promises.debt(peers[number]) for number in (0, 1, 2, -1)],
            [2 * SPOOFED, 0, SPOOFED, SPOOFED],
        )

    def test_kept_is_bounded(self) -> None:
        """
        Peers that have kept promises are remembered up to a limit, however many announce one
        content.
        """
        for number in range(10):
            self.promises.came(content(number), A, {content(1000 * number + n): 0 for n in range(200)})
            self.assertLessEqual(len(self.promises._kept), MAX_DEBTORS)

    def test_clear(self) -> None:
        """
        Afterwards nothing is known.
        """
        self.owe(A, 20)
        self.ask(A, *range(FIRST_REQUESTS + 1))
        self.promises.clear()
        self.assertEqual((len(self.promises), self.promises.debt(A)), (0, 0))
        self.assertIsNone(self.promises.next_waiting(A))
        self.assertEqual(self.ask(A, *range(FIRST_REQUESTS + 1)).count(True), FIRST_REQUESTS)
