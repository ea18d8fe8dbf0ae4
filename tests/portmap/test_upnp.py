"""
Tests for L{dtt.portmap.upnp}, with a simulation of the library.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.portmap import upnp
from dtt.portmap.mapper import Mapping
from dtt.portmap.upnp import UPnP
from dtt.portmap.wire import Transport


class Library:
    """
    C{miniupnpc.UPnP} and its router.
    """

    routers = 1
    taken: tuple[int, ...] = ()
    broken = False
    calls: list[Any]
    discovered = 0
    lanaddr = "192.168.1.2"

    def discover(self) -> int:
        """Find routers."""
        type(self).discovered += 1
        if self.broken:
            raise Exception("no such device")
        return self.routers

    def selectigd(self) -> str:
        """Choose one."""
        return "http://192.168.1.1/"

    def externalipaddress(self) -> str:
        """The address outside."""
        return "203.0.113.7"

    def addportmapping(self, external: int, *rest: Any) -> bool:
        """Map a port."""
        if external in self.taken:
            raise Exception("ConflictInMappingEntry")
        self.calls.append(("add", external, *rest))
        return True

    def deleteportmapping(self, external: int, protocol: str) -> bool:
        """Remove a mapping."""
        self.calls.append(("delete", external, protocol))
        return True


class Reactor:
    """
    Keeps the calls from threads until the test asks for them.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Keep a call."""
        self.calls.append(lambda: function(*arguments))

    def wait(self) -> None:
        """Do the only call."""
        self.calls.pop()()


class Thread:
    """
    A thread whose work is done when it starts.
    """

    def __init__(self, target: Callable[[], None], **settings: Any) -> None:
        self.start = target
        assert settings["daemon"]


class UPnPTests(SynchronousTestCase):
    """
    Tests for L{UPnP}.
    """

    def setUp(self) -> None:
        """Install the library."""
        self.library: Any = type("Library", (Library,), {"calls": []})
        module: Any = ModuleType("miniupnpc")
        module.UPnP = self.library
        self.patch(sys, "modules", {**sys.modules, "miniupnpc": module})
        self.patch(upnp, "threading", SimpleNamespace(Thread=Thread, Lock=threading.Lock))
        self.reactor = Reactor()
        self.upnp = UPnP(cast(Any, self.reactor))

    def map(self) -> Deferred[Mapping | None]:
        """Map a port."""
        mapping = self.upnp.map(Transport.UDP, 7000, 3600)
        self.assertNoResult(mapping)
        self.reactor.wait()
        return mapping

    def test_map(self) -> None:
        """A port is mapped, and removed at the same router, which is not searched again."""
        mapping = self.successResultOf(self.map())
        self.assertEqual(mapping, Mapping(Transport.UDP, 7000, "203.0.113.7", 7000, "UPnP", 3600))
        assert mapping is not None
        removing = self.upnp.unmap(mapping)
        self.reactor.wait()
        self.successResultOf(removing)
        self.assertEqual(
            self.library.calls,
            [("add", 7000, "UDP", "192.168.1.2", 7000, "dtt", "", 3600), ("delete", 7000, "UDP")],
        )
        self.assertEqual(self.library.discovered, 1)

    def test_taken(self) -> None:
        """If another machine has the port, another one is mapped."""
        self.library.taken = (7000,)
        mapping = self.successResultOf(self.map())
        assert mapping is not None
        self.assertNotEqual(mapping.external, 7000)
        self.assertEqual((mapping.port, self.library.calls[0][1]), (7000, mapping.external))

    def test_outside(self) -> None:
        """An address outside that is none is not believed; without an answer, nothing is mapped."""
        for outside in ("", "router.lan", None):
            self.library.externalipaddress = lambda _, outside=outside: outside
            mapping = self.successResultOf(self.map())
            assert mapping is not None
            self.assertIsNone(mapping.host)
            self.assertFalse(mapping.is_public)
        self.library.calls.clear()
        nothing: dict[str, str] = {}
        self.library.externalipaddress = lambda _: nothing["answer"]
        self.assertIsNone(self.successResultOf(self.map()))
        self.assertEqual(self.library.calls, [])

    def test_none(self) -> None:
        """Without a router, and if the library fails, nothing is mapped."""
        self.library.routers = 0
        self.assertIsNone(self.successResultOf(self.map()))
        self.library.broken = True
        self.assertIsNone(self.successResultOf(self.map()))

    def test_unmap_without_router(self) -> None:
        """Without a router there is nothing to remove."""
        removing = self.upnp.unmap(Mapping(Transport.UDP, 7000, "203.0.113.7", 7000, "UPnP", 3600))
        self.reactor.wait()
        self.successResultOf(removing)
        self.assertEqual(self.library.calls, [])

    def test_cancelled(self) -> None:
        """A result that comes after it was cancelled is dropped."""
        mapping = self.upnp.map(Transport.UDP, 7000, 3600)
        mapping.cancel()
        self.failureResultOf(mapping)
        self.reactor.wait()

    def test_installed(self) -> None:
        """It is known whether the package is there."""
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertFalse(upnp.is_installed())
        self.patch(importlib.util, "find_spec", lambda name: object())
        self.assertTrue(upnp.is_installed())
