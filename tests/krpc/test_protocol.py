"""
Tests for L{dtt.krpc.protocol}.
"""

from __future__ import annotations

import socket
from functools import partial
from random import Random
from typing import Any, cast
from unittest.mock import Mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import QueryRefused, QueryTimeout
from dtt.krpc.messages import Query, Response, decode, encode_error, encode_query, encode_response
from dtt.krpc.pacing import ENOUGH_ROUND_TRIPS
from dtt.krpc.protocol import HARD_TIMEOUT, MAX_HELD_BACK, MAX_HOLD, KRPCProtocol
from dtt.net.buffers import RECEIVE_BUFFER

_ME = b"m" * 20
_THEM = b"t" * 20
_NODE = ("10.0.0.1", 1000)


class RecordingTransport:
    """
    Records what is sent.

    @ivar sent: datagrams and addresses, in order.
    @ivar error: if set, raised instead.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.error: Exception | None = None

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """
        Record a datagram.
        """
        if self.error is not None:
            raise self.error
        self.sent.append((datagram, address))

    def queries(self) -> list[Query]:
        """
        Return the queries that were sent.
        """
        return [message for data, _ in self.sent if isinstance(message := decode(data), Query)]


class ProtocolTestCase(SynchronousTestCase):
    """
    A protocol on a recording transport.
    """

    def setUp(self) -> None:
        """
        Create a protocol with prepared replies.
        """
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.transport = RecordingTransport()
        self.answers: list[tuple[Query, str, int]] = []
        self.reply: bytes | None = b"reply"
        self.seen: list[tuple[Response, str, int]] = []
        self.protocol = KRPCProtocol(
            self.clock,
            _ME,
            answer=self.answer,
            seen=lambda response, host, port: self.seen.append((response, host, port)),
            rng=Random(1),
        )
        self.connect()

    def connect(self) -> None:
        """
        Connect the protocol to its transport.
        """
        self.protocol.makeConnection(cast(IUDPTransport, self.transport))

    def answer(self, query: Query, host: str, port: int) -> bytes | None:
        """
        Record a query and return the prepared reply.
        """
        self.answers.append((query, host, port))
        return self.reply

    def ping(self, node: tuple[str, int] = _NODE, **options: Any) -> Deferred[Response]:
        """
        Ping a node.
        """
        return self.protocol.query(*node, b"ping", {}, **options)

    def respond(self, index: int = -1, node: tuple[str, int] | None = None) -> None:
        """
        Respond to one of the sent queries, optionally from another address.
        """
        data, address = self.transport.sent[index]
        reply = encode_response(decode(data).transaction, _THEM, {b"x": 1}, None)
        self.protocol.datagramReceived(reply, node or address)


class QueryTests(ProtocolTestCase):
    """
    Our queries.
    """

    def test_sent(self) -> None:
        """
        A query is sent to the node immediately, with our id, and C{ro} if we are
        read-only.
        """
        deferreds = [self.protocol.query(*_NODE, b"get", {b"target": b"x" * 20})]
        self.protocol.read_only = True
        self.protocol.node_id = b"n" * 20
        deferreds.append(self.protocol.query("10.0.0.2", 7, b"ping", {}))
        first, second = self.transport.queries()
        self.assertEqual(
            (first.method, first.node_id, first.arguments, first.read_only),
            (b"get", _ME, {b"target": b"x" * 20}, False),
        )
        self.assertEqual((second.node_id, second.read_only), (b"n" * 20, True))
        self.assertEqual([len(query.transaction) for query in (first, second)], [4, 4])
        self.assertEqual([address for _, address in self.transport.sent], [_NODE, ("10.0.0.2", 7)])
        self.assertEqual(self.protocol.counters["sent_get"], 1)
        self.protocol.close()
        for deferred in deferreds:
            self.failureResultOf(deferred, CancelledError)

    def test_response(self) -> None:
        """
        The response is the result; C{seen} is called before, and nothing stays open.
        """
        heard_before: list[int] = []

        def fired(response: Response) -> Response:
            heard_before.append(len(self.seen))
            return response

        deferred = self.ping().addCallback(fired)
        self.respond()
        response = self.successResultOf(deferred)
        self.assertEqual(heard_before, [1])
        self.assertEqual((response.node_id, response.values), (_THEM, {b"x": 1}))
        self.assertEqual(self.seen, [(response, *_NODE)])
        self.assertEqual(self.protocol.counters["responses"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error(self) -> None:
        """
        An error fails the query with its code and text.
        """
        deferred = self.ping()
        transaction = decode(self.transport.sent[0][0]).transaction
        self.protocol.datagramReceived(encode_error(transaction, 301, "cas", None), _NODE)
        failure = self.failureResultOf(deferred, QueryRefused)
        self.assertEqual((failure.value.code, failure.value.text), (301, "cas"))
        self.assertEqual(self.seen, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_foreign_reply(self) -> None:
        """
        A reply from another host or port, or to another transaction, changes nothing;
        the right one still counts, once.
        """
        deferred = self.ping()
        self.respond(node=("10.0.0.1", 1001))
        self.respond(node=("10.0.0.2", 1000))
        self.protocol.datagramReceived(encode_response(b"none", _THEM, {}, None), _NODE)
        self.protocol.datagramReceived(encode_error(b"none", 201, "", None), _NODE)
        self.assertNoResult(deferred)
        self.assertEqual(self.seen, [])
        self.respond()
        self.successResultOf(deferred)
        self.respond()
        self.assertEqual(self.protocol.counters["dropped_unknown_transaction"], 5)
        self.assertEqual(len(self.seen), 1)

    def test_timeout(self) -> None:
        """
        Without a reply the query fails after two seconds; a later reply is dropped.
        """
        deferred = self.ping()
        self.clock.advance(HARD_TIMEOUT - 0.01)
        self.assertNoResult(deferred)
        self.clock.advance(0.01)
        self.failureResultOf(deferred, QueryTimeout)
        self.respond()
        self.assertEqual(self.seen, [])
        self.assertEqual(self.protocol.counters["timeouts"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_timer(self) -> None:
        """
        Many open queries share one delayed call, and each has its own deadline.
        """
        first = self.ping(("10.0.0.1", 1), on_slow=lambda: None)
        self.clock.advance(1.0)
        others = [self.ping(("10.0.0.1", port)) for port in range(2, 50)]
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1.0)
        self.failureResultOf(first, QueryTimeout)
        for other in others:
            self.assertNoResult(other)
        self.clock.advance(1.0)
        for other in others:
            self.failureResultOf(other, QueryTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """
        A query can be cancelled; its reply is then dropped.
        """
        deferred = self.ping()
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.respond()
        self.assertEqual(self.seen, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_query_from_callback(self) -> None:
        """
        A query can be sent from the errback of the previous one.
        """
        deferred = self.ping()
        again: list[Deferred[Response]] = []
        deferred.addErrback(lambda failure: again.append(self.ping()))
        self.clock.advance(HARD_TIMEOUT)
        self.assertEqual(len(again), 1)
        self.clock.advance(HARD_TIMEOUT)
        self.failureResultOf(again[0], QueryTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_write_failure(self) -> None:
        """
        A datagram that can't be sent counts as lost.
        """
        for error in (OSError("unreachable"), ValueError("address")):
            self.transport.error = error
            deferred = self.ping()
            self.clock.advance(HARD_TIMEOUT)
            self.failureResultOf(deferred, QueryTimeout)
        self.assertEqual(self.protocol.counters["write_failed"], 2)

    def test_connection_refused(self) -> None:
        """
        An ICMP message, which anyone can forge, changes nothing.
        """
        deferred = self.ping()
        self.protocol.connectionRefused()
        self.respond()
        self.successResultOf(deferred)

    def test_transactions_differ(self) -> None:
        """
        Open queries to one node have different transaction ids, even if the random
        source repeats itself.
        """

        class Repeating(Random):
            numbers = iter([5, 5, 5, 6])

            def getrandbits(self, k: int) -> int:
                return next(self.numbers)

        self.protocol = KRPCProtocol(self.clock, _ME, rng=Repeating())
        self.connect()
        first, second = self.ping(), self.ping()
        self.assertEqual(
            [query.transaction for query in self.transport.queries()], [b"\0\0\0\5", b"\0\0\0\6"]
        )
        self.respond(1)
        self.successResultOf(second)
        self.assertNoResult(first)
        self.protocol.close()
        self.failureResultOf(first, CancelledError)


class SoftTimeoutTests(ProtocolTestCase):
    """
    C{on_slow} and C{soft_timeout}.
    """

    def test_slow(self) -> None:
        """
        C{on_slow} is called once when the soft time-out has passed; the query stays
        open and may succeed.
        """
        slow: list[float] = []
        deferred = self.ping(on_slow=lambda: slow.append(self.clock.seconds()))
        self.clock.advance(0.24)
        self.assertEqual(slow, [])
        self.clock.advance(0.01)
        self.assertEqual(slow, [1000.25])
        self.clock.advance(1.0)
        self.respond()
        self.successResultOf(deferred)
        self.assertEqual(len(slow), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_slow(self) -> None:
        """
        C{on_slow} is not called after a reply or a cancellation.
        """
        slow: list[None] = []
        self.ping(on_slow=lambda: slow.append(None))
        self.respond()
        deferred = self.ping(on_slow=lambda: slow.append(None))
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        keep = self.ping()
        self.clock.advance(HARD_TIMEOUT)
        self.failureResultOf(keep, QueryTimeout)
        self.assertEqual(slow, [])

    def test_adapts(self) -> None:
        """
        Round trips shorten the soft time-out of later queries.
        """
        self.assertEqual(self.protocol.soft_timeout, 0.25)
        for port in range(30):
            self.ping(("10.0.0.1", port))
            self.clock.advance(0.03)
            self.respond()
        self.assertAlmostEqual(self.protocol.soft_timeout, 0.08)
        slow: list[None] = []
        deferred = self.ping(on_slow=lambda: slow.append(None))
        self.clock.advance(0.09)
        self.assertEqual(slow, [None])
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)

    def test_constant_round_trips(self) -> None:
        """
        If all round trips take the same time, no query becomes slow just before its
        response.
        """
        for seconds in (0.001, 0.03, 0.1, 0.5):
            self.setUp()
            slow: list[int] = []
            for port in range(100):
                # The first round trips are needed to learn the duration.
                late = partial(slow.append, port) if port > 3 else None
                self.ping(("10.0.0.1", port), on_slow=late)
                self.clock.advance(seconds)
                self.respond()
            self.assertEqual(slow, [], seconds)

    def test_trusted(self) -> None:
        """
        The soft time-out is trusted once enough round trips are known; time-outs do not
        count as such.
        """
        for number in range(ENOUGH_ROUND_TRIPS):
            self.assertFalse(self.protocol.trusts_timeout, number)
            silent = self.ping(("10.0.0.2", number))
            self.ping(("10.0.0.1", number))
            self.respond()
            self.clock.advance(HARD_TIMEOUT)
            self.failureResultOf(silent, QueryTimeout)
        self.assertTrue(self.protocol.trusts_timeout)

    def test_faulty_callback(self) -> None:
        """
        An exception in C{on_slow} is logged, and other time-outs still work.
        """
        deferred = self.ping(on_slow=lambda: 1 // 0)
        self.clock.advance(0.25)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(HARD_TIMEOUT - 0.25)
        self.failureResultOf(deferred, QueryTimeout)


class BudgetTests(ProtocolTestCase):
    """
    Packet budgets.
    """

    def test_held_back(self) -> None:
        """
        Ten queries are sent immediately, the next ones one per second, in order, each
        with its full time-out; queries to other nodes are not held back.
        """
        self.assertTrue(self.protocol.may_query(*_NODE))
        deferreds = [self.protocol.query(*_NODE, b"get", {b"n": number}) for number in range(12)]
        self.assertEqual(len(self.transport.sent), 10)
        self.assertFalse(self.protocol.may_query(*_NODE))
        self.assertTrue(self.protocol.may_query("10.0.0.1", 1001))
        self.assertEqual(self.protocol.counters["held_back"], 2)
        self.clock.advance(1.0)
        self.assertEqual(len(self.transport.sent), 11)
        self.clock.advance(1.0)
        self.assertEqual([query.arguments[b"n"] for query in self.transport.queries()], list(range(12)))
        for deferred in deferreds[:10]:
            self.failureResultOf(deferred, QueryTimeout)
        self.clock.advance(1.99)
        self.failureResultOf(deferreds[10], QueryTimeout)
        self.respond()
        self.successResultOf(deferreds[11])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_reply_before_sending(self) -> None:
        """
        A query that is still queued can't be answered.
        """
        for _ in range(10):
            self.ping()
            self.respond()
        held = self.ping()
        for key in list(self.protocol._open):
            self.protocol.datagramReceived(encode_response(key[0], _THEM, {}, None), _NODE)
        self.assertNoResult(held)
        self.clock.advance(1.0)
        self.respond()
        self.successResultOf(held)

    def test_cancel_held_back(self) -> None:
        """
        A query cancelled while held back is never sent, and does not use the budget.
        """
        for _ in range(10):
            self.ping()
            self.respond()
        for _ in range(MAX_HELD_BACK + 1):
            held = self.ping()
            held.cancel()
            self.failureResultOf(held, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.ping()
        self.clock.advance(1.0)
        self.assertEqual(len(self.transport.sent), 11)
        self.respond()
        self.successResultOf(again)

    def test_too_long(self) -> None:
        """
        A query that would wait too long fails immediately.
        """
        deferreds = [self.ping() for _ in range(11 + int(MAX_HOLD))]
        self.failureResultOf(deferreds.pop(), QueryTimeout)
        self.assertEqual(self.protocol.counters["refused_hold"], 1)
        self.protocol.close()
        for deferred in deferreds:
            self.failureResultOf(deferred, CancelledError)

    def test_too_many(self) -> None:
        """
        The number of queries held back, over all nodes, is bounded.
        """
        nodes = MAX_HELD_BACK // 10 + 1
        deferreds = [self.ping(("10.0.0.1", port)) for port in range(nodes) for _ in range(20)]
        self.assertEqual(self.protocol.counters["held_back"], MAX_HELD_BACK)
        self.assertEqual(self.protocol.held_back, MAX_HELD_BACK)
        self.assertEqual(self.protocol.counters["refused_hold"], 10 * nodes - MAX_HELD_BACK)
        self.clock.pump([1.0] * 13)
        self.assertEqual(self.protocol.held_back, 0)
        for deferred in deferreds:
            self.failureResultOf(deferred, QueryTimeout)
        self.assertEqual(len(self.transport.sent), 10 * nodes + MAX_HELD_BACK)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AnswerTests(ProtocolTestCase):
    """
    Queries from others.
    """

    def test_answered(self) -> None:
        """
        A query is passed to C{answer}, and its reply is sent to the query's source.
        """
        self.protocol.datagramReceived(encode_query(b"aa", b"ping", _THEM, {}, False), _NODE)
        ((query, host, port),) = self.answers
        self.assertEqual((query.method, query.transaction, host, port), (b"ping", b"aa", *_NODE))
        self.assertEqual(self.transport.sent, [(b"reply", _NODE)])
        self.assertEqual(self.protocol.counters["received_ping"], 1)

    def test_silent(self) -> None:
        """
        Nothing is sent if there is no reply or no C{answer}.
        """
        query = encode_query(b"aa", b"ping", _THEM, {}, False)
        self.reply = None
        self.protocol.datagramReceived(query, _NODE)
        self.protocol = KRPCProtocol(self.clock, _ME)
        self.connect()
        self.protocol.datagramReceived(query, _NODE)
        self.assertEqual(self.transport.sent, [])

    def test_unknown_methods(self) -> None:
        """
        Invented methods do not add counters.
        """
        for number in range(100):
            self.protocol.datagramReceived(encode_query(b"aa", b"m%d" % number, _THEM, {}, False), _NODE)
        self.assertEqual(self.protocol.counters, {"received_other": 100, "answered": 100})

    def test_undecodable(self) -> None:
        """
        An invalid datagram is counted by reason; nothing is sent.
        """
        for data in (b"", b"hello", b"d", b"le", b"d1:t2:aa1:y1:xe"):
            self.protocol.datagramReceived(data, _NODE)
        self.assertEqual(
            self.protocol.counters,
            {
                "dropped_bencode_truncated": 2,
                "dropped_bencode_bad_type": 1,
                "dropped_not_a_dictionary": 1,
                "dropped_bad_message_type": 1,
            },
        )
        self.assertEqual((self.transport.sent, self.answers), ([], []))

    def test_garbage(self) -> None:
        """
        No datagram raises an exception or affects an open query.
        """
        deferred = self.ping()
        good = encode_query(b"aaaa", b"get", _THEM, {b"target": b"x" * 20, b"want": [b"n4"]}, False)
        for seed in range(500):
            rng = Random(seed)
            data = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.choice(b"0123456789:deil-\x00\xff")
            del data[rng.randrange(len(data) + 1) :]
            try:
                self.protocol.datagramReceived(bytes(data), _NODE)
            except Exception as error:
                self.fail(f"seed {seed}: {error!r}")
        self.assertNoResult(deferred)
        self.assertEqual(self.protocol.counters["faults"], 0)

    def test_fault(self) -> None:
        """
        An unexpected exception is logged the first time and counted each time.
        """
        self.protocol = KRPCProtocol(self.clock, _ME, answer=lambda *_: 1 // 0)  # type: ignore[arg-type]
        self.connect()
        for _ in range(3):
            self.protocol.datagramReceived(encode_query(b"aa", b"ping", _THEM, {}, False), _NODE)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.protocol.counters["faults"], 3)

    def test_faulty_seen(self) -> None:
        """
        An exception in C{seen} does not keep the response from the caller.
        """
        self.protocol = KRPCProtocol(self.clock, _ME, seen=lambda *_: 1 // 0)  # type: ignore[arg-type]
        self.connect()
        deferred = self.ping()
        self.respond()
        self.successResultOf(deferred)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SocketTests(ProtocolTestCase):
    """
    On a real port, replies are sent through its socket.
    """

    def test_answer(self) -> None:
        """
        A reply is sent to the query's source; one that can't be sent is counted.
        """
        sent: list[tuple[bytes, tuple[str, int]]] = []

        def sendto(datagram: bytes, address: tuple[str, int]) -> None:
            if self.transport.error is not None:
                raise self.transport.error
            sent.append((datagram, address))

        self.transport.getHandle = lambda: Mock(sendto=sendto)  # type: ignore[attr-defined]
        self.protocol.startProtocol()
        query = encode_query(b"aaaa", b"ping", _THEM, {}, False)
        self.protocol.datagramReceived(query, _NODE)
        self.transport.error = BlockingIOError()
        self.protocol.datagramReceived(query, _NODE)
        self.assertEqual(sent, [(b"reply", _NODE)])
        self.assertEqual(self.transport.sent, [])
        self.assertEqual(self.protocol.counters["write_failed"], 1)
        self.assertEqual(self.protocol.counters["faults"], 0)


class ShareTests(ProtocolTestCase):
    """
    A socket that QUIC shares.
    """

    def test_receive_buffer(self) -> None:
        """
        The buffer of the socket is enlarged when it is shared, not before.
        """
        handle = Mock(getsockopt=Mock(return_value=65536))
        self.transport.getHandle = lambda: handle  # type: ignore[attr-defined]
        self.protocol.startProtocol()
        handle.setsockopt.assert_not_called()
        self.protocol.share(lambda datagram, host, port: None, ())
        handle.setsockopt.assert_called_once_with(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


class CloseTests(ProtocolTestCase):
    """
    Closing.
    """

    def test_close(self) -> None:
        """
        All open queries are cancelled, including those held back; no delayed call
        remains; later queries are not sent and later datagrams are ignored.
        """
        deferreds = [self.ping(on_slow=lambda: None) for _ in range(15)]
        self.protocol.close()
        for deferred in deferreds:
            self.failureResultOf(deferred, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.ping(), CancelledError)
        self.protocol.datagramReceived(encode_query(b"aa", b"ping", _THEM, {}, False), _NODE)
        self.assertEqual(self.answers, [])
        self.assertEqual(len(self.transport.sent), 10)
        self.protocol.close()

    def test_close_answers_with_query(self) -> None:
        """
        A query sent because another was cancelled is cancelled too.
        """
        again: list[Deferred[Response]] = []
        self.ping().addErrback(lambda failure: again.append(self.ping()))
        self.protocol.close()
        self.failureResultOf(again[0], CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_port_closed(self) -> None:
        """
        Closing the port closes the protocol.
        """
        deferred = self.ping()
        self.protocol.doStop()
        self.failureResultOf(deferred, CancelledError)
        self.failureResultOf(self.ping(), CancelledError)

    def test_not_connected(self) -> None:
        """
        Without a port a query fails immediately.
        """
        self.protocol = KRPCProtocol(self.clock, _ME)
        self.failureResultOf(self.ping(), CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
