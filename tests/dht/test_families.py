"""
Tests for L{dtt.dht.families}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.families import gather_until, merge_puts, merge_reads, restrict_to_family
from dtt.interfaces import Contact, MutableRead, NodeAnswer, PutResult
from dtt.krpc.compact import IPV4, IPV6
from tests.dht.network import PUBLIC_KEY, SALT


class MergingTests(SynchronousTestCase):
    """
    Waiting for both families, and merging their results.
    """

    def test_all(self) -> None:
        """
        It fires with the results in order after the last one.
        """
        deferreds: list[Deferred[int]] = [Deferred(), Deferred()]
        both = gather_until(deferreds)
        deferreds[1].callback(1)
        self.assertNoResult(both)
        deferreds[0].callback(0)
        self.assertEqual(self.successResultOf(both), [0, 1])

    def test_enough(self) -> None:
        """
        A sufficient result cancels the others.
        """
        cancelled: list[object] = []
        slow: Deferred[int] = Deferred(cancelled.append)
        quick: Deferred[int] = Deferred()
        both = gather_until([slow, quick], lambda result: result > 0)
        quick.callback(1)
        self.assertEqual(self.successResultOf(both), [1])
        self.assertEqual(cancelled, [slow])

    def test_failure(self) -> None:
        """
        It fails with the first failure and cancels the others; cancelling it does the
        same.
        """
        for kind in (ValueError, CancelledError):
            cancelled: list[object] = []
            one: Deferred[int] = Deferred()
            two: Deferred[int] = Deferred(cancelled.append)
            both = gather_until([one, two])
            if kind is ValueError:
                one.errback(ValueError())
            else:
                both.cancel()
            self.failureResultOf(both, kind)
            self.assertEqual(cancelled, [two])

    def test_reads(self) -> None:
        """
        A merged read can be split again.
        """
        four = MutableRead(
            PUBLIC_KEY,
            SALT,
            tuple(NodeAnswer(Contact(bytes((n,)) * 20, f"10.0.{n}.1", 1), b"t") for n in range(4)),
            (Contact(b"s" * 20, "10.9.0.1", 1),),
        )
        six = MutableRead(
            PUBLIC_KEY,
            SALT,
            tuple(NodeAnswer(Contact(bytes((n,)) * 20, f"2001:db8:{n}::1", 1), b"t") for n in range(4, 8)),
        )
        both = merge_reads([four, six])
        self.assertEqual(len(both.answers), 8)
        self.assertEqual(set(restrict_to_family(both, IPV4).answers), set(four.answers))
        self.assertEqual(set(restrict_to_family(both, IPV6).answers), set(six.answers))
        self.assertEqual(
            (restrict_to_family(both, IPV4).silent, restrict_to_family(both, IPV6).silent), (four.silent, ())
        )

    def test_puts(self) -> None:
        """
        Results are concatenated.
        """
        a, b, c = (Contact(bytes((n,)) * 20, "10.0.0.1", n) for n in (1, 2, 3))
        self.assertEqual(
            merge_puts([PutResult((a,), (), ((b, 301),), ()), PutResult((c,), (), (), (b,))]),
            PutResult((a, c), (), ((b, 301),), (b,)),
        )
