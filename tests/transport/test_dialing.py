"""
Tests for L{dtt.transport.dialing}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DialFailed, NoRoom
from dtt.transport.dialing import ATTEMPT_DELAY, DIAL_TIMEOUT, MAX_DIALS, Dials
from dtt.wire.addresses import STREAMS, PeerAddress

PEER = b"p" * 32


def address(n: int) -> PeerAddress:
    """
    Return one of many addresses.
    """
    return PeerAddress(STREAMS, f"192.0.2.{n}", 4433)


class DialsTests(SynchronousTestCase):
    """
    Tests for L{Dials}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[tuple[bytes, str, Deferred[None]]] = []
        self.cancelled: list[str] = []
        self.dials = Dials(self.clock, self.attempt)

    def attempt(self, peer_id: bytes, where: PeerAddress) -> Deferred[None]:
        """
        An attempt whose result the test determines.
        """
        result: Deferred[None] = Deferred(lambda _: self.cancelled.append(where.host))
        self.attempts.append((peer_id, where.host, result))
        return result

    def hosts(self) -> list[str]:
        """
        The hosts that were tried.
        """
        return [host for _, host, _ in self.attempts]

    def reason(self, result: Deferred[None]) -> str:
        """
        The reason of a failure.
        """
        return str(self.failureResultOf(result, DialFailed).value)

    def test_side_by_side(self) -> None:
        """
        The next address is tried 250 ms after the previous one, which continues.
        """
        self.dials.dial(PEER, [address(1), address(2), address(3)])
        self.assertEqual(self.hosts(), ["192.0.2.1"])
        self.clock.advance(ATTEMPT_DELAY - 0.01)
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(0.01)
        self.assertEqual(len(self.attempts), 2)
        self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual(self.hosts(), ["192.0.2.1", "192.0.2.2", "192.0.2.3"])
        self.assertEqual(self.cancelled, [])

    def test_next_after_a_failure(self) -> None:
        """
        A failed attempt is followed by the next immediately, and the delay restarts.
        """
        result = self.dials.dial(PEER, [address(1), address(2), address(3)])
        self.attempts[0][2].errback(DialFailed("connection refused"))
        self.assertEqual(len(self.attempts), 2)
        self.clock.advance(ATTEMPT_DELAY - 0.01)
        self.assertEqual(len(self.attempts), 2)
        self.clock.advance(0.01)
        self.assertEqual(len(self.attempts), 3)
        self.assertNoResult(result)

    def test_first_wins(self) -> None:
        """
        The first success ends the dial; the other attempts are cancelled and no more
        are started.
        """
        result = self.dials.dial(PEER, [address(1), address(2), address(3)])
        self.clock.advance(ATTEMPT_DELAY)
        self.attempts[1][2].callback(None)
        self.successResultOf(result)
        self.assertEqual(self.cancelled, ["192.0.2.1"])
        self.clock.advance(60)
        self.assertEqual(len(self.attempts), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_fail(self) -> None:
        """
        When all attempts fail the dial fails, with the reasons without duplicates.
        """
        result = self.dials.dial(PEER, [address(1), address(2), address(3)])
        for n, reason in enumerate(("connection refused", "wrong peer key", "connection refused")):
            self.assertNoResult(result)
            self.attempts[n][2].errback(DialFailed(reason))
        self.assertEqual(self.reason(result), "connection refused, wrong peer key")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_timeout(self) -> None:
        """
        A dial times out after 10 s.
        """
        result = self.dials.dial(PEER, [address(1)])
        self.clock.advance(DIAL_TIMEOUT - 0.01)
        self.assertNoResult(result)
        self.clock.advance(0.01)
        self.assertEqual(self.reason(result), "timed out")
        self.assertEqual(self.cancelled, ["192.0.2.1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_address(self) -> None:
        """
        A dial without an address fails.
        """
        self.assertEqual(self.reason(self.dials.dial(PEER, [])), "no address")

    def test_joined(self) -> None:
        """
        A second dial of a peer joins the first and adds new addresses, up to 12; each
        caller has a separate Deferred.
        """
        first = self.dials.dial(PEER, [address(1)])
        second = self.dials.dial(PEER, [address(1), *(address(n) for n in range(2, 16))])
        third = self.dials.dial(PEER, [])
        self.clock.advance(0)
        for _ in range(20):
            self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual(self.hosts(), [f"192.0.2.{n}" for n in range(1, 13)])
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.cancelled, [])
        self.attempts[-1][2].callback(None)
        self.successResultOf(second)
        self.successResultOf(third)

    def test_joined_after_the_last_attempt_began(self) -> None:
        """
        An address added when all others are in progress is tried immediately.
        """
        self.dials.dial(PEER, [address(1)])
        self.clock.advance(ATTEMPT_DELAY)
        self.dials.dial(PEER, [address(2)])
        self.assertEqual(len(self.attempts), 2)

    def test_restart(self) -> None:
        """
        After a change of the network, the chosen addresses that were tried already are tried again, after the
        ones still waiting; the earlier attempts go on, and the time limit begins again.
        """
        result = self.dials.dial(PEER, [address(1), address(2), address(3)])
        self.clock.advance(ATTEMPT_DELAY)
        self.dials.restart(lambda target: target != address(2))
        for _ in range(4):
            self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual(self.hosts(), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"])
        self.clock.advance(DIAL_TIMEOUT - 5 * ATTEMPT_DELAY)
        self.assertNoResult(result)
        self.assertEqual(self.cancelled, [])
        self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual(self.reason(result), "timed out")

    def test_restart_after_the_last_attempt_began(self) -> None:
        """
        An address is tried again at once if no other attempt is due.
        """
        result = self.dials.dial(PEER, [address(1)])
        self.clock.advance(5)
        self.dials.restart(lambda target: True)
        self.assertEqual(self.hosts(), ["192.0.2.1", "192.0.2.1"])
        self.attempts[1][2].callback(None)
        self.successResultOf(result)
        self.dials.restart(lambda target: True)
        self.assertEqual(len(self.attempts), 2)

    def test_cancelled_by_all(self) -> None:
        """
        When the last caller cancels, the dial ends; the next dial starts afresh.
        """
        results = [self.dials.dial(PEER, [address(1), address(2)]) for _ in range(2)]
        for result in results:
            result.cancel()
            self.failureResultOf(result, CancelledError)
        self.assertEqual(self.cancelled, ["192.0.2.1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.dials.dial(PEER, [address(1)])
        self.attempts[-1][2].callback(None)
        self.successResultOf(again)

    def test_connected_otherwise(self) -> None:
        """
        A connection opened by the peer fires the dial of that peer, and no other.
        """
        result = self.dials.dial(PEER, [address(1)])
        other = self.dials.dial(b"q" * 32, [address(2)])
        self.dials.connected(PEER)
        self.successResultOf(result)
        self.assertNoResult(other)
        self.assertEqual(self.cancelled, ["192.0.2.1"])

    def test_caller_cancels_another(self) -> None:
        """
        A caller may cancel another in its callback.
        """
        first = self.dials.dial(PEER, [address(1)])
        second = self.dials.dial(PEER, [address(1)])
        first.addCallback(lambda _: second.cancel())
        self.dials.connected(PEER)
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_too_many(self) -> None:
        """
        The number of concurrent dials is limited.
        """
        for n in range(MAX_DIALS):
            self.dials.dial(bytes((n + 128,)) * 32, [address(n)])
        self.assertTrue(self.dials.is_full(PEER))
        failure = self.failureResultOf(self.dials.dial(PEER, [address(99)]), NoRoom)
        self.assertEqual(str(failure.value), "too many dials")
        self.dials.connected(b"\x80" * 32)
        self.assertNoResult(self.dials.dial(PEER, [address(99)]))

    def test_stop(self) -> None:
        """
        L{Dials.stop} fails the dials in progress.
        """
        result = self.dials.dial(PEER, [address(1)])
        self.dials.stop()
        self.assertEqual(self.reason(result), "stopped")

    def test_our_own_fault(self) -> None:
        """
        An unexpected error in an attempt is logged and fails the attempt.
        """
        result = self.dials.dial(PEER, [address(1)])
        self.attempts[0][2].errback(ZeroDivisionError())
        self.assertEqual(self.reason(result), "internal error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
