"""
How a node finds its first nodes.

Rules: nodes of one address family are looked for; all bootstrap hosts, whose
names are resolved without waiting for each other, and nodes known from the
last run are asked side by side, so that dead and unresolvable ones delay
nothing; rounds are repeated with a growing pause for as long as nobody has
answered.
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

from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4, Family

#: Seconds from the first round to the second, doubled each time up to the
#: second number.  Guesses: a lost datagram costs a second, an hour without a
#: network 70 rounds.
FIRST_PAUSE: Final = 1.0
MAX_PAUSE: Final = 60.0

#: Known nodes asked in one round, and addresses of one name.  Guesses: one of
#: 32 should live even after a week.
KNOWN_PER_ROUND: Final = 32
MAX_ADDRESSES: Final = 8


@implementer(IResolutionReceiver)
class _Receiver:
    """
    @ivar cancelled: the resolution was given up.
    """

    def __init__(
        self,
        kind: type[IPv4Address | IPv6Address],
        found: Callable[[str], None],
        nothing: Callable[[], None],
    ) -> None:
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
    @ivar hosts: names or IP literals, and ports.
    @ivar running: whether rounds go on.
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
        @param ask: sends a query to an IP address and port; told whether that
            is a bootstrap host, or a known node.
        @param family: of whom to ask.
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
        self._next: IDelayedCall | None = None
        self._receivers: list[_Receiver] = []
        self._told: set[str] = set()

    def start(self, known: Sequence[Contact]) -> None:
        """
        Begin the first round, if none is running.

        @param known: nodes that were good once, the best first.
        """
        if not self.running:
            self.running = True
            self._known = list(known)
            self._pause = FIRST_PAUSE
            self._round()

    def stop(self) -> None:
        """
        Somebody has answered, or nobody is interested any more.  Resolutions
        that can't be cancelled end without effect.
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
                except NotImplementedError:  # Twisted's resolver of threads
                    receiver.cancelled = False

    def _round(self) -> None:
        self._receivers = [receiver for receiver in self._receivers if receiver.resolution is not None]
        batch, rest = self._known[:KNOWN_PER_ROUND], self._known[KNOWN_PER_ROUND:]
        self._known = rest + batch
        pause = self._pause * self._rng.uniform(0.75, 1.25)
        self._pause = min(2 * self._pause, MAX_PAUSE)
        self._next = self._reactor.callLater(pause, self._round)  # type: ignore[attr-defined]
        for host, port in self.hosts:
            self.ask(host, port)
        for contact in batch:
            self._ask(contact.host, contact.port, False)

    def ask(self, host: str, port: int) -> None:
        """
        Ask one host now; not a literal of the other family.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            self._resolve(host, port)
        else:
            # As the socket will write it.
            if self._family.has(str(address)):
                self._ask(str(address), port, True)

    def _resolve(self, name: str, port: int) -> None:
        def found(host: str) -> None:
            if receiver in self._receivers:
                self._ask(host, port, True)

        receiver = _Receiver(self._kind, found, lambda: self._unresolvable(name))
        self._receivers.append(receiver)
        self._reactor.nameResolver.resolveHostName(  # type: ignore[attr-defined]
            receiver, name, port, [self._kind], "UDP"
        )

    def _unresolvable(self, name: str) -> None:
        """
        Say so, once.  That a name has no IPv6 address is nothing to be told.
        """
        if self._family is IPV4 and name not in self._told:
            self._told.add(name)
            self._log.warn(
                "The bootstrap host {name} has no address: check how it is written and this machine's name "
                "resolution. The others are asked all the same.",
                name=name,
            )
