"""
Searches the local network for hosts that run dtt.

Rules (docs/protocol/local-network.md section 2): a search is sent at the start, when the
network of this machine has changed, and every 5 minutes.  It reveals nothing about topics. Searches of others
are answered, a few for each host; our own are ignored.  Only a host that repeats the cookie of one of our
searches, which are sent to the local network only, counts as local.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from dtt.discovery.lan_messages import GROUP4, GROUP6, PORT, LocalMessage, decode, encode
from dtt.errors import DecodeError
from dtt.net.allowances import Allowances
from dtt.net.host_port import HostPort
from dtt.net.multicast import MulticastSocket, open_multicast
from dtt.net.networks import Scope, scope

#: Seconds between two searches.
INTERVAL: Final = 300.0

#: Seconds after the start of a second search: the first may be lost (guess).
AGAIN_AFTER: Final = 2.0

#: Searches whose answers are taken (guess: those of the last minutes).
MAX_COOKIES: Final = 4
COOKIE_BYTES: Final = 8

#: Hosts that are remembered, and for how many seconds after their last answer.
MAX_HOSTS: Final = 64
HOST_FOR: Final = 2 * INTERVAL + 60

#: Answers to one host, and to all, as (times in a row, seconds until once more).  Guesses.
_ANSWERS = (4, 5.0)
_ALL_ANSWERS = (32, 0.5)


class LocalSearch(Service):
    """
    The search of one process, for all topics.

    @ivar counters: C{searches}, C{answers}, C{found}, and dropped datagrams by reason.
    """

    def __init__(
        self, reactor: Any, rng: Random, ports: Callable[[], dict[bool, int]], interface: str = ""
    ) -> None:
        """
        @param reactor: see L{open_multicast<dtt.net.multicast.open_multicast>}.
        @param rng: draws cookies.
        @param ports: returns the ports of our DHT node, by whether it is for IPv6.
        @param interface: ignored if empty; else an IP literal that the DHT is bound to:
            only the group of its family is used.
        """
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._rng = rng
        self._ports = ports
        self._interface = interface
        self._sockets: dict[str, MulticastSocket] = {}
        self._cookies: deque[bytes] = deque(maxlen=MAX_COOKIES)
        self._allowed = Allowances(*_ANSWERS)
        self._all_allowed = Allowances(*_ALL_ANSWERS)
        # When each host has answered, the latest last.
        self._hosts: OrderedDict[HostPort, float] = OrderedDict()
        self._observers: dict[Callable[[HostPort], object], None] = {}
        self._loop = LoopingCall(self.search)
        self._loop.clock = reactor
        self._again: Any = None

    def startService(self) -> None:
        """
        Join the groups, and search.
        """
        super().startService()
        for group in (GROUP4, GROUP6):
            if self._interface and (":" in self._interface) != (":" in group):
                continue
            opened = open_multicast(self._reactor, group, PORT, self._searched(group), self._answered)
            if opened is not None:
                self._sockets[group] = opened
        if self._sockets:
            self._loop.start(INTERVAL)
            self._again = self._reactor.callLater(AGAIN_AFTER, self.search)

    def stopService(self) -> Deferred[None]:
        """
        Leave the groups.

        @return: fires when the sockets are closed.
        """
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._again is not None and self._again.active():
            self._again.cancel()
        sockets, self._sockets = self._sockets, {}
        return gatherResults([each.close() for each in sockets.values()]).addCallback(lambda _: None)

    def search(self) -> None:
        """
        Send a search.
        """
        if not self._sockets:
            return
        cookie = self._rng.randbytes(COOKIE_BYTES).hex().encode("ascii")
        self._cookies.append(cookie)
        self.counters["searches"] += 1
        for group, opened in self._sockets.items():
            port = self._ports().get(":" in group)
            if port is not None:
                opened.search(encode(LocalMessage(False, port, cookie), group))

    def hosts(self) -> list[HostPort]:
        """
        Return the hosts that have answered recently, and the UDP ports of their DHT nodes, the latest first.
        """
        now = self._reactor.seconds()
        return [each for each, at in reversed(self._hosts.items()) if now - at < HOST_FOR]

    def is_here(self, host: str) -> bool:
        """
        Return whether a host in the local network has answered recently.

        @param host: an IP literal.
        """
        return any(each == host for each, _ in self.hosts())

    def add_observer(self, observer: Callable[[HostPort], object]) -> Callable[[], None]:
        """
        Call C{observer} with the address of the DHT node of each host that answers.

        @return: a function that ends this.
        """
        self._observers[observer] = None
        return lambda: self._observers.pop(observer, None)

    def _searched(self, group: str) -> Callable[[bytes, str, int], None]:
        def searched(data: bytes, host: str, port: int) -> None:
            message = self._decoded(data, host)
            if message is None or message.is_answer or message.cookie in self._cookies:
                return
            now, ours = self._reactor.seconds(), self._ports().get(":" in group)
            opened = self._sockets.get(group)
            if ours is None or opened is None:
                return
            if not self._allowed.take(host.encode("ascii"), now) or not self._all_allowed.take(b"", now):
                self.counters["answers_limited"] += 1
                return
            self.counters["answers"] += 1
            opened.answer(encode(LocalMessage(True, ours, message.cookie), group), host, port)

        return searched

    def _answered(self, data: bytes, host: str, port: int) -> None:
        message = self._decoded(data, host)
        if message is None or not message.is_answer:
            return
        if message.cookie not in self._cookies:
            self.counters["dropped_cookie"] += 1
            return
        found = (host, message.port)
        self.counters["found"] += 1
        self._hosts[found] = self._reactor.seconds()
        self._hosts.move_to_end(found)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        for observer in tuple(self._observers):
            observer(found)

    def _decoded(self, data: bytes, host: str) -> LocalMessage | None:
        # The DHT node can't send to a link-local address of IPv6: it has no zone.
        if scope(host) in (Scope.NEVER, Scope.LINK_LOCAL) and ":" in host:
            return None
        try:
            return decode(data)
        except DecodeError:
            self.counters["dropped_malformed"] += 1
            return None
