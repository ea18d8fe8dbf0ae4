"""
Tests for L{dtt.dht.client.samples}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.samples import MAX_INTERVAL, MAX_SAMPLES, Sampler, sample_in
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import Contact, InfohashSample
from dtt.krpc.messages import Response

CONTACTS = [Contact(bytes((number,)) * 20, f"10.0.0.{number}", 1) for number in range(1, 5)]


def response(**values: Any) -> Response:
    """
    A node's response.
    """
    return Response(b"tttt", bytes(20), {name.encode(): value for name, value in values.items()}, b"", None)


class SampleInTests(SynchronousTestCase):
    """
    The interpretation of a response.
    """

    def test_good(self) -> None:
        """
        A response has samples, their total number and the interval.
        """
        sample = sample_in(CONTACTS[0], response(samples=b"a" * 20 + b"b" * 20, num=7, interval=60))
        self.assertEqual(sample, InfohashSample(CONTACTS[0], (b"a" * 20, b"b" * 20), 7, 60.0))

    def test_none(self) -> None:
        """
        A response without well-formed samples is ignored.
        """
        refused: list[dict[str, Any]] = [{}, {"samples": 5}, {"samples": b"short"}, {"samples": []}]
        for values in refused:
            self.assertIsNone(sample_in(CONTACTS[0], response(**values)))

    def test_bounded(self) -> None:
        """
        Missing and out-of-range numbers are replaced by valid ones.
        """
        for num in (-1, b"x", None, 10**18):
            for interval in (-5, b"x", None, 10**18):
                values = {"samples": b"h" * 2000, "num": num, "interval": interval}
                sample = sample_in(CONTACTS[0], response(**values))
                assert sample is not None
                self.assertEqual(len(sample.info_hashes), MAX_SAMPLES)
                self.assertGreaterEqual(sample.total, MAX_SAMPLES)
                self.assertTrue(0 <= sample.interval <= MAX_INTERVAL)


class SamplerTests(SynchronousTestCase):
    """
    Which nodes are queried when.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: dict[Contact, Deferred[Response]] = {}
        self.slow: dict[Contact, Callable[[], None]] = {}
        self.reported: list[InfohashSample] = []
        self.sampler = Sampler(self.ask, self.clock.seconds)

    def ask(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]:
        self.assertEqual(method, b"sample_infohashes")
        self.asked[contact] = Deferred()
        self.slow[contact] = on_slow
        return self.asked[contact]

    def test_answers(self) -> None:
        """
        Sampling ends when each node has answered, refused, failed or is slow; a late
        answer still sets the interval.
        """
        done = self.sampler.sample(CONTACTS, self.reported.append)
        self.asked[CONTACTS[2]].callback(response(samples=b"a" * 20, num=1, interval=100))
        self.asked[CONTACTS[0]].callback(response(samples=b"", num=0, interval=10))
        self.slow[CONTACTS[1]]()
        self.assertNoResult(done)
        self.asked[CONTACTS[3]].errback(QueryRefused(204, "unknown"))
        self.assertEqual([s.contact for s in self.successResultOf(done)], [CONTACTS[0], CONTACTS[2]])
        self.assertEqual([s.contact for s in self.reported], [CONTACTS[2], CONTACTS[0]])
        self.asked[CONTACTS[1]].callback(response(samples=b"", num=0, interval=1000))
        self.assertEqual(len(self.reported), 2)
        for now, expected in ((5.0, [3]), (20.0, [0, 3]), (99.0, [0, 3]), (101.0, [0, 2, 3])):
            self.clock.rightNow = now
            self.asked.clear()
            self.sampler.sample(CONTACTS, self.reported.append).addErrback(lambda _: None)
            self.assertEqual(list(self.asked), [CONTACTS[number] for number in expected])

    def test_no_nodes(self) -> None:
        """
        Without nodes to query the result is empty.
        """
        self.assertEqual(self.successResultOf(self.sampler.sample([], self.reported.append)), ())

    def test_all_fail(self) -> None:
        """
        If no node answers, the result is empty.
        """
        done = self.sampler.sample(CONTACTS, self.reported.append)
        for query in self.asked.values():
            query.errback(QueryTimeout("no reply"))
        self.assertEqual(self.successResultOf(done), ())

    def test_cancel(self) -> None:
        """
        Cancelling cancels all queries.
        """
        done = self.sampler.sample(CONTACTS, self.reported.append)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        for query in self.asked.values():
            self.assertTrue(query.called)
