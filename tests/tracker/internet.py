"""
An internet in memory: a DHT of the real size, and trackers behind NATs and firewalls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final
from unittest.mock import patch

from attrs import define, field

from dtt.config import Config, DHTConfig
from dtt.events import Event, Message, NeighborDown, NeighborUp
from dtt.identity import PeerKey
from dtt.testing.components import components
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.nat import NAT, Behaviour
from dtt.testing.net.udp import Datagram
from dtt.testing.vast.dht import VastDHT
from dtt.testing.vast.links import Links
from dtt.testing.vast.places import member_host
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

#: When the simulation starts: 20 s after the beginning of a minute in 2027.
START: Final = 1_800_000_020.0

#: The settings of each kind of NAT.  C{"public"} is none, C{"fw"} a firewall.
KINDS: Final[dict[str, dict[str, Any]]] = {
    "public": {},
    "nat": {},
    "eim": {"keeps_ports": False},
    "cone": {"filtering": Behaviour.ENDPOINT_INDEPENDENT},
    "fw": {},
    "sym": {"mapping": Behaviour.ADDRESS_AND_PORT_DEPENDENT},
}


@define(eq=False)
class Member:
    """
    A tracker in one topic.

    @ivar host: the address of its machine.
    @ivar kind: what its machine is behind.
    @ivar joined_at: when it got its first neighbour.
    @ivar heard: the contents of the messages that it has received.
    """

    tracker: Tracker
    host: str
    kind: str
    topic: TopicService | None = None
    started_at: float = 0.0
    joined_at: float | None = None
    events: list[Event] = field(factory=list)
    heard: set[bytes] = field(factory=set)
    changes: int = 0

    def on_event(self, event: Event) -> None:
        """Take notes."""
        if isinstance(event, Message):
            self.heard.add(event.content)
        elif isinstance(event, NeighborUp | NeighborDown):
            self.changes += 1
        else:
            self.events.append(event)

    @property
    def neighbors(self) -> tuple[bytes, ...]:
        """Its neighbours."""
        return () if self.topic is None else self.topic.neighbors()


class Internet:
    """
    The network.

    @ivar members: all trackers.
    @ivar sent: the datagrams written by each host to DHT nodes.
    @ivar received: the datagrams on their way to each other host, by kind of first byte.
    """

    def __init__(
        self, seed: int, *, low: float = 0.02, high: float = 0.02, loss: float = 0.0, dead: float = 0.0
    ) -> None:
        self.seed = seed
        self.rng = Random(f"internet {seed}")
        self.clock = HeapClock()
        self.clock.rightNow = START
        self.dht = VastDHT(20, seed=seed, silent=dead / 2, dead=dead / 2)
        links = Links(seed, low=low, high=high, loss=loss)
        self.net = MachineNetwork(self.clock, links=links, rng=Random(seed), beyond=self.dht, log_limit=0)
        self.members: list[Member] = []
        self.sent: dict[str, int] = {}
        self.net.udp.observers.append(self._observe)
        self._networks = 0

    def _observe(self, datagram: Datagram) -> None:
        if self.dht.has(datagram.destination[0]):
            self.sent[datagram.source[0]] = self.sent.get(datagram.source[0], 0) + 1

    def host(self) -> str:
        """A public address in a separate network."""
        self._networks += 1
        return member_host(self._networks)

    def nat(self, outer: NAT | None = None, host: str | None = None, **behaviour: Any) -> NAT:
        """A NAT with a public address, or inside another one."""
        host = host or self.host()
        return NAT(self.clock, host, outer=outer, rng=Random(f"{self.seed} {host}"), **behaviour)

    def member(self, kind: str = "public", *, behind: NAT | None = None, **config: Any) -> Member:
        """
        A tracker, not started.

        @param behind: a NAT that it shares with others; else it has one of its own.
        """
        if behind is not None:
            host = f"192.168.{len(self.members) % 250}.{2 + len(self.members) // 250}"
        elif kind in ("public", "fw"):
            host = self.host()
        else:
            host = f"10.{len(self.members) // 250}.{len(self.members) % 250}.2"
        nat = behind
        if nat is None and kind != "public":
            nat = self.nat(host=host if kind == "fw" else None, **KINDS[kind])
        if nat is not None:
            self.net.place(host, nat)
        dht = DHTConfig(bind=host, bind6="off", bootstrap=self.dht.bootstrap)
        settings = {"transport": ("streams", "quic"), "listen": (host, 0), "dht": dht, **config}

        def on_event(event: Event) -> None:
            member.on_event(event)

        rng = Random(f"member {self.seed} {len(self.members)}")
        with patch.object(PeerKey, "generate", lambda: PeerKey(rng.randbytes(32))):
            tracker = Tracker(self.net.reactor(host), Config(**settings), on_event, rng)
        streams = tracker._listeners._streams
        assert streams is not None
        streams._interface_addresses = lambda: (host,)
        member = Member(tracker, host, kind)
        self.members.append(member)
        return member

    def start(self, member: Member, name: str = "topic") -> Member:
        """Start a member, and join a topic."""
        member.started_at = self.clock.seconds()
        member.tracker.startService()
        member.topic = member.tracker.join(name, b"secret")

        def joined(_: object) -> None:
            member.joined_at = self.clock.seconds()

        member.topic.when_joined().addCallbacks(joined, lambda _: None)
        return member

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.net.advance(seconds)

    def until(self, done: Callable[[], bool], seconds: float, step: float = 0.1) -> bool:
        """Advance the clock until something holds, for some time at most."""
        end = self.clock.seconds() + seconds
        while not done():
            if self.clock.seconds() >= end:
                return False
            self.advance(step)
        return True

    def stop(self) -> None:
        """Stop everything."""
        for member in self.members:
            member.tracker.stopService()
        self.advance(3.0)


def parts(members: Sequence[Member]) -> list[int]:
    """Return the sizes of the parts into which the links among the members divide them."""
    links = {member.tracker.peer_id: member.neighbors for member in members}
    return sorted(map(len, components(links)), reverse=True)
