"""
Networks of real nodes in memory, for the tests of L{dtt.dht}.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.node import DHTNode
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.udp import MemoryUDPNetwork

T = TypeVar("T")

#: A slot.
SEED = b"s" * 32
PUBLIC_KEY = crypto_sign_seed_keypair(SEED)[0]
SALT = b"x" * 32


def classify(value: bytes) -> bytes | None:
    """
    Return the publisher of a test record: values begin with the publisher's id;
    C{junk...} is junk.
    """
    return None if value.startswith(b"junk") else value[:32]


def record(number: int) -> bytes:
    """
    The record of publisher C{number}.
    """
    return number.to_bytes(32) + b"content"


def outcome(deferred: Deferred[T]) -> list[Any]:
    """
    Return a list that receives the result or the C{Failure}.
    """
    results: list[Any] = []

    def keep(result: T | Failure) -> None:
        results.append(result)

    deferred.addBoth(keep)
    return results


class Network:
    """
    Nodes on hosts 10.0.0.1, 10.0.1.1, ... or 2a00:1::1, 2a00:2::1, ... or
    both, that know each other.

    @ivar udp: the network.
    @ivar nodes: the running nodes.
    """

    def __init__(self, count: int, *, seed: int = 0, closed: bool = False, families: str = "4") -> None:
        """
        @param families: the families of the nodes: C{"4"}, C{"6"} or C{"46"}.
        """
        self.clock = HeapClock()
        self.udp = MemoryUDPNetwork(self.clock, rng=Random(seed))
        self.nodes: list[DHTNode] = []
        self._closed = closed
        self._seed = seed
        self._families = families
        for _ in range(count):
            self.node()
            self.udp.advance(0.2)

    def host(self, number: int) -> str:
        """
        Return the IPv4 address of the node with this number.
        """
        return "10.9.9.9" if self._closed else f"10.0.{number}.1"

    def host6(self, number: int) -> str:
        """
        Return its IPv6 address.
        """
        return f"2a00:{number + 1:x}::1"

    def node(
        self,
        *,
        start: bool = True,
        bootstrap: Sequence[tuple[str, int]] | None = None,
        families: str | None = None,
        **more: Any,
    ) -> DHTNode:
        """
        Add a node that knows the first one.
        """
        number = len(self.nodes)
        if bootstrap is None:
            bootstrap = []
            if number:
                port = self.nodes[0].port
                bootstrap = [(self.host(0), port), (self.host6(0), port)]
        if families is None:
            families = self._families
        node = DHTNode(
            self.udp.reactor(self.host(number), self.host6(number)),
            interface="" if "4" in families else None,
            interface6="::" if "6" in families else None,
            bootstrap=bootstrap,
            closed=self._closed,
            rng=Random(f"{self._seed} {number}"),
            **more,
        )
        self.nodes.append(node)
        if start:
            node.startService()
        return node

    def result(self, deferred: Deferred[T], seconds: float = 5.0) -> T:
        """
        Advance time until C{deferred} fires.
        """
        results = outcome(deferred)
        end = self.clock.seconds() + seconds
        while not results and self.clock.seconds() < end:
            self.udp.advance(0.005)
        if not results:
            raise AssertionError(f"nothing after {seconds} s")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    def stop(self) -> None:
        """
        Stop all nodes.
        """
        for node in self.nodes:
            node.stopService()


class PublicNetwork(Network):
    """
    Nodes at public addresses, where an id has to be valid (BEP42).
    """

    def host(self, number: int) -> str:
        """
        Return the address of the node with this number.
        """
        return f"80.{number}.0.1"
