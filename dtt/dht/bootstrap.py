"""
Bootstrapping: how a node finds its first nodes.

Rules: each instance looks for nodes of one address family. It queries the nodes known
from the last run, and at the same time all bootstrap hosts, resolving their names in
parallel, so dead or unresolvable ones cause no delay.  Rounds repeat at growing
intervals until a node has answered.  The intervals keep growing, over all starts, until a search among the
named nodes has succeeded: hosts that name only nodes that do not exist get one round a minute.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IHostResolution, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from dtt.config import PUBLIC_BOOTSTRAP
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, Family

#: Seconds from the first round to the second; doubled each time up to the second
#: number. Guesses: a lost datagram costs a second, and an hour without a network 70
#: rounds.
FIRST_PAUSE: Final = 1.0
MAX_PAUSE: Final = 60.0

#: The most known nodes queried in one round, and the most addresses used of one name.
#: Guesses: one of 32 should be alive even after a week.
KNOWN_PER_ROUND: Final = 32
MAX_ADDRESSES: Final = 8


_PUBLIC: Final = frozenset(name for name, _ in PUBLIC_BOOTSTRAP)


@implementer(IResolutionReceiver)
class _Receiver:
    """
    Collects the addresses of one name.

    @ivar name: the name.
    @ivar port: the port to query at its addresses.
    @ivar cancelled: the resolution was cancelled.
    """

    def __init__(
        self,
        name: str,
        port: int,
        kind: type[IPv4Address | IPv6Address],
        found: Callable[[str], None],
        nothing: Callable[[], None],
    ) -> None:
        self.name = name
        self.port = port
        self._kind = kind
        self._found = found
        self._nothing = nothing
        self._left = MAX_ADDRESSES
        self.cancelled = False
        self.resolution: IHostResolution | None = None

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self.resolution = resolution

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv4Address | IPv6Address) and type(address) is self._kind and self._left:
            self._left -= 1
            self._found(address.host)

    def resolutionComplete(self) -> None:
        self.resolution = None
        if self._left == MAX_ADDRESSES and not self.cancelled:
            self._nothing()


class Bootstrap:
    """
    Queries bootstrap hosts and known nodes until it is stopped.

    @ivar hosts: (name or IP literal, port) pairs.
    @ivar running: whether rounds continue.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: object,
        hosts: Sequence[tuple[str, int]],
        ask: Callable[[str, int, bool], None],
        rng: Random,
        family: Family = IPV4,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime} and, if a host is a name,
            C{IReactorPluggableNameResolver}.
        @param hosts: the initial L{hosts}.
        @param ask: sends a query to an IP address and port; the third argument says
            whether it is a bootstrap host rather than a known node.
        @param rng: the source of the jitter.
        @param family: the address family to use.
        """
        self.hosts = list(hosts)
        self.running = False
        self._reactor = reactor
        self._ask = ask
        self._rng = rng
        self._family = family
        self._kind = IPv4Address if family is IPV4 else IPv6Address
        self._known: list[Contact] = []
        self._pause = FIRST_PAUSE
        # No round before this time.
        self._not_before = 0.0
        self._next: IDelayedCall | None = None
        self._receivers: list[_Receiver] = []
        self._warned: set[str] = set()

    def start(self, known: Sequence[Contact]) -> None:
        """
        Begin the first round, unless already running; later if the last round failed and the interval to the
        next one has not passed.

        @param known: nodes that were good in the past, the best first.
        """
        if self.running:
            return
        self.running = True
        self._known = list(known)
        wait = self._not_before - self._reactor.seconds()  # type: ignore[attr-defined]
        if wait > 0:
            self._next = self._reactor.callLater(wait, self._round)  # type: ignore[attr-defined]
        else:
            self._round()

    def succeeded(self) -> None:
        """
        Return to short intervals: the nodes that were named exist.
        """
        self._pause = FIRST_PAUSE
        self._not_before = 0.0

    def stop(self) -> None:
        """
        Stop: a node has answered, or the caller has lost interest. Name resolutions
        that can't be cancelled have no effect.
        """
        self.running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        receivers, self._receivers = self._receivers, []
        for receiver in receivers:
            if receiver.resolution is not None:
                receiver.cancelled = True
                try:
                    receiver.resolution.cancel()
                except NotImplementedError:  # Twisted's threaded resolver
                    receiver.cancelled = False

    def _round(self) -> None:
        self._receivers = [receiver for receiver in self._receivers if receiver.resolution is not None]
        batch, rest = self._known[:KNOWN_PER_ROUND], self._known[KNOWN_PER_ROUND:]
        self._known = rest + batch
        pause = self._pause * self._rng.uniform(0.75, 1.25)
        self._pause = min(2 * self._pause, MAX_PAUSE)
        self._not_before = self._reactor.seconds() + pause  # type: ignore[attr-defined]
        self._next = self._reactor.callLater(pause, self._round)  # type: ignore[attr-defined]
        for contact in batch:
            self._ask(contact.host, contact.port, False)
        for host, port in list(self.hosts):
            self.ask(host, port)

    def ask(self, host: str, port: int) -> None:
        """
        Query one host now, unless it is an IP literal of the other family.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            self._resolve(host, port)
        else:
            # As the socket will format it.
            if self._family.has(str(address)):
                self._ask(str(address), port, True)

    def _resolve(self, name: str, port: int) -> None:
        """
        Resolve C{name} and query its addresses, unless an earlier round still waits
        for that: name servers that don't answer take longer than a round.
        """
        if any(each.name == name and each.port == port for each in self._receivers if each.resolution):
            return

        def found(host: str) -> None:
            if receiver in self._receivers:
                self._ask(host, port, True)

        receiver = _Receiver(name, port, self._kind, found, lambda: self._unresolvable(name))
        self._receivers.append(receiver)
        self._reactor.nameResolver.resolveHostName(  # type: ignore[attr-defined]
            receiver, name, port, [self._kind], "UDP"
        )

    def _unresolvable(self, name: str) -> None:
        """
        Log a warning, once per name. A name without an IPv6 address is not worth one, nor
        a public host: of these there are enough, and not all have an IPv4 address.
        """
        if self._family is IPV4 and name not in self._warned and name not in _PUBLIC:
            self._warned.add(name)
            self._log.warn(
                "The bootstrap host {name} has no address; continuing with the others. "
                "Check its spelling and this machine's name resolution.",
                name=name,
            )
