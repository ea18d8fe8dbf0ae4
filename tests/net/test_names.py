"""
Tests for L{dtt.net.names}.
"""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

from twisted.internet._resolver import GAIResolver
from twisted.trial.unittest import SynchronousTestCase

from dtt.net import names
from dtt.net.names import MAX_THREADS, DaemonThreads, get_addresses, resolve_abandonably


class GetAddressesTests(SynchronousTestCase):
    """
    Tests for L{get_addresses}.
    """

    def test_unusable_names(self) -> None:
        """Whatever is wrong with a name, it is an error of resolution, which the resolver handles."""
        for name in ("a" * 64 + ".example", "a\0b", "\udcff", ".", "a..b"):
            self.assertRaises(socket.gaierror, get_addresses, name, 1)

    def test_literal(self) -> None:
        """An address is itself."""
        (found,) = get_addresses("192.0.2.1", 5, socket.AF_INET, socket.SOCK_DGRAM)
        self.assertEqual(found[4], ("192.0.2.1", 5))


class DaemonThreadsTests(SynchronousTestCase):
    """
    Tests for L{DaemonThreads}.
    """

    def setUp(self) -> None:
        """Collect results."""
        self.threads = DaemonThreads()
        self.results: list[tuple[bool, Any]] = []
        self.go = threading.Event()
        self.addCleanup(self.go.set)
        self.arrived = threading.Semaphore(0)
        self.daemons: set[bool] = set()

    def result(self, succeeded: bool, result: Any) -> None:
        """Take a result."""
        self.results.append((succeeded, result))
        self.arrived.release()

    def wait(self, count: int) -> None:
        """Wait for results."""
        for _ in range(count):
            self.assertTrue(self.arrived.acquire(timeout=30))

    def slow(self, number: int) -> int:
        """Return C{number} when told to."""
        self.daemons.add(threading.current_thread().daemon)
        self.go.wait(30)
        return number

    def test_waiting(self) -> None:
        """No more than the maximum run at once; further ones wait. No thread delays the exit."""
        total = MAX_THREADS + 5
        before = threading.active_count()
        for number in range(total):
            self.threads.callInThreadWithCallback(self.result, self.slow, number)
        self.assertLessEqual(threading.active_count() - before, MAX_THREADS)
        self.go.set()
        self.wait(total)
        self.assertEqual(sorted(self.results), [(True, number) for number in range(total)])
        self.assertEqual(self.daemons, {True})

    def test_too_many(self) -> None:
        """Beyond the limit of those that wait, a name fails at once."""
        self.patch(names, "MAX_THREADS", 1)
        self.patch(names, "MAX_WAITING", 1)
        for number in range(3):
            self.threads.callInThreadWithCallback(self.result, self.slow, number)
        ((succeeded, failure),) = self.results
        self.assertFalse(succeeded)
        self.assertTrue(failure.check(socket.gaierror))
        self.go.set()
        self.wait(3)
        self.assertEqual(self.results[1:], [(True, 0), (True, 1)])

    def test_failure(self) -> None:
        """An exception is reported as a failure; one of the callback, whose reactor has ended, is dropped."""

        def fail() -> None:
            raise socket.gaierror

        def ended(succeeded: bool, result: Any) -> None:
            self.arrived.release()
            raise RuntimeError("Event loop is closed")

        problems: list[Any] = []
        self.patch(threading, "excepthook", problems.append)
        self.threads.callInThreadWithCallback(self.result, fail)
        self.wait(1)
        self.assertTrue(self.results[0][1].check(socket.gaierror))
        self.threads.callInThreadWithCallback(ended, fail)
        self.wait(1)
        self.threads.callInThreadWithCallback(self.result, fail)
        self.wait(1)
        self.assertEqual(problems, [])

    def test_no_more_threads(self) -> None:
        """If the system has no more threads, the name fails, and nothing else does."""

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", start)
        for _ in range(MAX_THREADS + 1):
            self.threads.callInThreadWithCallback(self.result, self.slow, 1)
        self.assertEqual([succeeded for succeeded, _ in self.results], [False] * (MAX_THREADS + 1))


class InstallTests(SynchronousTestCase):
    """
    Tests for L{resolve_abandonably}.
    """

    def test_default(self) -> None:
        """Twisted's default resolver is replaced, once; any other stays."""
        reactor: Any = SimpleNamespace(nameResolver=None)

        def install(resolver: Any) -> None:
            reactor.nameResolver = resolver

        reactor.installNameResolver = install
        reactor.nameResolver = default = GAIResolver(reactor, lambda: None)  # type: ignore[arg-type,return-value]
        resolve_abandonably(reactor)
        ours = reactor.nameResolver
        self.assertIsNot(ours, default)
        resolve_abandonably(reactor)
        self.assertIs(reactor.nameResolver, ours)
        reactor.nameResolver = other = object()
        resolve_abandonably(reactor)
        self.assertIs(reactor.nameResolver, other)

    def test_without(self) -> None:
        """A reactor without name resolution is left alone."""
        resolve_abandonably(object())
