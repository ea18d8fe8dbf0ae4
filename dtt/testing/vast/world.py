"""
A simulated world in virtual time: a DHT of realistic size, links, and machines for
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
from dtt.tracker.kept import KEY_FILE
from dtt.tracker.tracker import Tracker

#: The simulation starts within the minute after this time: in 2027 (slots depend on unix time).
START: Final = 1_800_000_000.0

# The interval between checks for completion, in seconds.
_STEP = 0.05


@frozen(slots=True)
class Setting:
    """
    The parameters of a world.

    @ivar bits: there are 2^bits DHT nodes.
    @ivar seed: the seed of all random choices. Each run of a seed is a different world.
    @ivar silent: the share of nodes that never answer.
    @ivar secure: the share of nodes with an id that is valid by BEP42.
    @ivar missing: the share of entries missing from each table.
    @ivar dead: the share of entries whose node is gone.
    @ivar manners: see L{VastDHT}.
    @ivar low: the smallest one-way latency, in seconds.
    @ivar high: the largest one-way latency, in seconds.
    @ivar loss: the share of datagrams lost in each direction.
    @ivar transport: the members' transport, as in L{Config}.
    @ivar warm: members have run before and know nodes from that run.
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
    A DHT, links, and machines for members.

    @ivar setting: the parameters.
    @ivar rng: the source of all random choices.
    @ivar clock: the clock, which starts at L{START} or up to a minute later.
    @ivar dht: the DHT nodes.
    @ivar net: the machines.
    @ivar sent: the number of datagrams sent to the DHT, by host.
    @ivar sent_bytes: their UDP payload bytes, by host.
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
        The digest of all datagrams until now; see C{Meeting.digest} in
        L{dtt.testing.vast.scenario}.
        """
        return self._digest.hexdigest()

    def host(self) -> str:
        """
        The address of a new machine.
        """
        return member_host(self.rng.randrange(0x10000))

    def tracker(self, host: str, state_dir: Path) -> Tracker:
        """
        A member, not started.

        @param host: the address of its machine.
        @param state_dir: its state directory. If it does not exist, it is created with a
            new key; otherwise the member continues where an earlier one stopped.
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
            dht=DHTConfig(bind=host, bind6="off", bootstrap=self.dht.bootstrap),
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
        Advance the clock until C{done} has fired, by at most C{seconds}.
        """
        end = self.clock.seconds() + seconds
        while not done.called and self.clock.seconds() < end:
            self.net.advance(_STEP)
