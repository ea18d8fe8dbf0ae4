"""
A world in virtual time: a DHT of the real size, distances, and machines for
members.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Final

from attrs import field, frozen
from twisted.internet.defer import Deferred

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.udp import Datagram
from dtt.testing.vast.dht import VastDHT
from dtt.testing.vast.links import Links
from dtt.testing.vast.places import member_host
from dtt.tracker.tracker import KEY_FILE, Tracker

#: When all begins, within the minute that follows: in 2027 (slots go by unix time).
START: Final = 1_800_000_000.0

# How far time goes before it is looked whether something has happened, seconds.
_STEP = 0.05


@frozen(slots=True)
class Setting:
    """
    The world that members start in.

    @ivar bits: there are 2^bits DHT nodes.
    @ivar seed: of everything; each run is another world.
    @ivar silent: the share of nodes that never answer.
    @ivar secure: the share of nodes whose id is valid by BEP42.
    @ivar missing: the share of entries that each table lacks.
    @ivar dead: the share of entries that name nobody.
    @ivar manners: see L{VastDHT}.
    @ivar low: the smallest latency one way, seconds.
    @ivar high: the largest.
    @ivar loss: the share of datagrams that get lost on each way.
    @ivar transport: of the members, as in L{Config}.
    @ivar warm: members have run before, and know the nodes of that time.
    """

    bits: int = 22
    seed: int = 0
    silent: float = 0.0
    secure: float = 1.0
    missing: float = 0.0
    dead: float = 0.0
    manners: dict[str, float] = field(factory=lambda: {"libtorrent": 1.0})
    low: float = 0.02
    high: float = 0.15
    loss: float = 0.0
    transport: str = "streams"
    warm: bool = False


class World:
    """
    A DHT, distances, and machines for members.

    @ivar setting: what it was made from.
    @ivar clock: the time, from L{START} on.
    @ivar dht: the nodes.
    @ivar net: the machines.
    @ivar sent: datagrams to the DHT by host.
    @ivar sent_bytes: their UDP payloads, bytes.
    """

    def __init__(self, setting: Setting, run: int = 0) -> None:
        self.setting = setting
        self.rng = Random(f"{setting.seed} {run}")
        self.clock = HeapClock()
        self.clock.rightNow = START + 60 * self.rng.random()
        seed = self.rng.getrandbits(32)
        self.dht = VastDHT(
            setting.bits,
            seed=seed,
            silent=setting.silent,
            secure=setting.secure,
            missing=setting.missing,
            dead=setting.dead,
            manners=setting.manners,
        )
        links = Links(seed, low=setting.low, high=setting.high, loss=setting.loss)
        self.net = MachineNetwork(self.clock, rng=Random(seed), links=links, beyond=self.dht, log_limit=0)
        self.sent: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self._digest = blake2b(digest_size=16)
        self.net.udp.observers.append(self._observe)

    def _observe(self, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        if self.dht.has(destination[0]):
            self.sent[source[0]] += 1
            self.sent_bytes[source[0]] += len(datagram.data)
        what = f"{self.clock.seconds()!r} {source} {destination} {len(datagram.data)}\n"
        self._digest.update(what.encode("ascii"))

    def digest(self) -> str:
        """
        See L{Meeting.digest}, of all datagrams until now.
        """
        return self._digest.hexdigest()

    def host(self) -> str:
        """
        The address of another machine.
        """
        return member_host(self.rng.randrange(0x10000))

    def tracker(self, host: str, state_dir: Path) -> Tracker:
        """
        A member, not started.

        @param state_dir: a folder for it alone, which gets its key; or that of
            one that has stopped.
        """
        if not state_dir.exists():
            state_dir.mkdir(mode=0o700)
            key_file = state_dir / KEY_FILE
            key_file.touch(mode=0o600)
            key_file.write_text(self.rng.randbytes(32).hex())
        config = Config(
            state_dir=state_dir,
            transport=self.setting.transport,
            listen=(host, 0),
            dht=DHTConfig(bind=host, bind6="", bootstrap=self.dht.bootstrap),
        )
        return Tracker(self.net.reactor(host), config, lambda event: None, Random(self.rng.random()))

    def node(self, host: str) -> DHTNode:
        """
        A DHT node, not started.
        """
        return DHTNode(
            self.net.reactor(host),
            interface=host,
            bootstrap=self.dht.bootstrap,
            rng=Random(self.rng.random()),
        )

    def until(self, done: Deferred[Any], seconds: float) -> None:
        """
        Let time pass until C{done} has fired, or so many seconds.
        """
        end = self.clock.seconds() + seconds
        while not done.called and self.clock.seconds() < end:
            self.net.advance(_STEP)
