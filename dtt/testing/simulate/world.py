"""
A simulated world in virtual time: a DHT of lightweight hosts, links, and members.

Rules: all random choices come from the seed, including keys, encryption and ids of members.  The same seed
thus gives the same datagrams at the same times, in any process and on any Python.  (The keys of TLS come from
OpenSSL; they change no sizes and no times.)

Example::

    with World(Setting(nodes=500), seed=1) as world:
        for _ in range(3):
            world.start(world.member())
        world.until(world.all_joined, 60)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from random import Random
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from attrs import evolve

from dtt.config import Config, DHTConfig
from dtt.deferreds import cancel_if_active
from dtt.identity import PeerKey
from dtt.records.topic import TopicId, TopicKeys, initial_secret_hash, unix_minute
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machine_time import MachineTime
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.udp import Datagram
from dtt.testing.simulate.members import Member, Runner, TrackerRunner, count_messages, parts
from dtt.testing.simulate.setting import Setting
from dtt.testing.simulate.slots import contested
from dtt.testing.simulate.upstream import UpstreamRunner
from dtt.testing.storage.dht import StorageDHT
from dtt.testing.vast.links import Links
from dtt.testing.vast.places import member_host
from dtt.tracker.kept import KEY_FILE
from dtt.tracker.tracker import Tracker

#: The simulation starts within the minute after this time, in 2027: the beginning of a minute divisible
#: by 360.
START: Final = 1_800_014_400.0

#: Seconds between two looks at a condition.
_STEP: Final = 0.05

#: Seconds that everything has for its end.
_END: Final = 5.0


class World:
    """
    A DHT, links and members.

    @ivar setting: the parameters.
    @ivar rng: the source of all random choices.
    @ivar clock: the true time, which starts at L{START} or up to a minute later.
    @ivar dht: the DHT nodes.
    @ivar net: the machines.
    @ivar keys: what the members of the topic share.
    @ivar members: all members.
    @ivar sent: the number of datagrams sent to others than members, by host.
    @ivar most: the most datagrams that one host has sent to one node within 10 s.
    @ivar connects: the number of attempts to connect, by host and host.
    @ivar curve: the number of members with a neighbour, and of those running, over time:
        triples with the seconds since the start.
    """

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        self.setting = setting
        self.seed = seed
        self.rng = Random(f"simulate {seed}")
        self.clock = HeapClock()
        self.clock.rightNow = self._began = START + 60 * self.rng.random()
        self.dht = StorageDHT(
            setting.nodes,
            Random(self.rng.random()),
            silent=setting.silent,
            secure=setting.secure,
            manners=setting.manners,
        )
        links = Links(self.rng.getrandbits(32), low=setting.low, high=setting.high, loss=setting.loss)
        self.net = MachineNetwork(
            self.clock, rng=Random(self.rng.random()), links=links, beyond=self.dht, log_limit=0
        )
        self.net.tcp.loss = setting.loss
        self.net.udp.duplication = setting.duplication
        self.net.udp.reordering = self.net.tcp.reordering = setting.reordering
        self.keys = TopicKeys(TopicId.from_name(setting.topic), initial_secret_hash(setting.secret))
        self.members: list[Member] = []
        self.sent: Counter[str] = Counter()
        self.connects: Counter[tuple[str, str]] = Counter()
        self.curve: list[tuple[float, int, int]] = []
        self.most = 0
        self._window = 0
        self._in_window: Counter[tuple[str, str]] = Counter()
        self._machines: set[str] = set()
        self._by_id: dict[bytes, Member] = {}
        self._waiting: dict[Member, None] = {}
        self._digest = blake2b(digest_size=16)
        self._folder = TemporaryDirectory()
        self._killed: list[tuple[Runner, MachineTime]] = []
        self._endings: list[Callable[[], None]] = []
        self.net.udp.observers.append(self._observe)
        self.net.tcp.observers.append(self._connecting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def now(self) -> float:
        """
        Seconds since the start.
        """
        return self.clock.seconds() - self._began

    # Members

    def host(self) -> str:
        """
        The address of a new machine.
        """
        host = member_host(len(self._machines) + 1)
        self._machines.add(host)
        return host

    def member(
        self, rule: str | None = None, *, skew: float = 0.0, config: dict[str, Any] | None = None
    ) -> Member:
        """
        Create a member, not started.

        @param rule: how it finds others; C{None}: the rule of the setting.
        @param skew: seconds by which its clock is ahead.
        @param config: additional settings.
        """
        host = self.host()
        self.net.set_skew(host, skew)
        key = PeerKey(self.rng.randbytes(32))
        member = Member(
            f"{len(self.members)}",
            key.peer_id,
            self.net.reactor(host),
            rule or self.setting.rule,
            self.clock.seconds,
        )
        self.members.append(member)
        self._by_id[member.peer_id] = member
        folder = Path(self._folder.name) / member.name
        folder.mkdir(mode=0o700)
        key_file = folder / KEY_FILE
        key_file.touch(mode=0o600)
        key_file.write_text(key.seed.hex())
        self._equip(member, folder, config or {})
        return member

    def _equip(self, member: Member, folder: Path, config: dict[str, Any]) -> None:
        if member.rule == "upstream":
            key = PeerKey(bytes.fromhex((folder / KEY_FILE).read_text()))
            upstream = member.runner = UpstreamRunner(
                member.reactor, Random(self.rng.random()), key, self.keys, self.dht.bootstrap, member.on_event
            )
            count_messages(upstream.transport, member.messages)
            return
        host = member.host
        settings = Config(
            state_dir=folder,
            transport=self.setting.transport,
            listen=(host, 0),
            dht=DHTConfig(bind=host, bind6="off", bootstrap=self.dht.bootstrap),
        )
        settings = evolve(settings, **{**self.setting.config, **config})
        tracker = Tracker(member.reactor, settings, member.on_event, Random(self.rng.random()))
        member.runner = TrackerRunner(tracker, self.setting.topic, self.setting.secret, member.messages)

    def start(self, member: Member) -> Member:
        """
        Start a member.
        """
        member.started_at, member.joined_at, member.running = self.clock.seconds(), None, True
        member.first_start = member.first_start or member.started_at
        member.stopped_at = 0.0
        member.sent_before = self.sent[member.host]
        member.dials = member.changes = 0
        self._waiting[member] = None
        member.runner.start()
        return member

    def stop(self, member: Member) -> None:
        """
        Let a member leave and stop.
        """
        member.running, member.stopped_at = False, self.clock.seconds()
        self._waiting.pop(member, None)
        member.runner.stop()

    def kill(self, member: Member, *, power: bool = True) -> None:
        """
        End a member without a goodbye.

        @param power: see L{MachineNetwork.stop<dtt.testing.net.machines.MachineNetwork.stop>}.
        """
        member.running, member.stopped_at = False, self.clock.seconds()
        self._waiting.pop(member, None)
        self._killed.append((member.runner, self.net.time(member.host)))
        self.net.stop(member.host, power=power)

    def restart(self, member: Member, *, host: str | None = None) -> None:
        """
        Start a member that was stopped or killed, with its state, on a new machine.

        @param host: its address, from L{host}; C{None}: another one than before.
        """
        old = Path(self._folder.name) / member.name
        member.name = f"{member.name}+"
        new = old.with_name(member.name)
        copytree(old, new, ignore=ignore_patterns("lock"))
        member.reactor = self.net.reactor(host or self.host())
        member.earlier_finds = member.finds()
        self._equip(member, new, {})
        self.start(member)

    def sleep(self, member: Member) -> None:
        """
        Let the machine of a member sleep.
        """
        self.net.sleep(member.host)

    def wake(self, member: Member, host: str | None = None) -> None:
        """
        Wake it, and count from now until it has a neighbour that is awake.

        @param host: another address that it has now.
        """
        self.net.wake(member.reactor, host)
        member.started_at, member.joined_at = self.clock.seconds(), None
        self._waiting[member] = None

    # Time

    def advance(self, seconds: float) -> None:
        """
        Advance the time.
        """
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-9:
            self.net.advance(min(_STEP, left))
            self._look()

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """
        Advance the time until something holds.

        @param seconds: the most seconds to wait.
        @return: whether it holds.
        """
        end = self.clock.seconds() + seconds
        while not done():
            if self.clock.seconds() >= end:
                return False
            self.net.advance(_STEP)
            self._look()
        return True

    def all_joined(self) -> bool:
        """
        Has every running member had a neighbour?
        """
        return not self._waiting

    def is_one_swarm(self) -> bool:
        """
        Do the links of the running members connect all of them?
        """
        return len(parts(self.members)) <= 1

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        """
        Do something again and again, beginning now, until the end.
        """

        def again() -> None:
            act()
            call[0] = self.clock.callLater(seconds, again)

        call = [self.clock.callLater(0, again)]
        self._endings.append(lambda: cancel_if_active(call[0]))

    def _look(self) -> None:
        now = self.clock.seconds()
        for member in [each for each in self._waiting if self._is_connected(each)]:
            del self._waiting[member]
            member.joined_at = now
            member.sent_to_join = self.sent[member.host] - member.sent_before
        running = sum(member.running for member in self.members)
        joined = running - len(self._waiting)
        if not self.curve or self.curve[-1][1:] != (joined, running):
            self.curve.append((now - self._began, joined, running))

    def _is_connected(self, member: Member) -> bool:
        # Both sides must agree: the view of a member that has slept may be outdated.
        for peer in member.neighbors():
            other = self._by_id.get(peer)
            if other is not None and other.running and member.peer_id in other.neighbors():
                return True
        return False

    # Observations

    def _observe(self, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        if destination[0] not in self._machines:
            # To a DHT node, or to an address that was named as one.
            self.sent[source[0]] += 1
            window = int(self.clock.seconds() // 10)
            if window != self._window:
                self._window = window
                self._in_window.clear()
            self._in_window[source[0], destination[0]] += 1
            self.most = max(self.most, self._in_window[source[0], destination[0]])
        self._digest.update(f"{self.clock.seconds()!r} {source} {destination} ".encode("ascii"))
        self._digest.update(datagram.data)

    def _connecting(self, source: tuple[str, int], target: tuple[str, int]) -> None:
        self.connects[source[0], target[0]] += 1

    def digest(self) -> str:
        """
        The trace hash: of the time, source, destination and content of each datagram.
        """
        return self._digest.hexdigest()

    def slots(self) -> dict[int, tuple[int, int]]:
        """
        For the slots of the last two minutes: how many nodes near them hold a value that
        no member has written, and how many of them hold any.
        """
        return contested(self.dht, self.keys, unix_minute(self.clock.seconds()), self._by_id)

    def close(self) -> None:
        """
        Stop everything.

        @raise AssertionError: something has not stopped.
        """
        for end in self._endings:
            end()
        for member in self.members:
            if member.running:
                self.stop(member)
        # So that the garbage collector need not end the coroutines of killed members.
        for runner, time in self._killed:
            time.stopped = False
            runner.stop().addErrback(lambda _: None)
        self.net.advance(_END)
        self._folder.cleanup()
        left = self.net.listening()
        assert not left, f"these ports are still bound: {sorted(left)}"
