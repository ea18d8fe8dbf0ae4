"""
Publication and lookup of addresses, as a service: assembles the address book, the
stores, and the publishers of our packet.

The services form a tree::

    AddressService
     +- PacketPublisher     one for each store

Lifecycle: the constructor reads the state; C{startService} starts publishing;
C{stopService} cancels all lookups and writes the state.  The owner locks the
state directory before C{startService}, and calls C{update_addresses} when our
addresses may have changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtt.addresses.book import AddressBook
from dtt.addresses.dht_store import DHTStore
from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.publisher import PacketPublisher
from dtt.addresses.resolver import Resolver
from dtt.addresses.saved import from_json, to_json
from dtt.addresses.signer import LocalPeer, Signer
from dtt.config import AddressesConfig
from dtt.events import AddressesPublished, EventSink
from dtt.interfaces import IDHT, IAddressBook, PeerId
from dtt.state import StateFile
from dtt.wire.addresses import Address

#: The file in the state directory.
PEERS_FILE = "addresses.json"

#: Seconds between two writes of the state, and between two checks whether our
#: addresses have changed without a notification (guess: as for the tracker's state).
SAVE_INTERVAL = 300.0


class AddressService(MultiService):
    """
    Looks up the addresses of peers, and publishes ours.

    @ivar book: the address book, which also queries the stores.
    @ivar counters: event counters, by store and reason.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: AddressesConfig,
        local: LocalPeer,
        dht: IDHT,
        emit: EventSink,
    ) -> None:
        """
        @param reactor: provides IReactorTime and, with relays, IReactorTCP and
            IReactorPluggableNameResolver.
        @param rng: draws the jitter of back-offs.
        @param config: the settings.
        @param local: ourselves.
        @param dht: the DHT node.
        @param emit: called with each L{AddressesPublished<dtt.events.AddressesPublished>}.
        @raise StateError: the state can't be read.
        """
        super().__init__()
        self.counters: Counter[str] = Counter()
        own_id = local.key.peer_id
        self._peers_file = StateFile(local.state, PEERS_FILE, from_json, to_json)
        self._signer = Signer(reactor, local)
        self._book = AddressBook(reactor, rng, local.addresses, own_id)
        intervals: dict[IPacketStore, float] = {}
        if config.pkarr:
            intervals[DHTStore(dht, self.counters)] = config.pkarr_interval
        if config.relays:
            # Import the HTTP client only if there are relays.
            from dtt.addresses.relays import Relay

            for url in dict.fromkeys(config.relays):
                intervals[Relay(reactor, url, self.counters)] = config.relay_interval
        self._resolver = Resolver(reactor, self._book, own_id, tuple(intervals), self.counters)
        self.book: IAddressBook = self._resolver
        self._publishers: list[PacketPublisher] = []
        if config.publish:
            for store, interval in intervals.items():
                publisher = PacketPublisher(
                    reactor,
                    self._signer,
                    store,
                    interval,
                    self.counters,
                    lambda where, count: emit(AddressesPublished(where, count)),
                )
                publisher.setServiceParent(self)
                self._publishers.append(publisher)
        self._saving = LoopingCall(self._tick)
        self._saving.clock = reactor
        self._load()

    def startService(self) -> None:
        """
        Start publishing.

        @raise StateError: the last sequence number can't be read.
        """
        # Load again: the previous process may have published after we were constructed.
        self._signer.load()
        super().startService()
        self._saving.start(SAVE_INTERVAL, now=False)

    def stopService(self) -> Deferred[None]:
        """
        Stop publishing, cancel all lookups, and write the state.

        @return: fires when this is done.
        """
        if self._saving.running:
            self._saving.stop()
            self._save()
        self._resolver.stop()
        return maybeDeferred(super().stopService).addCallback(lambda _: None)

    def set_on_moved(self, on_moved: Callable[[PeerId, Sequence[Address]], object]) -> None:
        """
        Call C{on_moved} with a peer of which addresses are known, and these addresses,
        when another one is learned.
        """
        self._book.on_moved = on_moved

    def set_has_room(self, has_room: Callable[[Address], bool]) -> None:
        """
        Dial only addresses for which C{has_room} returns true.
        """
        self._book.has_room = has_room

    def set_is_here(self, is_here: Callable[[str], bool]) -> None:
        """
        Dial private addresses also of hosts for which C{is_here} returns true.
        """
        self._book.is_here = is_here

    def network_changed(self) -> None:
        """
        Forget that dials have failed: the network of this machine has changed.
        """
        self._book.network_changed()

    def update_addresses(self) -> None:
        """
        Publish again soon if our addresses have changed.
        """
        for publisher in self._publishers:
            publisher.update()

    def _tick(self) -> None:
        self.update_addresses()
        self._save()

    def _load(self) -> None:
        self._signer.load()
        self._book.restore(self._peers_file.load() or [])

    def _save(self) -> None:
        self._peers_file.save(self._book.reached())
