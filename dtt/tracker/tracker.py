"""
The tracker: one DHT node, one listener, many topics.  All wiring is here.

    Tracker
     +- Listeners               the transports
     +- DHTNode                 the DHT, as a service
     +- AddressService          who is where
     +- TopicService            one for each topic
         +- Fetcher, Publisher, BubbleMerge, MessageOverlapMerge

Lifecycle: the constructor reads the state directory; C{privilegedStartService}
claims it and binds the ports; C{startService} begins to talk; C{stopService}
leaves every topic, closes everything and writes the state.  A tracker that has
stopped is done: make a new one.
"""

from __future__ import annotations

from random import Random, SystemRandom
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtt.addresses.service import AddressService
from dtt.config import Config
from dtt.dht import saved as saved_dht
from dtt.dht.node import DHTNode
from dtt.errors import AlreadyJoined, ListenError, LocalError, StateError, TopicLeft
from dtt.events import DHTReady, Event, EventSink, NodeStarted
from dtt.identity import PeerKey
from dtt.records.topic import Rotation, TopicId, default_rotation, initial_secret_hash
from dtt.state import StateDirectory, load_or_create_key
from dtt.tracker.saved import SavedPorts
from dtt.tracker.topic import SharedServices, TopicService
from dtt.tracker.transports import Listeners, bind_port

_log = Logger()

#: Files of the state directory.
KEY_FILE = "peer.key"
PORTS_FILE = "ports.json"

#: The state is written so often, and when the tracker stops (guess).
SAVE_INTERVAL = 300.0


def log_event(event: Event) -> None:
    """
    The default of C{on_event}: a line in Twisted's log.
    """
    _log.info("{dtt_event_text}", dtt_event=event, dtt_event_text=event.text())


class Tracker(MultiService):
    """
    Finds the other members of topics, and connects to them.

    @ivar peer_id: our id, 32 bytes.
    @ivar config: as given.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config | None = None,
        on_event: EventSink = log_event,
        rng: Random | None = None,
    ) -> None:
        """
        @param reactor: provides IReactorTime, IReactorTCP, IReactorUDP and
            IReactorPluggableNameResolver.
        @param on_event: told of everything that happens; one that raises is
            logged.
        @param rng: must not be predictable; the system's by default.
        @raise StateError: the state directory or the key can't be used.
        """
        super().__init__()
        self.config = config = config or Config()
        self._reactor = reactor
        self._on_event = on_event
        self._bound = self._stopped = False
        self._topics: dict[bytes, TopicService] = {}
        self._state = None if config.state_dir is None else StateDirectory(config.state_dir)
        key = PeerKey.generate() if self._state is None else load_or_create_key(self._state.path / KEY_FILE)
        self.peer_id = key.peer_id
        rng = rng or SystemRandom()
        self._ports = self._load_ports()
        known = saved_dht.SavedNode() if self._state is None else saved_dht.load(self._state)
        self._listeners = Listeners(reactor, key, config, self._addresses_changed)
        transport = self._listeners.transport
        self._dht = DHTNode(
            reactor,
            port=config.dht.port,
            interface=config.dht.bind,
            interface6=config.dht.bind6 or None,
            bootstrap=config.dht.bootstrap,
            upload_rate=config.dht.upload_rate,
            known_nodes=known.nodes,
            node_id=known.node_id,
            external_host=known.external_host,
            on_external_host=self._listeners.set_external_host,
            rng=rng,
        )
        self._dht.setServiceParent(self)
        self._addresses = AddressService(
            reactor,
            rng,
            config.addresses,
            key,
            self._dht,
            transport.addresses,
            self._state,
            self._emit,
        )
        self._addresses.setServiceParent(self)
        self._shared = SharedServices(
            reactor,
            rng,
            config,
            key,
            self._dht,
            self._addresses.book,
            transport,
            self._emit,
            reachable=self._listeners.reachable,
        )
        if known.external_host is not None:
            self._listeners.set_external_host(known.external_host)
        self._saving = LoopingCall(self._save)
        self._saving.clock = reactor

    def join(
        self,
        name: str | bytes | TopicId,
        secret: bytes = b"",
        rotation: Rotation = default_rotation,
    ) -> TopicService:
        """
        Take part in a topic.  Returns at once, also before the tracker has
        started; L{TopicService.when_joined} waits.

        @param name: text, any bytes, or a ready L{TopicId}.
        @param secret: what the members share; without it whoever knows the
            name can read the records and join.
        @param rotation: how the records' key comes about, for all members alike.
        @raise AlreadyJoined: we take part already.
        @raise TopicLeft: the tracker has stopped.
        @raise UsageError: the name is no text, or the rotation does not give 32 bytes.
        """
        topic_id = name if isinstance(name, TopicId) else TopicId.from_name(name)
        if self._stopped:
            raise TopicLeft("the tracker has stopped; make a new one")
        if topic_id in self._topics:
            raise AlreadyJoined(f"topic {topic_id.hex()} is joined already; leave it first")
        topic = TopicService(self._shared, topic_id, initial_secret_hash(secret), rotation, self._forget)
        self._topics[topic_id] = topic
        topic.setServiceParent(self)
        return topic

    def privilegedStartService(self) -> None:
        """
        Claim the state directory and bind the ports.

        @raise StateError: another process uses the state directory.
        @raise ListenError: a port can't be bound.
        """
        self._bind()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Begin to talk.
        """
        self._bind()
        self._emit(NodeStarted(self.peer_id, self._dht.port, self._listeners.places()))
        self._dht.when_ready().addCallbacks(
            lambda nodes: self._emit(DHTReady(nodes)), lambda failure: failure.trap(CancelledError)
        )
        super().startService()
        if self._state is not None:
            self._saving.start(SAVE_INTERVAL)

    def stopService(self) -> Deferred[None]:
        """
        Leave every topic, close everything, write the state.

        @return: fires when it is done, within 2 s.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopped = True
        if self._saving.running:
            self._saving.stop()
        await gatherResults([topic.leave() for topic in tuple(self._topics.values())])
        await self._listeners.stop()
        self._save()
        await maybeDeferred(super().stopService)
        if self._state is not None:
            self._state.unlock()

    def _bind(self) -> None:
        if self._stopped:
            raise LocalError("a tracker that has stopped can't start again; make a new one")
        if self._bound:
            return
        if self._state is not None:
            self._state.lock()
        try:
            bind_port(self.config.dht.port, self._ports.dht, self._bind_dht)
            self._listeners.listen(self._ports)
        except ListenError:
            self._dht.stopService()
            if self._state is not None:
                self._state.unlock()
            raise
        self._bound = True

    def _bind_dht(self, port: int) -> None:
        self._dht.port = port
        self._dht.privilegedStartService()

    def _emit(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:
            _log.failure("on_event failed at {event}", event=event.name)

    def _addresses_changed(self) -> None:
        self._addresses.update_addresses()
        for topic in self._topics.values():
            topic.update_addresses()

    def _forget(self, topic: TopicService) -> None:
        if self._topics.get(topic.topic_id) is topic:
            del self._topics[topic.topic_id]

    def _load_ports(self) -> SavedPorts:
        value = None if self._state is None else self._state.read_json(PORTS_FILE)
        if self._state is None or value is None:
            return SavedPorts()
        try:
            return SavedPorts.from_json(value)
        except ValueError as error:
            self._state.put_aside(PORTS_FILE, str(error))
            return SavedPorts()

    def _save(self) -> None:
        if self._state is None or not self._bound:
            return
        self._ports = evolve(self._listeners.ports_in(self._ports), dht=self._dht.port)
        try:
            self._state.write_json(PORTS_FILE, self._ports.to_json())
        except StateError as error:
            _log.error("The state was not written: {error}", error=error)
        saved_dht.save(self._state, self._dht)
