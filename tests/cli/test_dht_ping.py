"""
Tests for L{dtt.cli.dht_ping}.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.python import usage

from dtt.cli.dht_ping import PingOptions, resolve
from dtt.errors import LocalError, UsageError
from tests.cli.common import FIRST, Answering, DHTTestCase, made


class PingTests(DHTTestCase):
    """
    Tests for C{dtt dht ping}.
    """

    def ping(self, *arguments: str) -> int:
        """Ping a node."""
        code: int = self.result(made(PingOptions(), *arguments)._ping(self.reactor))
        return code

    def test_answer(self) -> None:
        """A node that answers is shown with its id, and how it sees us."""
        self.assertEqual(self.ping(f"{FIRST}:6881", "--json"), 0)
        (line,) = self.printed()
        answer = json.loads(line)
        self.assertEqual((answer["answered"], answer["id"]), (True, self.nodes[0].node_id.hex()))
        self.assertTrue(answer["seen_as"].startswith("10.1.1.1:"))
        self.assertEqual(self.ping(f"{FIRST}:6881", "-c", "3"), 0)
        self.assertEqual(len(self.printed()), 3)

    def test_silence(self) -> None:
        """A node that is not there is an error."""
        self.assertEqual(self.ping("10.0.0.77:1"), 1)
        self.assertEqual(self.printed(), ["10.0.0.77:1 does not answer"])

    def test_name(self) -> None:
        """A name is resolved; one without an address is an error."""
        self.network.udp.names["router.example"] = [FIRST]
        self.assertEqual(self.ping("router.example:6881"), 0)
        options = made(PingOptions(), "nowhere.example:1")
        self.assertIn("no address", self.failure(options._ping(self.reactor), LocalError))

    def test_cancelled(self) -> None:
        """Ctrl-C closes the port."""
        running = Deferred.fromCoroutine(made(PingOptions(), "10.0.0.77:1")._ping(self.reactor))
        before = self.network.listening()
        running.cancel()
        self.network.advance(1)
        self.failureResultOf(running)
        self.assertLess(len(self.network.listening()), len(before))

    def test_refused(self) -> None:
        """An error is shown without control characters; the exit code is 1."""
        self.ports.append(self.network.reactor("10.9.9.9").listenUDP(1, Answering((203, "no\x1b[2J"))))
        self.assertEqual(self.ping("10.9.9.9:1"), 1)
        self.assertEqual(self.printed(), ["10.9.9.9:1 refuses: 203 no\ufffd[2J"])
        self.assertEqual(self.ping("10.9.9.9:1", "--json"), 1)
        self.assertEqual(
            json.loads(self.printed()[0]), {"address": "10.9.9.9:1", "answered": True, "error": 203}
        )

    def test_some_missing(self) -> None:
        """If one of several answers is missing, the exit code is 1; the pings are a second apart."""
        running = Deferred.fromCoroutine(
            made(PingOptions(), f"{FIRST}:6881", "-c", "3", "-t", "2")._ping(self.reactor)
        )
        self.network.advance(0.9)
        self.assertEqual(len(self.printed()), 1)
        self.network.unplug(FIRST)
        self.network.advance(2.5)
        self.network.plug(FIRST)
        self.network.advance(5)
        self.assertEqual(self.successResultOf(running), 1)
        silent, answered = self.printed()
        self.assertEqual(silent, f"{FIRST}:6881 does not answer")
        self.assertIn(" ms, id ", answered)

    def test_text(self) -> None:
        """The text has the round trip, the id, the software and our address."""
        self.assertEqual(self.ping(f"{FIRST}:6881"), 0)
        self.assertRegex(
            self.printed()[0],
            rf"^10\.0\.0\.1:6881: \d+ ms, id {self.nodes[0].node_id.hex()}, software DT \d+\.\d+, "
            r"sees us at 10\.1\.1\.1:\d+$",
        )

    def test_wrong(self) -> None:
        """Nothing can be sent to port 0, and there is exactly one node."""
        for words in ([], ["10.0.0.1:0"], ["10.0.0.1"], ["a:1", "b:1"]):
            self.assertRaises((usage.UsageError, UsageError), made, PingOptions(), *words)


class ResolveTests(DHTTestCase):
    """
    Tests for L{resolve}.
    """

    def test_literals(self) -> None:
        """IP addresses are not looked up, and are returned in their usual form."""
        for text, host in (("10.1.2.3", "10.1.2.3"), ("2001:DB8:0::1", "2001:db8::1")):
            self.assertEqual(self.result(resolve(self.reactor, text, 5)), [host])

    def test_names(self) -> None:
        """The addresses of a name are distinct, IPv4 first."""
        self.network.udp.names["a.example"] = ["2001:db8::1", "10.1.1.2", "2001:db8::1", "10.1.1.1"]
        self.assertEqual(
            self.result(resolve(self.reactor, "a.example", 5)), ["10.1.1.2", "10.1.1.1", "2001:db8::1"]
        )

    def test_silent_name_servers(self) -> None:
        """Name servers that do not answer are an error after the timeout, not before."""
        self.network.udp.names["slow.example"] = None
        resolving = Deferred.fromCoroutine(resolve(self.reactor, "slow.example", 5))
        self.network.advance(4.9)
        self.assertNoResult(resolving)
        self.network.advance(0.2)
        self.assertIn(
            "did not answer for slow.example within 5 s",
            str(self.failureResultOf(resolving, LocalError).value),
        )
