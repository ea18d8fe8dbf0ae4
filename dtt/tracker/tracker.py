"""
The tracker: assembles one DHT node, the transports and any number of topics.

The services form a tree::

    Tracker
     +- Listeners               the transports
     +- DHTNode                 the DHT, as a service, unless it is the application's
     +- LocalSearch             the search of the local network
     +- PortMapping             ports mapped at the router
     +- AddressService          publication and lookup of addresses
     +- TopicService            one for each topic
     |   +- Fetcher, Publisher, Watcher, BubbleMerge, MessageOverlapMerge
     +- DiscoveryService        one for each topic without gossip

Lifecycle: the constructor locks the state directory and reads it;
C{privilegedStartService} binds the ports; C{startService} starts all network
traffic; C{stopService} leaves every topic, closes everything, writes the state and
unlocks the directory.  A stopped tracker can't be restarted: create a new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from random import Random, SystemRandom
from types import NoneType
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel

from dtt._version import __version__
from dtt.addresses.service import AddressService
from dtt.addresses.signer import LocalPeer
from dtt.arguments import check_bytes, check_function, check_type
from dtt.config import Config
from dtt.counters import snake_case
from dtt.dht.mapped_address import MappingKind
from dtt.dht.node import DHTNode
from dtt.discovery.lan import LocalSearch
from dtt.discovery.shared import SharedServices
from dtt.errors import AlreadyJoined, ListenError, LocalError, TopicLeft, UsageError
from dtt.events import (
    AddressesMissing,
    DHTNodes,
    DHTReady,
    Event,
    EventSink,
    NetworkChanged,
    NodeStarted,
    TopicEvent,
    count_of,
)
from dtt.identity import KEY_BYTES, PeerKey, verify_application
from dtt.net.local import interfaces_of
from dtt.net.networks import Scope, scope
from dtt.records.topic import Rotation, TopicId, TopicKeys, default_rotation, initial_secret_hash, label_of
from dtt.tracker.app_streams import CONNECT_TIMEOUT, AppStreams
from dtt.tracker.discover import DiscoveryService, Found
from dtt.tracker.history import EventHistory
from dtt.tracker.kept import KeptState
from dtt.tracker.nat import NATReporter
from dtt.tracker.network_watch import Change, NetworkWatch
from dtt.tracker.own_dht import check_parts, make_dht
from dtt.tracker.port_mapping import PortMapping, is_local
from dtt.tracker.snapshot import dht_status, mappings, shown_address
from dtt.tracker.status import TrackerStatus
from dtt.tracker.topic import TopicService
from dtt.tracker.traffic import Totals, Traffic, datagrams
from dtt.tracker.transports import Listeners, bind_port
from dtt.transport.appstreams.endpoints import StreamClientEndpoint, StreamServerEndpoint
from dtt.wire.addresses import Address

_log = Logger()

#: Seconds between two writes of the state, which is also written when the tracker
#: stops (guess).
SAVE_INTERVAL = 300.0

#: Seconds between two checks of the number of known DHT nodes, which is reported if it has more than doubled
#: or halved (guess: the first lookups take some seconds).
COUNT_INTERVAL = 15.0

#: Seconds between two checks whether others can reach us (guess).
CHECK_INTERVAL = 60.0


def log_event(event: Event, others: int = 0) -> None:
    """
    Log an event with Twisted's logger: the default of C{on_event}.  The line of an
    event of a topic begins with the name of the topic.

    @param event: the event.
    @param others: how many others of its kind were not logged.
    """
    text = event.text()
    if others:
        text += f" ({count_of(others, 'other event')} of this kind not logged)"
    if isinstance(event, TopicEvent):
        text = f"[{label_of(event.topic)}] {text}"
    level = LogLevel.warn if event.is_warning else LogLevel.info
    _log.emit(level, "{dtt_event_text}", dtt_event=event, dtt_event_text=text)


class Tracker(MultiService):
    """
    Finds the other members of topics, and connects to them.

    @ivar peer_id: our peer id, 32 bytes.
    @ivar config: the settings.
    @ivar dht: the DHT node: our own, or that of the application.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config | None = None,
        on_event: EventSink = log_event,
        rng: Random | None = None,
        *,
        key: PeerKey | None = None,
        dht: DHTNode | None = None,
    ) -> None:
        """
        @param reactor: provides IReactorTime, IReactorTCP, IReactorUDP and
            IReactorPluggableNameResolver.
        @param config: the settings; C{None}: the defaults.
        @param on_event: called with each event.  An exception that it raises is
            logged.
        @param rng: an unpredictable random number generator, which also makes the
            key of a temporary identity; C{None}: the system's.
        @param key: our key pair; C{None}: the key in the state directory, or a temporary one.  If C{key} is
            given, no key is read or written.
        @param dht: a DHT node of the application, which it starts and stops itself, and
            which all its users share; C{None}: the tracker creates its own.  With a node of the application,
            only the settings of C{[dht]} for reads and puts are used.  Only one
            tracker can use QUIC on its socket.
        @raise WrongType: an argument has a wrong type.
        @raise StateError: the state directory or the key can't be used, or another
            process uses the directory.
        @raise UsageError: a transport is not installed, or the socket of C{dht} carries
            another tracker's QUIC.
        """
        check_type("config", config, (Config, NoneType), "a Config")
        check_function("on_event", on_event)
        check_type("rng", rng, (Random, NoneType), "a random.Random")
        check_parts(reactor, key, dht)
        super().__init__()
        self.config = config = config or Config()
        self._state = KeptState(reactor, config.state_dir)
        with ExitStack() as failed:
            self._state.lock()
            failed.callback(self._state.unlock)
            self._assemble(reactor, on_event, rng or SystemRandom(), key, dht)
            failed.pop_all()

    def _assemble(
        self, reactor: Any, on_event: EventSink, rng: Random, key: PeerKey | None, dht: DHTNode | None
    ) -> None:
        """
        Read the state, and create all parts that the application has not passed.
        """
        config = self.config
        self._reactor = reactor
        self._on_event = on_event
        self._bound = self._stopped = False
        self._unreachable: str | None = None
        self._topics: dict[bytes, TopicService] = {}
        self._discoveries: dict[bytes, DiscoveryService] = {}
        key = key or self._state.key()
        self._key = key = key or PeerKey(rng.randbytes(KEY_BYTES))
        self._history = EventHistory(reactor)
        self._traffic = Traffic(reactor, self._totals)
        self._traffic.setServiceParent(self)
        self._started: float | None = None
        self.peer_id = key.peer_id
        self._state.load(with_memory=config.discovery.memory)
        known = self._state.node
        self._listeners = Listeners(reactor, rng, key, config, self._addresses_changed, self._emit)
        transport = self._listeners.transport
        self._watch = NetworkWatch(reactor, interfaces_of(reactor), self._network_changed)
        self._moves = 0
        self._owns_dht = dht is None
        self.dht = make_dht(reactor, rng, config.dht, known) if dht is None else dht
        self._listeners.claim_socket(self.dht)
        self._end_observing = self.dht.observe(
            self._listeners.set_external_host, self._mapping_changed, self._watch.returned
        )
        if self._owns_dht:
            self.dht.setServiceParent(self)
        self._lan = self._local_search(rng)
        self._nat = NATReporter(reactor, self._emit)
        self._port_mapping = PortMapping(
            reactor,
            rng,
            self.dht.bound_addresses,
            self._listeners.ports,
            self._listeners.set_forwarded,
            self._emit,
        )
        if config.port_mapping and not is_local(config.dht.bootstrap):
            self._port_mapping.setServiceParent(self)
        self._addresses = AddressService(
            reactor,
            rng,
            # Without transports there is nothing to publish.
            evolve(config.addresses, publish=config.addresses.publish and config.transport != ()),
            LocalPeer(key, transport.addresses, self._state.directory),
            self.dht,
            self._emit,
        )
        self._addresses.setServiceParent(self)
        self._addresses.set_on_moved(self._peer_moved)
        self._shared = SharedServices(
            reactor,
            rng,
            config,
            key,
            self.dht,
            self._addresses.book,
            transport,
            self._emit,
            reachable=self._listeners.reachable,
            symmetric=self._is_symmetric,
            reached=self._listeners.reached,
            probe=self._listeners.probe,
            keep_open=self._listeners.keep_open,
            lan=self._lan,
            memory=self._state.memory,
            ahead=self._listeners.clocks.ahead,
            behind_nat=self._behind_nat,
            heard_clock=self._listeners.clocks.heard,
        )
        self._app_streams = AppStreams(
            reactor, self._listeners.streams, self._addresses.book, lambda: tuple(self._topics)
        )
        if self._lan is not None:
            self._addresses.set_is_here(self._lan.is_here)
        dials = self._shared.dials
        self._addresses.set_has_room(lambda address: dials.has_room(address, reactor.seconds()))
        external_host = known.external_host if dht is None else dht.external_host
        if external_host is not None:
            self._listeners.set_external_host(external_host)
        self._checking = LoopingCall(self._check_addresses)
        self._checking.clock = reactor
        self._saving = LoopingCall(self._save)
        self._counting = LoopingCall(self._report_nodes)
        self._saving.clock = self._counting.clock = reactor
        self._nodes_reported = 0

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "running" if self.running else "not running"
        topics = count_of(len(self._topics), "topic")
        return f"<Tracker {self.peer_id.hex()[:10]}: {topics}, {state}>"

    def join(
        self,
        name: str | bytes | TopicId,
        secret: bytes = b"",
        rotation: Rotation = default_rotation,
        *,
        accept: Callable[[bytes], bool] | None = None,
    ) -> TopicService:
        """
        Join a topic. This is possible even before the tracker has started. It does not wait for a neighbour;
        L{TopicService.when_joined<dtt.tracker.topic.TopicService.when_joined>} does.

        @param name: a name, as text or any bytes, or a
            L{TopicId<dtt.records.topic.TopicId>}.
        @param secret: the secret that the members share.  If it is empty, anyone
            who knows the name can read the records and join.  Over iroh, anyone
            who knows the name can join in any case, unless the setting
            C{require_secret} is on.
        @param rotation: derives the encryption seed of each minute; the same for
            all members.
        @param accept: called with the peer id (32 bytes) of each member before it is
            dialled, and when it connects; returns whether it may be a neighbour.  A refused member is
            disconnected; for 10 minutes it is not dialled, and C{accept} is not called for it.  An exception
            is a refusal.  Its messages may still arrive through others.  C{None}: all may.
        @raise WrongType: an argument has a wrong type.
        @raise AlreadyJoined: the topic is already joined, or used by L{discover}.
        @raise TopicLeft: the tracker has stopped.
        @raise UsageError: the name is not Unicode text, the rotation does not return 32
            bytes, or the tracker has no transports.
        """
        check_function("accept", accept, optional=True)
        if self.config.transport == ():
            raise UsageError("this tracker has no transports (transport=()): it can only discover")
        keys = self._keys(name, secret, rotation)
        topic = TopicService(self._shared, keys, self._forget, accept)
        self._topics[keys.topic_id] = topic
        topic.setServiceParent(self)
        return topic

    def discover(
        self,
        topic: str | bytes | TopicId,
        *,
        secret: bytes = b"",
        content: bytes | None = None,
        on_found: Callable[[Found], object] | None = None,
        rotation: Rotation = default_rotation,
    ) -> DiscoveryService:
        """
        Find others that know a topic and a secret, and be found by them, without connecting. This is possible
        even before the tracker has started.

        @param topic: a name or an id, as for L{join}.  Use separate topics for swarms and for this call: they
            can't read each other's records.
        @param secret: as for L{join}.
        @param content: the content to publish, at most 712 bytes; anyone who knows the topic and the secret
            can read it.  C{None}: publish nothing.
        @param on_found: as for
            L{DiscoveryService.subscribe<dtt.tracker.discover.DiscoveryService.subscribe>}.
        @param rotation: as for L{join}.
        @raise WrongType: an argument has a wrong type.
        @raise AlreadyJoined: the topic is already in use, by this call or by L{join}.
        @raise ContentTooLarge: C{content} is more than 712 bytes.
        @raise TopicLeft: the tracker has stopped.
        @raise UsageError: as for L{join}.
        """
        check_function("on_found", on_found, optional=True)
        keys = self._keys(topic, secret, rotation)
        service = DiscoveryService(self._shared, keys, content, self._forget_discovery)
        if on_found is not None:
            service.subscribe(on_found)
        self._discoveries[keys.topic_id] = service
        service.setServiceParent(self)
        return service

    def topics(self) -> tuple[TopicService, ...]:
        """
        Return the joined topics, in the order in which they were joined.
        """
        return tuple(self._topics.values())

    def discoveries(self) -> tuple[DiscoveryService, ...]:
        """
        Return the services that L{discover} has returned and that were not left, in order.
        """
        return tuple(self._discoveries.values())

    def _all(self) -> tuple[TopicService | DiscoveryService, ...]:
        return (*self.topics(), *self.discoveries())

    @property
    def ports(self) -> dict[str, int]:
        """
        The ports that are bound: the UDP port C{dht}, and that of each transport that is
        used: C{streams} (TCP), C{quic} (that of the DHT node) and C{iroh} (UDP).  Empty
        before the tracker has started.
        """
        if not self._bound or self._stopped:
            return {}
        return {"dht": self.dht.port, **self._listeners.bound_ports()}

    def counters(self) -> dict[str, float]:
        """
        Return everything that is counted, by names in snake_case: C{dht_} and
        L{DHTNode.statistics}; C{streams_}, C{iroh_} and what the transport counts (that of
        C{quic} is counted with C{streams}); C{addresses_} and what was published and
        looked up; C{topics_} and the sum of L{TopicService.counters} of the topics that
        are joined now; C{records_} and the sum of what was read and published of them and
        of L{discoveries}.
        """
        found: Counter[str] = Counter()
        for prefix, counters in (
            ("dht", self.dht.statistics()),
            *self._listeners.counters().items(),
            ("addresses", self._addresses.counters),
            *(("topics", topic.counters()) for topic in self.topics()),
            *(("records", topic.record_counters()) for topic in self.topics()),
            *(("records", each.counters()) for each in self.discoveries()),
        ):
            for name, count in counters.items():
                found[f"{prefix}_{snake_case(name)}"] += count  # type: ignore[assignment]
        return dict(found)

    def sign(self, context: bytes, data: bytes) -> bytes:
        """
        Sign data of the application with our key: the Ed25519 signature of
        C{b"dtt/1 application"}, SHA-512 of C{context} and SHA-512 of C{data}, one after
        the other.  Nothing that dtt itself signs has this form.

        @param context: the purpose of the signature, such as C{b"my chat/1 nickname"}.  A signature for one
            context is not valid for another.
        @param data: any number of bytes.
        @return: 64 bytes.
        @raise WrongType: an argument is not C{bytes}.
        """
        check_bytes("context", context)
        check_bytes("data", data)
        return self._key.sign_application(context, data)

    @staticmethod
    def verify(peer_id: bytes, context: bytes, data: bytes, signature: bytes) -> bool:
        """
        Return whether C{signature} is what L{sign} of the member C{peer_id} returns for
        C{context} and C{data}.  If a peer id or a signature has a wrong size, the result is C{False}.

        @raise WrongType: an argument is not C{bytes}.
        """
        for name, value in (
            ("peer_id", peer_id),
            ("context", context),
            ("data", data),
            ("signature", signature),
        ):
            check_bytes(name, value)
        return verify_application(peer_id, context, data, signature)

    def _keys(self, name: str | bytes | TopicId, secret: bytes, rotation: Rotation) -> TopicKeys:
        """
        Check the arguments of L{join} and L{discover}.
        """
        check_type("the topic", name, (str, bytes), "a name (str or bytes) or a TopicId")
        check_bytes("secret", secret)
        check_function("rotation", rotation)
        topic_id = name if isinstance(name, TopicId) else TopicId.from_name(name)
        self._check_not_stopped()
        used = self._topics.get(topic_id) or self._discoveries.get(topic_id)
        if used is not None:
            what = "wait for the Deferred of leave()" if used.is_leaving else "leave it first"
            raise AlreadyJoined(f"topic {topic_id.hex()} is still in use: {what}")
        return TopicKeys(topic_id, initial_secret_hash(secret), rotation)

    def _check_not_stopped(self) -> None:
        if self._stopped:
            raise TopicLeft("the tracker has stopped; make a new one")

    def client_endpoint(
        self, peer_id: bytes, name: bytes, timeout: float = CONNECT_TIMEOUT
    ) -> StreamClientEndpoint:
        """
        Return a Twisted endpoint that opens streams to one member, over the connection
        that gossip uses, or a new one.  The member must share a topic with us, and use the
        transport streams or quic.

        @param peer_id: the member, 32 bytes.
        @param name: what it serves (L{server_endpoint}), 1..255 bytes.
        @param timeout: seconds for C{connect}, which fails with
            L{DialFailed<dtt.errors.DialFailed>} or
            L{StreamRefused<dtt.errors.StreamRefused>}.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: an argument is invalid, or neither streams nor quic is configured.
        @raise TopicLeft: the tracker has stopped.
        """
        self._check_not_stopped()
        return self._app_streams.client_endpoint(peer_id, name, timeout)

    def server_endpoint(self, name: bytes) -> StreamServerEndpoint:
        """
        Return a Twisted endpoint that serves the streams that members of our topics open
        under C{name}.  The factory gets an address with the C{peer_id} of the member; if it
        returns C{None}, the stream is refused.

        @param name: 1..255 bytes.
        @raise WrongType: the name is not C{bytes}.
        @raise UsageError: the name has another size, or neither streams nor quic is
            configured.
        @raise TopicLeft: the tracker has stopped.
        """
        self._check_not_stopped()
        return self._app_streams.server_endpoint(name)

    def observe_events(self, observer: Callable[[Event, float], None]) -> Callable[[], None]:
        """
        Call C{observer} with each event from now on, and with its time in unix seconds.

        @param observer: must not raise.
        @return: a function that stops this.
        @raise WrongType: C{observer} is not a function.
        """
        check_function("observer", observer)
        return self._history.observe(observer)

    def status(self) -> TrackerStatus:
        """
        Return a snapshot of the tracker.  This is possible at any time, even before it has started.
        """
        listeners, now = self._listeners, self._reactor.seconds()
        used, most = listeners.transport.connections_used()
        return TrackerStatus(
            version=__version__.public(),
            peer_id=bytes(self.peer_id),
            state="stopped" if self._stopped else "running" if self.running else "not running",
            time=now,
            started=self._started,
            uptime=0.0 if self._started is None else now - self._started,
            dht=dht_status(self.dht, self._traffic, interfaces_of(self._reactor)()),
            listen=listeners.listen_addresses(),
            addresses=tuple(map(shown_address, listeners.transport.addresses())),
            unreachable=listeners.why_unreachable(),
            was_reached=listeners.reachable(),
            connections=used,
            max_connections=most,
            mappings=mappings(self._port_mapping),
            topics=tuple(topic.status() for topic in self._topics.values()),
            traffic=self._traffic.samples(),
            events=self._history.status(),
            counters={**listeners.counters(), "addresses": dict(self._addresses.counters)},
        )

    def _totals(self) -> Totals:
        sent, received = datagrams(self.dht.statistics())
        topics = [topic.status_counts() for topic in self._topics.values()]
        return Totals(sent, received, sum(each[0] for each in topics), sum(each[1] for each in topics))

    def privilegedStartService(self) -> None:
        """
        Bind the ports.

        @raise StateError: another process uses the state directory since a port
            could not be bound.
        @raise ListenError: a port can't be bound.
        """
        self._bind()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Start the DHT node and all topics.

        @raise LocalError: the tracker has stopped.
        @raise UsageError: it has started already.
        @raise StateError: as L{privilegedStartService}.
        @raise ListenError: a port can't be bound.
        """
        if self.running and not self._stopped:
            raise UsageError("the tracker has started already; it starts with its parent service")
        self._bind()
        self._started = self._reactor.seconds()
        self._emit(NodeStarted(self.peer_id, self.dht.port, self._listeners.listen_addresses()))
        self.dht.when_ready().addCallbacks(
            self._dht_ready, lambda failure: failure.trap(CancelledError, LocalError)
        )
        super().startService()
        self._checking.start(CHECK_INTERVAL)
        self._watch.start()
        if self._state.directory is not None:
            self._saving.start(SAVE_INTERVAL)

    def stopService(self) -> Deferred[None]:
        """
        Leave every topic, close everything and write the state.

        @return: fires when this is done, within 2 s.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopped = True
        self._watch.stop()
        for loop in (self._saving, self._counting, self._checking):
            if loop.running:
                loop.stop()
        await gatherResults([each.leave() for each in self._all()])
        self._end_observing()
        mapping = self._port_mapping
        unmapped = succeed(None) if mapping.parent is None else maybeDeferred(mapping.disownServiceParent)
        await gatherResults([self._listeners.stop(), unmapped])
        self._save()
        await maybeDeferred(super().stopService)
        self._state.unlock()

    def _bind(self) -> None:
        if self._stopped:
            raise LocalError("a stopped tracker can't be restarted; make a new one")
        if self._bound:
            return
        self._state.lock()
        try:
            if self._owns_dht:
                dht = bind_port(self.config.dht.port, self._state.ports.dht, self._bind_dht)
            else:
                self.dht.privilegedStartService()
                dht = self._state.ports.dht
            self._listeners.use_socket(self.dht)
            self._state.ports = evolve(self._listeners.listen(self._state.ports), dht=dht)
        except ListenError:
            if self._owns_dht:
                self.dht.stopService()
            self._state.unlock()
            raise
        self._bound = self._state.may_write = True

    def _bind_dht(self, port: int) -> int:
        self.dht.port = port
        self.dht.privilegedStartService()
        return self.dht.port

    def _dht_ready(self, nodes: int) -> None:
        self._nodes_reported = nodes
        self._emit(DHTReady(nodes))
        if not self._stopped:  # an event sink may have stopped us
            # The names of bootstrap hosts are resolved only now.
            self._check_addresses()
            self._counting.start(COUNT_INTERVAL, now=False)

    def _report_nodes(self) -> None:
        """
        Report the number of known DHT nodes if it has changed much.
        """
        nodes, reported = self.dht.known, self._nodes_reported
        if nodes >= 2 * reported + 1 or 2 * nodes < reported:
            self._nodes_reported = nodes
            self._emit(DHTNodes(nodes))

    def _emit(self, event: Event) -> None:
        self._history.add(event)
        try:
            self._on_event(event)
        except Exception:
            _log.failure("on_event failed at {event}", event=event.name)

    def _check_addresses(self) -> None:
        self._listeners.set_loopback(listed=self.dht.on_loopback)
        reason = self._listeners.why_unreachable()
        if reason is not None and reason != self._unreachable:
            self._emit(AddressesMissing(reason))
        self._unreachable = reason
        self._port_mapping.check()
        self._report_nat()

    def _addresses_changed(self) -> None:
        self._addresses.update_addresses()
        for topic in self._topics.values():
            topic.update_addresses()

    def _mapping_changed(self) -> None:
        mapped = self.dht.mapped()
        self._listeners.set_mapped(mapped)
        for host in (host for host, _ in mapped if ":" not in host):
            self._port_mapping.seen_at(host)
        self._report_nat()
        self.dht.keep_mapping(behind_nat=self._listeners.behind_nat(self.dht.mapped_hosts()))
        moves = self.dht.mapping_moves()
        if moves != self._moves:
            self._moves = moves
            self._watch.mapping_changed()

    def _report_nat(self) -> None:
        own = {*interfaces_of(self._reactor)(), *(host for host, _ in self.dht.bound_addresses())}
        self._nat.report(self.dht.mapping_votes(), own)

    def _behind_nat(self) -> bool | None:
        hosts = self.dht.mapped_hosts()
        return self._listeners.behind_nat(hosts) if hosts else None

    def _is_symmetric(self) -> bool:
        return self.dht.mapping_kind() is MappingKind.SYMMETRIC and not self._port_mapping.outside

    def _peer_moved(self, peer_id: bytes, addresses: Sequence[Address]) -> None:
        self._listeners.peer_moved(peer_id, addresses)
        for topic in tuple(self._topics.values()):
            topic.peer_moved(peer_id)

    def _network_changed(self, change: Change) -> None:
        """
        Reconnect everything: the network of this machine has changed.
        """
        self._emit(NetworkChanged(change.value))
        if self._stopped:  # by an event sink
            return
        self._listeners.network_changed()
        self._shared.dials.clear()
        if change is Change.SLEPT:  # or our clock was set
            self._listeners.clocks.clear()
        if self._lan is not None:
            self._lan.search()
        if change not in (Change.MAPPING, Change.RETURNED):  # these show that the DHT works
            self.dht.network_changed()
        if change is not Change.MAPPING:
            self._addresses.network_changed()
            self._port_mapping.network_changed()
        self._addresses_changed()
        self._check_addresses()
        for each in self._all():
            each.network_changed()

    def _forget_discovery(self, service: DiscoveryService) -> None:
        if self._discoveries.get(service.topic_id) is service:
            del self._discoveries[service.topic_id]

    def _forget(self, topic: TopicService) -> None:
        if self._topics.get(topic.topic_id) is topic:
            del self._topics[topic.topic_id]

    def _save(self) -> None:
        for topic in self._topics.values():
            topic.remember_neighbors()
        self._state.save(self.dht if self._owns_dht else None)

    def _local_search(self, rng: Random) -> LocalSearch | None:
        """
        Return the search of the local network, unless it is switched off, or the DHT is on this machine.
        """
        config = self.config.dht
        hosts = [config.bind, *(host for host, _ in config.bootstrap)]
        if not self.config.discovery.lan or any(scope(host) is Scope.LOOPBACK for host in hosts):
            return None

        def ports() -> dict[bool, int]:
            return {":" in host: port for host, port in self.dht.bound_addresses()}

        interface = "" if config.bind in ("", "0.0.0.0") else config.bind
        search = LocalSearch(self._reactor, rng, ports, interface)
        search.setServiceParent(self)
        return search
