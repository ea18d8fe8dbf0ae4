"""
The tracker: assembles one DHT node, the transports and any number of topics.

The services form a tree::

    Tracker
     +- Listeners               the transports
     +- DHTNode                 the DHT, as a service
     +- AddressService          publication and lookup of addresses
     +- TopicService            one for each topic
         +- Fetcher, Publisher, BubbleMerge, MessageOverlapMerge

Lifecycle: the constructor reads the state directory; C{privilegedStartService}
locks it and binds the ports; C{startService} starts all network traffic;
C{stopService} leaves every topic, closes everything and writes the state.  A
stopped tracker can't be restarted: make a new one.
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
from dtt.discovery.shared import SharedServices
from dtt.errors import AlreadyJoined, ListenError, LocalError, TopicLeft
from dtt.events import DHTReady, Event, EventSink, NodeStarted
from dtt.identity import PeerKey
from dtt.records.topic import Rotation, TopicId, TopicKeys, default_rotation, initial_secret_hash
from dtt.state import StateDirectory, StateFile, load_or_create_key
from dtt.tracker.saved import SavedPorts
from dtt.tracker.topic import TopicService
from dtt.tracker.transports import Listeners, bind_port

_log = Logger()

#: Files of the state directory.
KEY_FILE = "peer.key"
PORTS_FILE = "ports.json"

#: Seconds between two writes of the state, which is also written when the tracker
#: stops (guess).
SAVE_INTERVAL = 300.0


def log_event(event: Event) -> None:
    """
    Log an event with Twisted's logger: the default of C{on_event}.
    """
    _log.info("{dtt_event_text}", dtt_event=event, dtt_event_text=event.text())


class Tracker(MultiService):
    """
    Finds the other members of topics, and connects to them.

    @ivar peer_id: our peer id, 32 bytes.
    @ivar config: the settings.
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
        @param config: the settings; C{None}: the defaults.
        @param on_event: called with each event.  An exception that it raises is
            logged.
        @param rng: an unpredictable random number generator; C{None}: the
            system's.
        @raise StateError: the state directory or the key can't be used.
        @raise UsageError: a transport is not installed.
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
        self._ports_file = StateFile(self._state, PORTS_FILE, SavedPorts.from_json, SavedPorts.to_json)
        self._ports = self._ports_file.load() or SavedPorts()
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
        Join a topic.  Possible also before the tracker has started.  Does not
        wait for a neighbour;
        L{TopicService.when_joined<dtt.tracker.topic.TopicService.when_joined>}
        does.

        @param name: a name, as text or any bytes, or a
            L{TopicId<dtt.records.topic.TopicId>}.
        @param secret: the secret that the members share.  If it is empty, anyone
            who knows the name can read the records and join.
        @param rotation: derives the encryption seed of each minute; the same for
            all members.
        @raise AlreadyJoined: the topic is already joined.
        @raise TopicLeft: the tracker has stopped.
        @raise UsageError: the name is not Unicode text, or the rotation does not
            return 32 bytes.
        """
        topic_id = name if isinstance(name, TopicId) else TopicId.from_name(name)
        if self._stopped:
            raise TopicLeft("the tracker has stopped; make a new one")
        if topic_id in self._topics:
            raise AlreadyJoined(f"topic {topic_id.hex()} is already joined; leave it first")
        topic = TopicService(
            self._shared, TopicKeys(topic_id, initial_secret_hash(secret), rotation), self._forget
        )
        self._topics[topic_id] = topic
        topic.setServiceParent(self)
        return topic

    def privilegedStartService(self) -> None:
        """
        Lock the state directory and bind the ports.

        @raise StateError: another process uses the state directory.
        @raise ListenError: a port can't be bound.
        """
        self._bind()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Start the DHT node and all topics.

        @raise LocalError: the tracker has stopped.
        @raise StateError: another process uses the state directory.
        @raise ListenError: a port can't be bound.
        """
        self._bind()
        self._emit(NodeStarted(self.peer_id, self._dht.port, self._listeners.listen_addresses()))
        self._dht.when_ready().addCallbacks(
            lambda nodes: self._emit(DHTReady(nodes)), lambda failure: failure.trap(CancelledError)
        )
        super().startService()
        if self._state is not None:
            self._saving.start(SAVE_INTERVAL)

    def stopService(self) -> Deferred[None]:
        """
        Leave every topic, close everything and write the state.

        @return: fires when this is done, within 2 s.
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
            raise LocalError("a stopped tracker can't be restarted; make a new one")
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

    def _save(self) -> None:
        if self._state is None or not self._bound:
            return
        self._ports = evolve(self._listeners.ports_in(self._ports), dht=self._dht.port)
        self._ports_file.save(self._ports)
        saved_dht.save(self._state, self._dht)
