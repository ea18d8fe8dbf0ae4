"""
What the networks in memory take for latency and loss, and who may answer there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

#: Of all pairs of hosts, or a function of the sender's and the receiver's
#: address; a latency is seconds one way, a loss the share of datagrams, 0..1.
OfHosts: TypeAlias = float | Callable[[str, str], float]


def between(value: OfHosts, sender: str, receiver: str) -> float:
    """
    The latency or loss on the way from one host to another.
    """
    return value(sender, receiver) if callable(value) else value


class Beyond(Protocol):
    """
    Hosts that have no reactor: they answer datagrams, and do nothing else.
    L{dtt.testing.vast.VastDHT} is some.
    """

    def has(self, host: str) -> bool:
        """
        Is this address one of them?
        """

    def answer(
        self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
    ) -> bytes | None:
        """
        The reply to a datagram, or L{None}.
        """
