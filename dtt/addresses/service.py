"""
Addresses, as a service: the book, the stores, and what keeps our packet there.

    AddressService
     +- PacketPublisher     one for each store

Lifecycle: the constructor reads the state; C{startService} begins to publish;
C{stopService} ends all look-ups and writes the state.  The owner says when our
addresses may have changed, and claims the state directory in between.
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
from dtt.addresses.signer import Signer
from dtt.config import AddressesConfig
from dtt.errors import StateError
from dtt.events import AddressesPublished, EventSink
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, IAddressBook
from dtt.state import StateDirectory
from dtt.wire.addresses import Address

#: The file in the state directory.
PEERS_FILE = "addresses.json"

#: Seconds between two times that the state is written and our addresses are
#: looked at without being told (guess: as the tracker's own state).
SAVE_INTERVAL = 300.0


class AddressService(MultiService):
    """
    How peers are found, and how they find us.

    @ivar book: for gossip and for the tracker.
    @ivar counters: what happened, by store and reason.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: AddressesConfig,
        key: PeerKey,
        dht: IDHT,
        addresses: Callable[[], Sequence[Address]],
        state: StateDirectory | None,
        emit: EventSink,
    ) -> None:
        """
        @param reactor: provides IReactorTime and, with relays, IReactorTCP and
            IReactorPluggableNameResolver.
        @param key: who we are.
        @param addresses: what we list, of all transports (docs/protocol/addresses.md
            section 3); asked again each time.
        @param state: where the sequence number and the peers that were reached
            are kept; C{None}: nowhere.
        @raise StateError: they can't be read.
        """
        super().__init__()
        self.counters: Counter[str] = Counter()
        self._state = state
        self._signer = Signer(reactor, key, addresses, state)
        self._book = AddressBook(reactor, rng, addresses, key.peer_id)
        intervals: dict[IPacketStore, float] = {}
        if config.pkarr:
            intervals[DHTStore(dht, self.counters)] = config.pkarr_interval
        if config.relays:
            # Who has no relays need not load an HTTP client.
            from dtt.addresses.relays import Relay

            for url in dict.fromkeys(config.relays):
                intervals[Relay(reactor, url, self.counters)] = config.relay_interval
        self._resolver = Resolver(reactor, self._book, key.peer_id, tuple(intervals), self.counters)
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
        Begin.

        @raise StateError: the last sequence number can't be read.
        """
        # Once more: who had the directory when we were made may have published since.
        self._signer.load()
        super().startService()
        self._saving.start(SAVE_INTERVAL, now=False)

    def stopService(self) -> Deferred[None]:
        """
        End everything, and write the state.
        """
        if self._saving.running:
            self._saving.stop()
            self._save()
        self._resolver.stop()
        return maybeDeferred(super().stopService).addCallback(lambda _: None)

    def update_addresses(self) -> None:
        """
        Our addresses may have changed.
        """
        for publisher in self._publishers:
            publisher.update()

    def _tick(self) -> None:
        self.update_addresses()
        self._save()

    def _load(self) -> None:
        if self._state is None:
            return
        self._signer.load()
        value = self._state.read_json(PEERS_FILE)
        if value is None:
            return
        try:
            self._book.restore(from_json(value))
        except ValueError as error:
            self._log.warn(
                "{file} is not usable ({error}); starting without it.", file=PEERS_FILE, error=error
            )

    def _save(self) -> None:
        if self._state is None:
            return
        try:
            self._state.write_json(PEERS_FILE, to_json(self._book.reached()))
        except StateError as error:
            self._log.error("The state was not written: {error}", error=error)
