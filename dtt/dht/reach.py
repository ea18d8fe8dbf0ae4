"""
Decides to which addresses a node sends. Pure.

Rules: other nodes name addresses, and ours sends datagrams there. Without limits anybody
could make it probe our own machine and our private network.

  - Nothing is sent to an address of no scope
    (L{Scope.NEVER<dtt.net.networks.Scope.NEVER>}): unspecified, multicast, reserved.
  - Global addresses are always allowed.
  - Addresses of another scope (loopback, link-local, private) are allowed only if our
    network is there: it is closed, or it was given to us with a bootstrap host of this
    scope, or the node is the first of a network and bound to such an address.
  - Even then a node can name them only if its own address has the same scope, except
    in a closed network: in mixed networks, strangers name no local addresses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dtt.net.networks import Scope, scope

_LOCAL: Final = frozenset((Scope.LOOPBACK, Scope.LINK_LOCAL, Scope.PRIVATE))
_ONLY_GLOBAL: Final = frozenset((Scope.GLOBAL,))


class Reach:
    """
    The scopes of the addresses to which a node sends, in all families.

    @ivar scopes: these scopes.
    """

    __slots__ = ("_closed", "_is_first", "scopes")

    def __init__(self, closed: bool, bootstrap: Iterable[str]) -> None:
        """
        @param closed: the network is closed: every scope is allowed.
        @param bootstrap: the bootstrap hosts, names or IP literals.
        """
        hosts = list(bootstrap)
        self._closed = closed
        self._is_first = not hosts
        self.scopes = _ONLY_GLOBAL | (_LOCAL if closed else frozenset())
        for host in hosts:
            self.include(host)

    def include(self, host: str) -> None:
        """
        Allow the scope of a bootstrap host.

        @param host: an IP literal; a name has no effect until it is resolved.
        """
        self.scopes |= {scope(host)} & _LOCAL

    def bound(self, host: str) -> None:
        """
        Allow the scope of the address that our socket is bound to, if we are the
        first node of a network, or if it is loopback: such a socket reaches nothing
        else.

        @param host: an IP literal; unspecified: no effect.
        """
        if self._is_first or scope(host) is Scope.LOOPBACK:
            self.include(host)

    def allows(self, host: str) -> bool:
        """
        Return whether to send to an address.

        @param host: an IP literal.
        """
        return scope(host) in self.scopes

    def named_by(self, host: str) -> frozenset[Scope]:
        """
        Return the scopes of the addresses that a node may name.

        @param host: the address of the node, an IP literal.
        """
        return self.scopes if self._closed else _ONLY_GLOBAL | (self.scopes & {scope(host)})
