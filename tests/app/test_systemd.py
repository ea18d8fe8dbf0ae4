"""
Tests for L{dtt.app.systemd}.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.app import systemd
from dtt.app.systemd import Notifier, NotifyService, inherited_udp, started_with


class NotifierTests(SynchronousTestCase):
    """
    Tests for L{Notifier} and L{NotifyService}.
    """

    def setUp(self) -> None:
        """Play the service manager."""
        self.path = self.mktemp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(self.path)
        self.manager.setblocking(False)
        self.path = os.path.abspath(self.path)

    def heard(self) -> list[str]:
        """What was said since the last call."""
        found = []
        while True:
            try:
                found.append(self.manager.recv(1000).decode())
            except BlockingIOError:
                return found

    def test_lifecycle(self) -> None:
        """A service says that it is ready, that it lives in half of the time, and that it stops."""
        clock = Clock()
        environ = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}
        service = NotifyService(clock, Notifier(environ))
        self.assertEqual(self.heard(), [])
        service.startService()
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1"])
        clock.advance(9)
        self.assertEqual(self.heard(), [])
        clock.advance(2)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        service.stopService()
        self.assertEqual(self.heard(), ["STOPPING=1"])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_no_watchdog(self) -> None:
        """Without a watchdog, or with that of another process, nothing is repeated."""
        for more in ({}, {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}):
            clock = Clock()
            NotifyService(clock, Notifier({"NOTIFY_SOCKET": self.path, **more})).startService()
            self.assertEqual(self.heard(), ["READY=1"])
            self.assertEqual(clock.getDelayedCalls(), [])

    def test_reloading(self) -> None:
        """A reload says when it began, by the clock that systemd uses."""
        Notifier({"NOTIFY_SOCKET": self.path}).reloading()
        [said] = self.heard()
        self.assertRegex(said, r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")

    def test_nobody(self) -> None:
        """Without a service manager, or with one that has gone, nothing happens."""
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "x"}, {"NOTIFY_SOCKET": "/nonexistent"}):
            Notifier(environ).say("READY=1")

    def test_abstract(self) -> None:
        """An abstract socket is addressed by a name that begins with @."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0dtt-test-{os.getpid()}")
            Notifier({"NOTIFY_SOCKET": f"@dtt-test-{os.getpid()}"}).say("READY=1")
            self.assertEqual(manager.recv(100), b"READY=1")


class InheritedTests(SynchronousTestCase):
    """
    Tests for L{inherited_udp}.
    """

    def inherit(self, *sockets: socket.socket) -> dict[int, int]:
        """Call it as if the sockets were inherited."""
        first = min((each.fileno() for each in sockets), default=3)
        self.patch(systemd, "FIRST_DESCRIPTOR", first)
        return inherited_udp({"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(os.getpid())})

    def test_none(self) -> None:
        """Without sockets, and with those of another process, there are none."""
        self.assertEqual(inherited_udp({}), {})
        self.assertEqual(inherited_udp({"LISTEN_FDS": "1", "LISTEN_PID": "1"}), {})
        self.assertEqual(inherited_udp({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}), {})

    def test_udp(self) -> None:
        """UDP sockets are found by their family; others are left alone."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
            self.assertEqual(self.inherit(four), {socket.AF_INET: four.fileno()})
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
            self.assertEqual(self.inherit(six), {socket.AF_INET6: six.fileno()})
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            self.assertEqual(self.inherit(tcp), {})

    def test_started_with(self) -> None:
        """The environment is the one of the start, whatever was removed since then."""
        name = next(name for name in started_with() if name in os.environ)
        environ = {key: value for key, value in os.environ.items() if key != name}
        self.patch(os, "environ", environ)
        self.assertIn(name, started_with())
