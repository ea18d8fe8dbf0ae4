"""
Whole members for the tests of an application: a swarm in one process, in virtual time.

L{VirtualSwarm} starts a DHT in memory and members that join one topic.  Each member is a real
L{Tracker<dtt.tracker.tracker.Tracker>} on a separate machine.

Rules:
  - Nothing waits for real time, and no socket is opened. Time passes only in
    L{VirtualSwarm.advance} and L{VirtualSwarm.until}.
  - The same seed gives the same peer ids, the same times and the same order of events, in
    any process. Only the contents of datagrams differ: TLS and records take their keys
    from the operating system.
  - Members are numbers, in the order in which they were added: 0, 1, 2...

Example::

    swarm = VirtualSwarm(members=3, seed=1)
    self.addCleanup(swarm.close)
    swarm.advance(10)
    swarm.topics[0].broadcast(b"hello")
    swarm.advance(1)
    swarm.heard(2)      # [b"hello"]
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import NoneType
from typing import Any, Final, Self

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from dtt.arguments import check_bytes, check_integer, check_type
from dtt.config import Config
from dtt.dht.node import DHTNode
from dtt.errors import UsageError
from dtt.events import Event, Message
from dtt.identity import KEY_BYTES, PeerKey
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

#: When the swarm starts, in unix seconds: 20 s after the beginning of a minute in 2027.
START: Final = 1_800_000_020.0

#: The maximum numbers of members and DHT nodes: each has a separate /24 network, because nodes limit
#: how much they store for one network.
MAX_MACHINES: Final = 250

# The port of the DHT nodes.
_PORT = 6881

# Seconds that the DHT nodes get to find each other.
_SETTLE = 2.0

# Seconds in which everything ends: a tracker takes at most 2.
_GOODBYES = 5.0


class VirtualSwarm:
    """
    Trackers that have joined one topic, on a network in memory.

    @ivar topics: the topic of each member.
    @ivar trackers: the tracker of each member.
    @ivar reactors: the reactor of each member's machine: give it to the application
        where it takes a reactor or a clock.
    @ivar network: the network, for further faults.
    """

    def __init__(
        self,
        members: int = 3,
        dht_nodes: int = 8,
        *,
        seed: int = 0,
        name: str | bytes = "virtual swarm",
        secret: bytes = b"virtual swarm",
        config: Config | None = None,
    ) -> None:
        """
        Start the DHT and the members. They have not found each other yet.

        @param members: how many members, 0..250; L{add} adds others later.
        @param dht_nodes: how many DHT nodes, 1..250.
        @param seed: another seed gives other ids and another order of events.
        @param name: the topic, as for L{Tracker.join<dtt.tracker.tracker.Tracker.join>}.
        @param secret: the secret of the topic.
        @param config: settings of all members. Its addresses and bootstrap nodes are
            replaced, C{state_dir} must be C{None}, and C{transport} may not contain C{iroh}, which does its
            own networking; C{None}: the defaults.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: an argument is invalid.
        """
        check_integer("members", members)
        check_integer("dht_nodes", dht_nodes)
        check_integer("seed", seed)
        check_type("name", name, (str, bytes), "str or bytes")
        check_bytes("secret", secret)
        check_type("config", config, (Config, NoneType), "a Config")
        config = config or Config(transport="streams")
        if config.transport is None:
            config = evolve(config, transport=("streams",))
        if "iroh" in (config.transport or ()):
            raise UsageError("transport may contain streams and quic here, not iroh")
        if config.state_dir is not None:
            raise UsageError("state_dir must be None here: nothing is written to disk")
        if not (0 <= members <= MAX_MACHINES and 1 <= dht_nodes <= MAX_MACHINES):
            raise UsageError(f"members must be 0..{MAX_MACHINES}, dht_nodes 1..{MAX_MACHINES}")
        self.topics: list[TopicService] = []
        self.trackers: list[Tracker] = []
        self.reactors: list[Any] = []
        self._seed = seed
        self._name, self._secret, self._config = name, secret, config
        clock = HeapClock()
        clock.rightNow = START - _SETTLE
        self.network = MachineNetwork(clock, rng=Random(f"network {seed}"), log_limit=0)
        self._bootstrap = (("10.1.1.1", _PORT),)
        self._heard: list[list[bytes]] = []
        self._events: list[list[Event]] = []
        self._stopped: set[int] = set()
        self._closed = False
        self._nodes = [self._start_node(number) for number in range(dht_nodes)]
        self.advance(_SETTLE)
        for _ in range(members):
            self.add()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close(check=kind is None)

    def __len__(self) -> int:
        """
        The number of members, including those that have stopped.
        """
        return len(self.topics)

    def add(self) -> int:
        """
        Start another member, which joins the topic.

        @return: its number.
        """
        number = len(self)
        if number >= MAX_MACHINES:
            raise UsageError(f"a virtual swarm has at most {MAX_MACHINES} members")
        host = self.host(number)
        events: list[Event] = []
        heard: list[bytes] = []

        def on_event(event: Event) -> None:
            if isinstance(event, Message):
                heard.append(event.content)
            events.append(event)

        reactor = self.network.reactor(host)
        config = evolve(
            self._config,
            listen=(host, 0),
            dht=evolve(self._config.dht, bind=host, bind6="off", bootstrap=self._bootstrap),
            # Each has a separate machine and network.
            discovery=evolve(self._config.discovery, lan=False, memory=False),
        )
        rng = Random(f"member {self._seed} {number}")
        tracker = Tracker(reactor, config, on_event, rng, key=PeerKey(rng.randbytes(KEY_BYTES)))
        tracker.startService()
        self.reactors.append(reactor)
        self.trackers.append(tracker)
        self._events.append(events)
        self._heard.append(heard)
        self.topics.append(tracker.join(self._name, self._secret))
        return number

    def host(self, member: int) -> str:
        """
        Return the IP address of a member's machine.
        """
        return f"10.2.{member + 1}.1"

    def advance(self, seconds: float) -> None:
        """
        Let C{seconds} of virtual time pass, event by event.
        """
        self.network.advance(seconds)

    def until(self, condition: Callable[[], bool], seconds: float = 60.0, step: float = 0.1) -> bool:
        """
        Let time pass until C{condition} returns true, for at most C{seconds}.

        @param condition: asked every C{step} seconds.
        @return: whether it became true.
        """
        end = self.now() + seconds
        while not condition():
            left = end - self.now()
            if left <= 0:
                return False
            self.advance(min(step, left))
        return True

    def now(self) -> float:
        """
        Return the virtual time, in unix seconds.
        """
        return float(self.network.clock.seconds())

    def joined(self) -> bool:
        """
        Return whether every running member has a neighbour.
        """
        running = (topic for number, topic in enumerate(self.topics) if number not in self._stopped)
        return all(topic.neighbors() for topic in running)

    def heard(self, member: int) -> list[bytes]:
        """
        Return the contents of all messages that a member has received, in order.
        """
        return list(self._heard[member])

    def events(self, member: int) -> list[Event]:
        """
        Return all L{events<dtt.events>} of a member, in order.
        """
        return list(self._events[member])

    def cut(self, a: int, b: int) -> None:
        """
        Lose everything that two members send to each other. They can still reach all
        others. They notice it as on a real network, by silence.
        """
        self.network.sever(self.host(a), self.host(b))

    def mend(self, a: int, b: int) -> None:
        """
        Let two members reach each other again.
        """
        self.network.mend(self.host(a), self.host(b))

    def stop(self, member: int) -> None:
        """
        Stop a member: it says goodbye, and its machine closes all ports.  This advances the virtual time a
        little.
        """
        self._stopped.add(member)
        self._finish([self.trackers[member].stopService()])

    def crash(self, member: int) -> None:
        """
        Stop a member without a word to others, as if its machine had lost power.
        """
        self.network.unplug(self.host(member))
        self.stop(member)

    def close(self, check: bool = True) -> None:
        """
        Stop all members, then the DHT. Further calls do nothing.

        @param check: whether to check that nothing is left.
        @raise AssertionError: a delayed call or a port is left. Those of dtt have ended,
            so this is the application's: it should end what it has started.
        """
        if self._closed:
            return
        self._closed = True
        running = [tracker for number, tracker in enumerate(self.trackers) if number not in self._stopped]
        self._stopped.update(range(len(self)))
        self._finish([tracker.stopService() for tracker in running])
        self._finish([node.stopService() for node in self._nodes])
        left = [str(call) for call in self.network.clock.getDelayedCalls()]
        left += [f"{kind} port {host}:{port}" for kind, host, port in sorted(self.network.listening())]
        if check and left:
            raise AssertionError("left behind: " + "; ".join(left))

    def _start_node(self, number: int) -> DHTNode:
        host = f"10.1.{number + 1}.1"
        node = DHTNode(
            self.network.reactor(host),
            port=_PORT,
            interface=host,
            closed=True,
            bootstrap=self._bootstrap if number else (),
            rng=Random(f"node {self._seed} {number}"),
        )
        node.privilegedStartService()
        node.startService()
        return node

    def _finish(self, ending: list[Deferred[None]]) -> None:
        """
        Wait for services to stop.
        """
        results: list[object] = []
        gatherResults(ending, consumeErrors=True).addBoth(results.append)
        if not self.until(lambda: bool(results), _GOODBYES):
            raise AssertionError(f"a member did not stop within {_GOODBYES:.0f} s")
        self.advance(_GOODBYES)
        error = results[0]
        if not isinstance(error, list):
            raise AssertionError(f"a member did not stop properly: {error}")
