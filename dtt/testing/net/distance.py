"""
Latency, loss and division of the in-memory networks, and hosts without a reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

#: A value for all pairs of hosts, or a function of the sender's and the receiver's address. A latency
#: is in seconds, one way; a loss is a share of datagrams, 0..1.
OfHosts: TypeAlias = float | Callable[[str, str], float]


def between(value: OfHosts, sender: str, receiver: str) -> float:
    """
    The latency or loss from one host to another.
    """
    return value(sender, receiver) if callable(value) else value


class Division:
    """
    Which hosts don't reach each other.

    @ivar parts: the part of the network in which a host is: hosts of different parts don't
        reach each other, those of no part reach all.
    @ivar severed: pairs of hosts that don't reach each other.
    """

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.severed: set[frozenset[str]] = set()

    def separates(self, one: str, other: str) -> bool:
        """
        Return whether nothing gets from one host to another.
        """
        if self.severed and frozenset((one, other)) in self.severed:
            return True
        parts = self.parts
        return bool(parts) and one in parts and other in parts and parts[one] != parts[other]


class Beyond(Protocol):
    """
    Hosts that have no reactor: they answer datagrams and do nothing else, such as those
    of L{dtt.testing.vast.VastDHT}.
    """

    def has(self, host: str) -> bool:
        """
        Is this IP address one of these hosts?
        """

    def answer(
        self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
    ) -> bytes | None:
        """
        The reply to a datagram; C{None} if there is none.
        """
