"""
Stateful tests of L{dtt.krpc.protocol} and L{dtt.krpc.flood}: Hypothesis drives them
through any sequence of events.
"""

from __future__ import annotations

from random import Random
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import QueryRefused, QueryTimeout
from dtt.krpc.flood import MAX_IN_WINDOW, PENALTY, WINDOW, FloodLimiter
from dtt.krpc.messages import Response, decode, encode_error, encode_response
from dtt.krpc.protocol import HARD_TIMEOUT, MAX_HOLD, KRPCProtocol
from tests.krpc.test_protocol import RecordingTransport
from tests.sweeps import sized

PORTS = st.integers(1, 3)


class TransactionMachine(RuleBasedStateMachine):
    """
    Queries to three nodes, and all their possible outcomes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.transport = RecordingTransport()
        self.protocol = KRPCProtocol(self.clock, b"m" * 20, rng=Random(1))
        self.protocol.makeConnection(cast(IUDPTransport, self.transport))
        self.open: dict[Deferred[Response], float] = {}
        self.outcomes: list[object] = []
        # The unanswered queries per address, and the times of all sends.
        self.unanswered: list[tuple[bytes, tuple[str, int]]] = []
        self.times: dict[tuple[str, int], list[float]] = {}

    def collect(self) -> None:
        """
        Collect the datagrams sent since the last call.
        """
        for datagram, address in self.transport.sent:
            self.unanswered.append((decode(datagram).transaction, address))
            self.times.setdefault(address, []).append(self.clock.seconds())
        self.transport.sent.clear()

    @rule(port=PORTS)
    def ask(self, port: int) -> None:
        """
        A query is sent.
        """
        query = self.protocol.query("10.0.0.1", port, b"ping", {})
        self.open[query] = self.clock.seconds()

        def ended(result: Response | Failure) -> None:
            # This fails if it fires twice.
            del self.open[query]
            if isinstance(result, Failure):
                result.trap(QueryTimeout, QueryRefused, CancelledError)
            self.outcomes.append(result)

        query.addBoth(ended)
        self.collect()

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), refuse=st.booleans(), twice=st.booleans())
    def reply(self, data: st.DataObject, refuse: bool, twice: bool) -> None:
        """
        A reply arrives, once or twice.
        """
        transaction, address = self.unanswered.pop(data.draw(st.integers(0, len(self.unanswered) - 1)))
        make = encode_error(transaction, 203, "no", None) if refuse else None
        reply = make or encode_response(transaction, b"r" * 20, {}, None)
        for _ in range(2 if twice else 1):
            before = len(self.outcomes)
            self.protocol.datagramReceived(reply, address)
        if twice:
            assert len(self.outcomes) == before

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        """
        A reply arrives from another address.
        """
        transaction, (host, port) = data.draw(st.sampled_from(self.unanswered))
        before = len(self.outcomes)
        self.protocol.datagramReceived(
            encode_response(transaction, b"r" * 20, {}, None), (host, port % 3 + 1)
        )
        assert len(self.outcomes) == before

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """
        A query is cancelled.
        """
        list(self.open)[data.draw(st.integers(0, len(self.open) - 1))].cancel()
        self.collect()

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(10):
            self.clock.advance(seconds / 10)
            self.collect()

    @invariant()
    def consistent(self) -> None:
        """
        Each query is open until it has an outcome, and has one in time; there is at
        most one timer.
        """
        assert self.protocol.transactions == len(self.open)
        assert len(self.clock.getDelayedCalls()) == (1 if self.open else 0)
        now = self.clock.seconds()
        assert all(now - since <= MAX_HOLD + HARD_TIMEOUT + 0.4 for since in self.open.values())
        assert self.protocol.counters["faults"] == 0

    @invariant()
    def paced(self) -> None:
        """No node gets more than 20 queries in 10 s."""
        for times in self.times.values():
            for first, later in zip(times, times[20:], strict=False):
                assert later - first > 10 - 0.4

    def teardown(self) -> None:
        """
        Closing cancels everything.
        """
        self.protocol.close()
        assert not self.open
        assert not self.clock.getDelayedCalls()


class LimiterMachine(RuleBasedStateMachine):
    """
    Sources that send at any rate; the model has the times of the admitted datagrams.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limiter = FloodLimiter()
        self.admitted: dict[str, list[float]] = {}
        self.last: dict[str, float] = {}

    @rule(source=st.sampled_from("abc"), count=st.integers(1, 1500), seconds=st.floats(0, 20))
    def send(self, source: str, count: int, seconds: float) -> None:
        """
        A source sends a number of datagrams in a number of seconds.
        """
        silent = self.now - self.last.get(source, -1e9)
        first = True
        for number in range(count):
            admitted = self.limiter.admits(source, self.now + seconds * number / count)
            if admitted:
                self.admitted.setdefault(source, []).append(self.now + seconds * number / count)
            if first and silent > PENALTY:
                assert admitted
            first = False
        self.now += seconds
        self.last[source] = self.now

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        """
        Within the length of a window no source has more datagrams admitted than in two
        windows.
        """
        for times in self.admitted.values():
            for first, later in zip(times, times[2 * MAX_IN_WINDOW :], strict=False):
                assert later - first >= WINDOW


class MachineTests(SynchronousTestCase):
    """
    Each machine, for some hundred sequences.
    """

    def run_machine(self, machine: type[RuleBasedStateMachine], steps: int) -> None:
        """
        Run one; a failing sequence is printed in its shortest form.
        """
        run_state_machine_as_test(
            machine, settings=settings(max_examples=sized(5, 60), stateful_step_count=steps, deadline=None)
        )

    def test_transactions(self) -> None:
        """
        L{KRPCProtocol} fires each Deferred once, in time, and respects its budgets.
        """
        self.run_machine(TransactionMachine, 60)

    def test_limiter(self) -> None:
        """
        L{FloodLimiter} admits the datagrams it should.
        """
        self.run_machine(LimiterMachine, 15)
