"""
Helpers for the tests of the tracker.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer, provider

from dtt.config import BootstrapConfig, Config, DHTConfig
from dtt.dht.client.lookup import ALPHA
from dtt.dht.client.placement import Placement
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import Effort
from dtt.events import Event
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, IAddressBook, PeerId
from dtt.records.record import GossipContent
from dtt.records.topic import Slot, TopicId, TopicKeys, initial_secret_hash
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.clock import HeapClock
from dtt.tracker import tracker
from dtt.transport.iroh import bindings as iroh_bindings
from dtt.wire.addresses import STREAMS, Address, PeerAddress

T = TypeVar("T")

MINUTE = 30_000_000
#: Ten seconds into L{MINUTE}, in 2027.
START = MINUTE * 60 + 10.0

TOPIC = TopicId.from_name("a topic")
SECRET_HASH = initial_secret_hash(b"a secret")
KEYS = [PeerKey.from_seed(bytes((number,)) * 32) for number in range(1, 30)]
IDS = [key.peer_id for key in KEYS]


def address(number: int, port: int = 4433) -> PeerAddress:
    """Return the public address of member C{number}."""
    return PeerAddress(STREAMS, f"198.18.0.{number + 1}", port)


@implementer(IAddressBook)
class Book:
    """
    An L{IAddressBook} that trusts all sources.

    @ivar slow: ids whose lookups the test completes.
    @ivar asked: the ids that were resolved.
    @ivar refreshed: the ids whose newer addresses were looked for.
    """

    def __init__(self) -> None:
        self.slow: dict[bytes, Deferred[tuple[Address, ...]]] = {}
        self.asked: list[bytes] = []
        self.refreshed: list[bytes] = []
        self.peeked: list[bytes] = []
        self.known: dict[bytes, tuple[Address, ...]] = {}
        self.backing_off: set[bytes] = set()

    def learn(self, peer_id: PeerId, addresses: Sequence[Address], source: str) -> None:
        self.known[peer_id] = tuple(addresses)

    def source(self, peer_id: PeerId) -> str:
        return "record" if peer_id in self.known else ""

    def published(self, peer_id: PeerId) -> None:
        """Do nothing."""

    def failed(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        self.backing_off.add(peer_id)

    def succeeded(self, peer_id: PeerId) -> None:
        self.backing_off.discard(peer_id)

    def refresh(self, peer_id: PeerId) -> None:
        self.refreshed.append(peer_id)

    def peek(self, peer_id: PeerId) -> None:
        self.peeked.append(peer_id)

    def resolve(self, peer_id: bytes) -> Deferred[tuple[Address, ...]]:
        self.asked.append(peer_id)
        if peer_id in self.slow:
            return self.slow[peer_id]
        found: Deferred[tuple[Address, ...]] = Deferred()
        found.callback(() if peer_id in self.backing_off else self.known.get(peer_id, ()))
        return found


def without_iroh(case: SynchronousTestCase) -> None:
    """Simulate that the iroh package is not installed: it can't use the memory network."""
    case.patch(iroh_bindings, "unavailable_reason", lambda: "")


def fixed_chance(case: SynchronousTestCase) -> None:
    """
    Let the keys and random numbers of trackers be the same in each run of a test, also of those that
    are not given any.
    """
    rng = Random(case.id())
    case.patch(PeerKey, "generate", lambda: PeerKey(rng.randbytes(32)))
    case.patch(tracker, "SystemRandom", lambda: Random(rng.getrandbits(64)))


def start_clock() -> Clock:
    """Return a clock set to L{START}."""
    clock = HeapClock()
    clock.rightNow = START
    return clock


class Member:
    """A member's record client and its dependencies."""

    def __init__(
        self,
        clock: Clock,
        dht: Any,
        number: int = 0,
        *,
        config: DHTConfig | None = None,
        max_bootstrap_records: int = 5,
        secret_hash: bytes = SECRET_HASH,
        topic_id: bytes = TOPIC,
    ) -> None:
        self.key = KEYS[number]
        self._started: list[Deferred[Any]] = []
        self.book = Book()
        self.events: list[Event] = []
        rng = Random(number)
        self.shared = SharedServices(
            clock,
            rng,
            Config(
                dht=config or DHTConfig(),
                bootstrap=BootstrapConfig(max_bootstrap_records=max_bootstrap_records),
            ),
            self.key,
            dht,
            self.book,
            cast(Any, None),  # records need no transport
            self.events.append,
            lambda: False,
        )
        self.client = RecordClient(
            self.shared, TopicKeys(TopicId(topic_id), secret_hash), entropy=rng.randbytes
        )
        self.content = GossipContent(addresses=(address(number),))

    def fetch(self, *minutes: int) -> Deferred[Any]:
        """Call L{RecordClient.fetch}."""
        return self._start(self.client.fetch(minutes or (MINUTE,), "test", Effort(ALPHA)))

    def publish(
        self, content: GossipContent | None = None, minute: int = MINUTE, urgent: bool = False
    ) -> Deferred[int]:
        """Call L{RecordClient.publish}."""
        return self._start(self.client.publish(minute, lambda: content or self.content, "test", urgent))

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        started = Deferred.fromCoroutine(coroutine)
        self._started.append(started)
        return started

    def end(self) -> None:
        """Cancel what still runs, so that the garbage collector does not end it within another test."""
        for started in self._started:
            started.addErrback(lambda failure: failure.trap(CancelledError))
            started.cancel()


def store(
    dht: IDHT, value: bytes, minute: int = MINUTE, own_id: bytes = b"nobody", topic: bytes = TOPIC
) -> None:
    """Store a value in the slot twice, as an outsider can; requires a C{dht} without latency."""
    slot = Slot(topic, minute)
    read: list[Any] = []
    dht.get_mutable(slot.public_key, slot.salt).addCallback(read.append)
    dht.put_mutable(slot.signing_seed, slot.salt, value, Placement(own_id, lambda held: held), read[0])


class CountingDHT:
    """
    Records the calls of a L{FakeDHT}, and can change its answers.

    @ivar calls: the names of the calls.
    """

    def __init__(self, dht: FakeDHT) -> None:
        self.dht = dht
        self.calls: list[str] = []
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kw: Any) -> Any:
            self.calls.append(name)
            return self.instead.get(name, getattr(self.dht, name))(*args, **kw)

        return call


class SilentDHT:
    """An L{IDHT} that never answers, and records what is cancelled."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.cancelled: list[str] = []

    def when_ready(self) -> Deferred[int]:
        return self._never("when_ready")

    def get_mutable(self, *args: Any, **kw: Any) -> Deferred[Any]:
        return self._never("get_mutable")

    def refresh(self, *args: Any) -> Deferred[Any]:
        return self._never("refresh")

    def put_mutable(self, *args: Any, **kw: Any) -> Deferred[Any]:
        return self._never("put_mutable")

    def _never(self, what: str) -> Deferred[Any]:
        self.calls.append(what)
        return Deferred(lambda _: self.cancelled.append(what))


def collect_warnings(case: SynchronousTestCase, warnings: list[str]) -> None:
    """Append the text of each warning logged until the end of the test."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            warnings.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    case.addCleanup(globalLogPublisher.removeObserver, observe)
