"""
KRPC over UDP (BEP5, "KRPC Protocol"): transactions, time-outs, packet budgets.

Rules:
  - A reply counts only if its transaction id I{and} its source address are
    those of an open transaction (docs/protocol/dht.md section 2).
  - Nothing that arrives raises, blocks or writes a log line; what is no
    message is counted and gets no reply.
  - No node is sent more than 20 queries in any 10 s; what is over waits.
  - There is one timer, and none when no transaction is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random, SystemRandom
from typing import Any, Final, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from dtt.errors import DecodeError, QueryRefused, QueryTimeout
from dtt.krpc.flood import FloodGate
from dtt.krpc.messages import CODES, TRANSACTION_SIZE, Error, Query, Response, decode, encode_query
from dtt.krpc.pacing import EPSILON, PacketBudgets, RoundTrips

#: Seconds until a query has failed: what mainline and bittorrent-dht wait
#: (docs/protocol/dht.md section 1).
HARD_TIMEOUT: Final = 2.0

#: Queries in all that wait for a budget, and the seconds that one may have to
#: wait; beyond, it fails at once.  Guesses; without bursts a member held back
#: up to 65 (docs/protocol/dht.md section 4).
MAX_HELD_BACK: Final = 512
MAX_HOLD: Final = 10.0

_METHODS: Final = (
    b"ping",
    b"find_node",
    b"get_peers",
    b"announce_peer",
    b"get",
    b"put",
    b"sample_infohashes",
)
_SENT: Final = {method: "sent." + method.decode("ascii") for method in _METHODS}
_RECEIVED: Final = {method: "received." + method.decode("ascii") for method in _METHODS}

_Key: TypeAlias = tuple[bytes, str, int]


class _Transaction:
    """
    One open query.

    @ivar sent: when it was sent, or L{None} while it is held back.
    """

    __slots__ = ("datagram", "deferred", "key", "on_slow", "sent")

    def __init__(
        self, key: _Key, datagram: bytes, deferred: Deferred[Response], on_slow: Callable[[], None] | None
    ) -> None:
        self.key = key
        self.datagram = datagram
        self.deferred = deferred
        self.on_slow = on_slow
        self.sent: float | None = None


class KRPCProtocol(DatagramProtocol):
    """
    Sends queries and matches their replies; hands queries of others to
    C{answer}.

    @ivar node_id: our 20-byte id; may be changed.
    @ivar read_only: say in our queries that we answer none (BEP43).
    @ivar counters: C{sent.METHOD}, C{received.METHOD} (C{other} for unknown
        ones), C{answered}, C{responses}, C{errors.CODE}
        (C{other} for unknown ones), C{timeouts}, C{slow},
        C{cancelled}, C{held back}, C{refused.hold}, C{write failed}, C{faults}
        (mistakes of ours) and C{dropped.REASON}.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        node_id: bytes,
        *,
        answer: Callable[[Query, str, int], bytes | None] | None = None,
        seen: Callable[[Response, str, int], None] | None = None,
        gate: FloodGate | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param answer: makes the reply to a query from a host and port, or
            L{None} to be silent.
        @param seen: told every response to a query of ours, before the
            query's Deferred fires.
        @param gate: whose datagrams are ignored; L{None}: nobody's.
        @param rng: where transaction ids come from; the system's by default,
            since they must not be predictable.
        """
        self.node_id = node_id
        self.read_only = False
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._answer = answer
        self._seen = seen
        self._gate = gate
        self._rng = SystemRandom() if rng is None else rng
        self._open: dict[_Key, _Transaction] = {}
        self._held_back = 0
        # What is to be done when: a serial number keeps the order of equals.
        self._due: list[tuple[float, int, Callable[[_Transaction], None], _Transaction]] = []
        self._serial = 0
        self._timer: IDelayedCall | None = None
        self._budgets = PacketBudgets()
        self._round_trips = RoundTrips()
        self._closed = False
        # Sends a datagram to where another one came from.
        self._send_back: Callable[[bytes, Any], object] | None = None

    @property
    def soft_timeout(self) -> float:
        """
        Seconds after which a query is slow, from the round trips to all nodes.
        """
        return self._round_trips.soft_timeout

    @property
    def trusts_timeout(self) -> bool:
        """
        Are enough round trips known for L{soft_timeout} to fit the network?
        """
        return self._round_trips.trusted

    @property
    def round_trip(self) -> float | None:
        """
        Seconds that a round trip takes, to whatever node, smoothed; L{None}
        before the first.
        """
        return self._round_trips.smoothed

    @property
    def transactions(self) -> int:
        """
        How many queries have no answer so far.
        """
        return len(self._open)

    def may_query(self, host: str, port: int) -> bool:
        """
        Would a query to this node be sent at once?
        """
        return self._budgets.wait((host, port), self._reactor.seconds()) == 0

    def query(
        self,
        host: str,
        port: int,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        """
        Ask a node; wait first, if its budget says so.

        @param host: an IP literal, as the socket writes it.
        @param arguments: without C{id}.
        @param on_slow: called once if no reply has come L{soft_timeout}
            seconds after sending; the query stays open.
        @return: fires with the response; fails with L{QueryTimeout} after
            L{HARD_TIMEOUT} seconds, or at once if it would have to wait too
            long; with L{QueryRefused}; or with
            L{CancelledError<twisted.internet.defer.CancelledError>} if it is
            cancelled or this protocol is closed or not connected.
        """
        if self._closed or self.transport is None:
            return fail(CancelledError())
        now = self._reactor.seconds()
        address = (host, port)
        wait = self._budgets.wait(address, now)
        if wait > 0 and (self._held_back >= MAX_HELD_BACK or wait > MAX_HOLD):
            self.counters["refused.hold"] += 1
            return fail(QueryTimeout("over the packet budget"))
        self._budgets.spend(address, now)
        key = self._new_key(address)
        datagram = encode_query(key[0], method, self.node_id, arguments, self.read_only)
        deferred: Deferred[Response] = Deferred(lambda _: self._cancelled(key))
        transaction = _Transaction(key, datagram, deferred, on_slow)
        self._open[key] = transaction
        self.counters[_SENT.get(method, "sent.other")] += 1
        if wait > 0:
            self._held_back += 1
            self.counters["held back"] += 1
            self._schedule(now + wait, self._release, transaction)
        else:
            self._send(transaction, now)
        self._arm(now)
        return deferred

    def close(self) -> None:
        """
        Cancel all open queries; from now on nothing is sent or heard.
        """
        self._closed = True
        for transaction in list(self._open.values()):
            transaction.deferred.cancel()
        self._arm(self._reactor.seconds())

    def startProtocol(self) -> None:
        """
        The port is open.
        """
        # Port.write checks what kind of address it is given, for a third of
        # the time that a whole answer takes (docs/protocol/dht.md section 6).  One
        # that came from the socket needs no check.
        handle = getattr(self.transport, "getHandle", None)
        self._send_back = None if handle is None else handle().sendto

    def stopProtocol(self) -> None:
        """
        The port is closed, and so is this.
        """
        self.close()

    def connectionRefused(self) -> None:
        """
        An ICMP message says that nobody listens there.  Anybody can forge
        one, and it does not name the query: the time-out decides.
        """

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        A reply to us, a query, or anything else.
        """
        if self._closed:
            return
        host, port = addr
        if self._gate is not None and not self._gate.admits(host, self._reactor.seconds()):
            self.counters["dropped.flood"] += 1
            return
        try:
            message = decode(datagram)
        except DecodeError as error:
            self.counters[f"dropped.{error}"] += 1
            return
        try:
            if isinstance(message, Query):
                self._query_received(message, host, port)
            else:
                self._reply_received(message, host, port)
        except Exception:
            # A mistake of ours must not cost more than this datagram, nor
            # let a peer who has found it fill the log.
            self.counters["faults"] += 1
            if self.counters["faults"] == 1:
                self._log.failure("A datagram could not be handled; later faults are only counted.")

    def _query_received(self, query: Query, host: str, port: int) -> None:
        counters = self.counters
        counters[_RECEIVED.get(query.method, "received.other")] += 1
        if self._answer is None:
            return
        reply = self._answer(query, host, port)
        if reply is None:
            return
        counters["answered"] += 1
        if self._send_back is None:
            self._write(reply, host, port)
            return
        try:
            self._send_back(reply, (host, port))
        except (OSError, OverflowError):
            counters["write failed"] += 1

    def _reply_received(self, reply: Response | Error, host: str, port: int) -> None:
        transaction = self._open.get((reply.transaction, host, port))
        if transaction is None or transaction.sent is None:
            self.counters["dropped.unknown transaction"] += 1
            return
        if self._gate is not None:
            self._gate.refund(host)
        now = self._reactor.seconds()
        self._round_trips.measured(now - transaction.sent)
        del self._open[transaction.key]
        try:
            if isinstance(reply, Error):
                code = reply.code if reply.code in CODES else "other"
                self.counters[f"errors.{code}"] += 1
                transaction.deferred.errback(QueryRefused(reply.code, reply.text))
            else:
                self.counters["responses"] += 1
                try:
                    if self._seen is not None:
                        self._seen(reply, host, port)
                finally:
                    transaction.deferred.callback(reply)
        finally:
            self._arm(now)

    def _new_key(self, address: tuple[str, int]) -> _Key:
        while True:
            key = (self._rng.getrandbits(8 * TRANSACTION_SIZE).to_bytes(TRANSACTION_SIZE, "big"), *address)
            if key not in self._open:
                return key

    def _send(self, transaction: _Transaction, now: float) -> None:
        transaction.sent = now
        _, host, port = transaction.key
        self._write(transaction.datagram, host, port)
        if transaction.on_slow is not None:
            self._schedule(now + self.soft_timeout, self._slow, transaction)
        self._schedule(now + HARD_TIMEOUT, self._timed_out, transaction)

    def _write(self, datagram: bytes, host: str, port: int) -> None:
        # A datagram that can't be sent (no route, full buffer, port 0) is
        # as good as lost on the way.
        if self.transport is None:
            return
        try:
            self.transport.write(datagram, (host, port))
        except (OSError, ValueError, OverflowError):
            self.counters["write failed"] += 1

    def _cancelled(self, key: _Key) -> None:
        transaction = self._open.pop(key, None)
        if transaction is None:
            return
        self.counters["cancelled"] += 1
        if transaction.sent is None:
            self._held_back -= 1
            self._budgets.refund(key[1:])
        self._arm(self._reactor.seconds())

    def _release(self, transaction: _Transaction) -> None:
        self._held_back -= 1
        self._send(transaction, self._reactor.seconds())

    def _slow(self, transaction: _Transaction) -> None:
        self.counters["slow"] += 1
        if transaction.on_slow is not None:
            transaction.on_slow()

    def _timed_out(self, transaction: _Transaction) -> None:
        del self._open[transaction.key]
        self.counters["timeouts"] += 1
        transaction.deferred.errback(QueryTimeout("no reply"))

    def _schedule(
        self, when: float, action: Callable[[_Transaction], None], transaction: _Transaction
    ) -> None:
        self._serial += 1
        heappush(self._due, (when, self._serial, action, transaction))

    def _arm(self, now: float) -> None:
        due = self._due
        while due and self._open.get(due[0][3].key) is not due[0][3]:
            heappop(due)
        timer = self._timer
        if not due:
            if timer is not None:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._reactor.callLater(max(due[0][0] - now, 0.0), self._tick)
        elif due[0][0] < timer.getTime():
            timer.reset(max(due[0][0] - now, 0.0))

    def _tick(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        due = self._due
        while due and due[0][0] <= now + EPSILON:
            _, _, action, transaction = heappop(due)
            if self._open.get(transaction.key) is not transaction:
                continue
            try:
                action(transaction)
            except Exception:
                self.counters["faults"] += 1
                self._log.failure("A time-out could not be handled.")
        self._arm(self._reactor.seconds())
