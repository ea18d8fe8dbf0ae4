"""
KRPC over UDP (BEP5, "KRPC Protocol"): transactions, timeouts, packet budgets.

Rules:
  - A reply counts only if both its transaction id I{and} its source address match an
    open transaction (docs/protocol/dht.md section 2).
  - No incoming datagram raises, blocks or writes a log line. An invalid one is counted
    and not answered.
  - The limit for a source never affects replies to our queries: the source of a datagram can be forged, but
    its transaction id can't be guessed.  Nor do forged queries use up the budget for queries to a node: see
    L{KRPCProtocol.is_rested}.
  - No node is sent more than 20 queries in any 10 s; further queries wait.
  - There is a single timer, which runs only while transactions are open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from heapq import heappop, heappush
from random import Random, SystemRandom
from typing import Any, Final, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from dtt.counters import snake_case
from dtt.errors import DecodeError, QueryRefused, QueryTimeout
from dtt.krpc.flood import FloodLimiter
from dtt.krpc.messages import CODES, TRANSACTION_SIZE, Error, Query, Response, decode, encode_query
from dtt.krpc.pacing import EPSILON, PacketBudgets, RoundTrips
from dtt.net.buffers import enlarge_receive_buffer

#: Seconds until a query fails: the timeout of mainline and bittorrent-dht
#: (docs/protocol/dht.md section 1).
HARD_TIMEOUT: Final = 2.0

#: The most queries waiting for a budget, in total, and the most seconds one may wait;
#: beyond either limit, a query fails immediately. Operations take turns
#: (L{dtt.dht.turns}), so that neither is reached by them: 64 that run at the same time
#: have at most 40 queries each in flight, and one each to the same node.
MAX_HELD_BACK: Final = 4096
MAX_HOLD: Final = 100.0

# The bytes before our transaction id in a reply.
_T: Final = b"1:t%d:" % TRANSACTION_SIZE

_METHODS: Final = (
    b"ping",
    b"find_node",
    b"get_peers",
    b"announce_peer",
    b"get",
    b"put",
    b"sample_infohashes",
)
_SENT: Final = {method: "sent_" + method.decode("ascii") for method in _METHODS}
_RECEIVED: Final = {method: "received_" + method.decode("ascii") for method in _METHODS}

_Key: TypeAlias = tuple[bytes, str, int]


class _Transaction:
    """
    One open query.

    @ivar sent: when it was sent; C{None} while it is held back.
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
    Sends queries and matches their replies; passes queries from others to C{answer}.

    @ivar node_id: our 20-byte id; may be changed.
    @ivar read_only: announce in our queries that we answer none (BEP43).
    @ivar counters: C{sent_METHOD} and C{received_METHOD} (C{other} for unknown
        methods), C{answered}, C{responses}, C{errors_CODE} (C{other} for unknown
        codes), C{timeouts}, C{slow}, C{cancelled}, C{held_back}, C{refused_hold} (held
        back too long), C{write_failed}, C{faults} (unexpected exceptions, that is,
        bugs) and C{dropped_REASON}.
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
        limiter: FloodLimiter | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param node_id: our 20-byte id.
        @param answer: returns the reply to a query from a host and port, or C{None} to
            send none.
        @param seen: called with every response to our queries and the host and port it
            came from, before the query's Deferred fires.
        @param limiter: decides which datagrams are ignored; C{None}: none are.
        @param rng: the source of transaction ids, which must be unpredictable; the
            system's by default.
        """
        self.node_id = node_id
        self.read_only = False
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._answer = answer
        self._seen = seen
        self._limiter = limiter
        self._rng = SystemRandom() if rng is None else rng
        self._open: dict[_Key, _Transaction] = {}
        self._held_back = 0
        # Scheduled actions, by time. The serial number preserves the order of those at
        # the same time.
        self._due: list[tuple[float, int, Callable[[_Transaction], None], _Transaction]] = []
        self._serial = 0
        self._timer: IDelayedCall | None = None
        self._budgets = PacketBudgets()
        self._round_trips = RoundTrips()
        self._closed = False
        # Who else uses the socket, and the connection ids of its datagrams.
        self._sharer: Callable[[bytes, str, int], None] | None = None
        self._shared_ids: Container[bytes] = ()
        # Sends a reply to the address a datagram came from.
        self._send_back: Callable[[bytes, Any], object] | None = None

    @property
    def soft_timeout(self) -> float:
        """
        Seconds after which a query is slow, derived from the round trips to all nodes.
        """
        return self._round_trips.soft_timeout

    @property
    def trusts_timeout(self) -> bool:
        """
        Whether enough round trips are known for L{soft_timeout} to suit the network.
        """
        return self._round_trips.trusted

    @property
    def round_trip(self) -> float | None:
        """
        The smoothed round trip over all nodes, seconds; C{None} before the first one.
        """
        return self._round_trips.smoothed

    @property
    def transactions(self) -> int:
        """
        The number of open queries.
        """
        return len(self._open)

    @property
    def held_back(self) -> int:
        """
        The number of queries waiting for the packet budgets of their nodes.
        """
        return self._held_back

    def may_query(self, host: str, port: int) -> bool:
        """
        Return whether a query to this node would be sent immediately.
        """
        return self._budgets.wait((host, port), self._reactor.seconds()) == 0

    def is_rested(self, host: str, port: int) -> bool:
        """
        Return whether at least half of this node's packet budget is available. Only then
        should it be queried because of an unsolicited datagram: forged ones would
        otherwise use up the budget for our own queries.
        """
        return self._budgets.is_half_full((host, port), self._reactor.seconds())

    def query(
        self,
        host: str,
        port: int,
        method: bytes,
        arguments: dict[bytes, Any],
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Response]:
        """
        Send a query to a node, after a delay if its packet budget is spent.

        @param host: an IP literal, formatted as the socket formats it.
        @param arguments: without C{id}.
        @param on_slow: called once if no reply has arrived L{soft_timeout} seconds
            after sending; the query stays open.
        @return: fires with the response. Fails with
            L{QueryTimeout<dtt.errors.QueryTimeout>} after L{HARD_TIMEOUT} seconds, or
            immediately if it would have to wait too long; with
            L{QueryRefused<dtt.errors.QueryRefused>} if the reply is an error; or with
            C{twisted.internet.defer.CancelledError} if it is cancelled
            or this protocol is closed or not connected.
        """
        if self._closed or self.transport is None:
            return fail(CancelledError())
        now = self._reactor.seconds()
        address = (host, port)
        wait = self._budgets.wait(address, now)
        if wait > 0 and (self._held_back >= MAX_HELD_BACK or wait > MAX_HOLD):
            self.counters["refused_hold"] += 1
            return fail(QueryTimeout("packet budget exceeded"))
        self._budgets.spend(address, now)
        key = self._new_key(address)
        datagram = encode_query(key[0], method, self.node_id, arguments, self.read_only)
        deferred: Deferred[Response] = Deferred(lambda _: self._cancelled(key))
        transaction = _Transaction(key, datagram, deferred, on_slow)
        self._open[key] = transaction
        self.counters[_SENT.get(method, "sent_other")] += 1
        if wait > 0:
            self._held_back += 1
            self.counters["held_back"] += 1
            self._schedule(now + wait, self._release, transaction)
        else:
            self._send(transaction, now)
        self._arm(now)
        return deferred

    def share(self, sharer: Callable[[bytes, str, int], None], connection_ids: Container[bytes]) -> None:
        """
        Share the socket: datagrams that are not KRPC go to C{sharer}
        (docs/protocol/quic.md section 2).  The receive buffer of the socket is enlarged for them.

        @param sharer: called with the datagram, the host and the port.
        @param connection_ids: 8 bytes each; a datagram that has one of them in its bytes
            1 to 8 goes to C{sharer}, whatever it looks like.
        """
        self._sharer, self._shared_ids = sharer, connection_ids
        enlarge_receive_buffer(self.transport)

    def send_datagram(self, datagram: bytes, host: str, port: int) -> None:
        """
        Send a datagram of the sharer's; one that can't be sent is counted, and lost.
        """
        if self._closed:
            return
        if self._send_back is None:
            self._write(datagram, host, port)
            return
        try:
            self._send_back(datagram, (host, port))
        except (OSError, OverflowError):
            self.counters["write_failed"] += 1

    def close(self) -> None:
        """
        Cancel all open queries; from now on, send nothing and ignore all datagrams.
        """
        self._closed = True
        for transaction in list(self._open.values()):
            transaction.deferred.cancel()
        self._arm(self._reactor.seconds())

    def startProtocol(self) -> None:
        """
        Prepare to send replies: the port is open.
        """
        # Port.write validates the address, which takes a third of the time of a whole
        # answer (docs/protocol/dht.md section 6). An address that came from the socket
        # needs no validation.
        handle = getattr(self.transport, "getHandle", None)
        self._send_back = None if handle is None else handle().sendto

    def stopProtocol(self) -> None:
        """
        Close: the port is closed.
        """
        self.close()

    def connectionRefused(self) -> None:
        """
        Ignore an ICMP "port unreachable" message: anyone can forge one, and it does not
        identify the query.  The timeout decides.
        """

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Process a query or a reply; count and drop anything else.
        """
        if self._closed:
            return
        host, port = addr
        if self._sharer is not None and (datagram[:1] != b"d" or datagram[1:9] in self._shared_ids):
            self._sharer(datagram, host, port)
            return
        admitted = True
        if self._limiter is not None and not self._limiter.admits(host, self._reactor.seconds()):
            admitted = False
            if not self._may_be_reply(datagram, host, port):
                self.counters["dropped_flood"] += 1
                return
        try:
            message = decode(datagram)
        except DecodeError as error:
            self.counters["dropped_" + snake_case(str(error))] += 1
            return
        try:
            if isinstance(message, Query):
                self._query_received(message, host, port)
            elif self._reply_received(message, host, port) and admitted and self._limiter is not None:
                self._limiter.refund(host)
        except Exception:
            # A bug must not cost more than this datagram, nor allow a peer that
            # triggers it to fill the log.
            self.counters["faults"] += 1
            if self.counters["faults"] == 1:
                self._log.failure(
                    "Unexpected error while handling a datagram (a bug in dtt); more will only be counted."
                )

    def _query_received(self, query: Query, host: str, port: int) -> None:
        counters = self.counters
        counters[_RECEIVED.get(query.method, "received_other")] += 1
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
            counters["write_failed"] += 1

    def _may_be_reply(self, datagram: bytes, host: str, port: int) -> bool:
        # Return whether an undecoded datagram contains the id of an open transaction with
        # this node, as its first or last transaction id.
        for place in (datagram.rfind(_T), datagram.find(_T)):
            start = place + len(_T)
            if place >= 0 and (datagram[start : start + TRANSACTION_SIZE], host, port) in self._open:
                return True
        return False

    def _reply_received(self, reply: Response | Error, host: str, port: int) -> bool:
        # Return whether it was a reply to one of our queries.
        transaction = self._open.get((reply.transaction, host, port))
        if transaction is None or transaction.sent is None:
            self.counters["dropped_unknown_transaction"] += 1
            return False
        now = self._reactor.seconds()
        self._round_trips.measured(now - transaction.sent)
        del self._open[transaction.key]
        try:
            if isinstance(reply, Error):
                code = reply.code if reply.code in CODES else "other"
                self.counters[f"errors_{code}"] += 1
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
        return True

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
        # A datagram that can't be sent (no route, full buffer, port 0) counts as lost
        # in transit.
        if self.transport is None:
            return
        try:
            self.transport.write(datagram, (host, port))
        except (OSError, ValueError, OverflowError):
            self.counters["write_failed"] += 1

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
                self._log.failure("Unexpected error while handling a timeout (a bug in dtt).")
        self._arm(self._reactor.seconds())
