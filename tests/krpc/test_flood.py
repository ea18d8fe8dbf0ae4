"""
Tests for L{dtt.krpc.flood}.
"""

from __future__ import annotations

from random import Random
from typing import cast

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import QueryRefused
from dtt.krpc import flood
from dtt.krpc.flood import MAX_IN_WINDOW, MAX_SOURCES, PENALTY, WINDOW, FloodLimiter
from dtt.krpc.messages import decode, encode_error, encode_query, encode_response
from dtt.krpc.protocol import KRPCProtocol
from tests.krpc.test_protocol import RecordingTransport


class FloodLimiterTests(SynchronousTestCase):
    """
    One limiter, with simulated time.
    """

    def setUp(self) -> None:
        self.limiter = FloodLimiter()

    def send(self, host: str, rate: float, begin: float, seconds: float) -> list[float]:
        """
        Send datagrams from C{host}; return the times of those admitted.
        """
        times = [begin + number / rate for number in range(int(rate * seconds))]
        return [time for time in times if self.limiter.admits(host, time)]

    def test_honest(self) -> None:
        """
        A source below the limit is never restricted.
        """
        rate = (MAX_IN_WINDOW - 1) / WINDOW
        self.assertEqual(len(self.send("a", rate, 0, 100)), int(rate * 100))

    def test_flood(self) -> None:
        """
        500 datagrams per second are cut off within 10 s, for as long as they continue.
        """
        admitted = self.send("a", 500, 0, 300)
        self.assertEqual(len(admitted), MAX_IN_WINDOW)
        self.assertLess(max(admitted), 10)

    def test_admitted_again(self) -> None:
        """
        Some time after it has stopped, a source is admitted again.
        """
        self.send("a", 500, 0, 20)
        self.assertFalse(self.limiter.admits("a", 21))
        self.assertTrue(self.limiter.admits("a", 21 + PENALTY))

    def test_replies_are_free(self) -> None:
        """
        Replies to our queries do not count: many nodes may share an address.
        """
        for number in range(10 * MAX_IN_WINDOW):
            self.assertTrue(self.limiter.admits("a", number / 10_000))
            self.limiter.refund("a")

    def test_networks(self) -> None:
        """
        The definition of a source is configurable, for instance an IPv6 /64.
        """
        limiter = FloodLimiter(lambda host: host.split("::")[0])
        admitted = [
            limiter.admits(f"2001:db8:0:{number % 2}::{number}", 0.0) for number in range(3 * MAX_IN_WINDOW)
        ]
        self.assertEqual(sum(admitted), 2 * MAX_IN_WINDOW)

    def test_others_are_unaffected(self) -> None:
        """
        A thousand honest sources are unaffected by a flood.
        """
        for second in range(30):
            self.send("flood", 500, second, 1)
            for number in range(1000):
                self.assertTrue(self.limiter.admits(f"honest {number}", second + 0.5))

    def test_fixed_size(self) -> None:
        """
        Any number of sources takes a fixed amount of memory.
        """
        self.patch(flood, "MAX_SOURCES", 64)
        for number in range(1000):
            self.limiter.admits(f"source {number}", number / 1000)
        self.assertEqual(len(self.limiter), 64)
        self.assertLess(64, MAX_SOURCES)

    def test_least_recent_is_forgotten(self) -> None:
        """
        A source that sends constantly stays tracked, however many others come.
        """
        self.patch(flood, "MAX_SOURCES", 64)
        admitted = 0
        for number in range(5000):
            admitted += self.limiter.admits("flood", number / 500)
            self.limiter.admits(f"source {number}", number / 500)
        self.assertEqual(admitted, MAX_IN_WINDOW)


class LimitedProtocolTests(SynchronousTestCase):
    """
    L{KRPCProtocol} with a limiter.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = RecordingTransport()
        self.protocol = KRPCProtocol(
            self.clock, b"m" * 20, answer=lambda *_: b"reply", limiter=FloodLimiter(), rng=Random(1)
        )
        self.protocol.makeConnection(cast(IUDPTransport, self.transport))

    def test_flood_is_not_answered(self) -> None:
        """
        A flooding source gets no more replies; another one still does.
        """
        query = encode_query(b"tttt", b"ping", b"q" * 20, {}, False)
        for _ in range(2 * MAX_IN_WINDOW):
            self.protocol.datagramReceived(query, ("10.0.0.1", 7))
        self.assertEqual(len(self.transport.sent), MAX_IN_WINDOW)
        self.assertEqual(self.protocol.counters["dropped_flood"], MAX_IN_WINDOW)
        self.protocol.datagramReceived(query, ("10.0.0.2", 7))
        self.assertEqual(len(self.transport.sent), MAX_IN_WINDOW + 1)

    def test_junk_counts_and_replies_do_not(self) -> None:
        """
        Invalid datagrams count; replies to our queries do not.
        """
        for number in range(2 * MAX_IN_WINDOW):
            response = self.protocol.query("10.0.0.1", number + 1, b"ping", {})
            transaction = decode(self.transport.sent.pop()[0]).transaction
            self.protocol.datagramReceived(
                encode_response(transaction, b"r" * 20, {}, None), ("10.0.0.1", number + 1)
            )
            self.successResultOf(response)
        for _ in range(2 * MAX_IN_WINDOW):
            self.protocol.datagramReceived(b"junk", ("10.0.0.1", 7))
        self.assertGreaterEqual(self.protocol.counters["dropped_flood"], MAX_IN_WINDOW)

    def test_forged_flood_hides_no_reply(self) -> None:
        """
        Whatever is sent in a node's name, its replies to our queries are processed: at
        least nine of ten while the flood lasts.
        """
        query = encode_query(b"tttt", b"ping", b"q" * 20, {}, False)
        junk = (b"x", b"1:t4:", b"d1:t4:tttt1:y1:re", b"d1:rde1:t4:tttt1:y1:re", query, b"1:t4:tttt" * 400)
        rng = Random(5)
        answered = 0
        for _ in range(100):
            for number in range(500):
                self.protocol.datagramReceived(junk[number % len(junk)], ("10.0.0.1", 7))
            self.transport.sent.clear()
            reply = self.protocol.query("10.0.0.1", 7, b"ping", {})
            transaction = decode(self.transport.sent[-1][0]).transaction
            for _ in range(20):
                guess = rng.randbytes(4)
                self.protocol.datagramReceived(encode_response(guess, b"r" * 20, {}, None), ("10.0.0.1", 7))
            # The transaction id may also occur elsewhere in the message.
            values = {b"token": b"1:t4:token", b"values": [b"1:t4:x"]}
            self.protocol.datagramReceived(
                encode_response(transaction, b"r" * 20, values, None), ("10.0.0.1", 7)
            )
            answered += self.successResultOf(reply).node_id == b"r" * 20
            self.clock.advance(1.0)
        self.assertGreaterEqual(answered, 90)
        self.assertGreater(self.protocol.counters["dropped_flood"], 40_000)

    def test_forged_flood_hides_no_refusal(self) -> None:
        """
        The same holds for errors.
        """
        for _ in range(2 * MAX_IN_WINDOW):
            self.protocol.datagramReceived(b"x", ("10.0.0.1", 7))
        refused = self.protocol.query("10.0.0.1", 7, b"ping", {})
        transaction = decode(self.transport.sent[-1][0]).transaction
        self.protocol.datagramReceived(encode_error(transaction, 202, "busy", None), ("10.0.0.1", 7))
        self.failureResultOf(refused, QueryRefused)

    def test_reply_of_another(self) -> None:
        """
        The id of an open transaction lets only the node that was queried pass.
        """
        self.protocol.query("10.0.0.2", 7, b"ping", {})
        transaction = decode(self.transport.sent[-1][0]).transaction
        reply = encode_response(transaction, b"r" * 20, {}, None)
        for _ in range(2 * MAX_IN_WINDOW):
            self.protocol.datagramReceived(reply, ("10.0.0.1", 7))
        self.assertEqual(self.protocol.counters["dropped_flood"], MAX_IN_WINDOW)

    def test_replies_do_not_prolong_the_penalty(self) -> None:
        """
        A source over the limit whose replies are processed is admitted again on time.
        """
        for _ in range(MAX_IN_WINDOW + 1):
            self.protocol.datagramReceived(b"x", ("10.0.0.1", 7))
        for _ in range(6):
            reply = self.protocol.query("10.0.0.1", 7, b"ping", {})
            transaction = decode(self.transport.sent[-1][0]).transaction
            self.protocol.datagramReceived(encode_response(transaction, b"r" * 20, {}, None), ("10.0.0.1", 7))
            self.successResultOf(reply)
            self.clock.advance(PENALTY / 6)
        query = encode_query(b"tttt", b"ping", b"q" * 20, {}, False)
        self.transport.sent.clear()
        self.protocol.datagramReceived(query, ("10.0.0.1", 7))
        self.assertEqual(len(self.transport.sent), 1)
