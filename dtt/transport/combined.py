"""
Several transports combined into one: a member has one id and one swarm over all of
them.

Rules (docs/protocol/streams.md section 4): a peer is dialled concurrently by each
transport that its addresses belong to, 250 ms apart; the first authenticated connection
wins.  A peer is connected while any transport has a connection to it: when one
connection breaks, traffic continues over another.  A topic's messages to a peer use the
first connected transport on which the peer has admitted us to the topic.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import cancel_if_active
from dtt.errors import DialFailed, NoRoom
from dtt.interfaces import ILinkPaths, IListener, IPeerTransport, ITopicLinks, LinkPath, PeerId
from dtt.transport.dialing import ATTEMPT_DELAY
from dtt.wire.addresses import Address, PeerAddress, RelayAddress, alternate


@implementer(ITopicLinks)
class _Links:
    """
    Receives one topic's events from one transport.
    """

    def __init__(self, combined: CombinedTransport, number: int, topic_id: bytes, links: ITopicLinks) -> None:
        self._combined = combined
        self._number = number
        self._topic_id = topic_id
        self._links = links

    def messages_received(self, peer_id: PeerId, messages: Sequence[bytes]) -> None:
        self._links.messages_received(peer_id, messages)

    def peer_connected(self, peer_id: PeerId) -> None:
        self._combined.connected(self._number, peer_id)
        self._links.peer_connected(peer_id)

    def peer_disconnected(self, peer_id: PeerId) -> None:
        if not self._combined.still_connected(self._number, peer_id, self._topic_id):
            self._links.peer_disconnected(peer_id)

    def link_broken(self, peer_id: PeerId, heard: float, reason: str) -> None:
        self._links.link_broken(peer_id, heard, reason)


@define(slots=True, eq=False)
class _Race:
    """
    A dial of one peer.

    @ivar peer_id: the peer (32 bytes).
    @ivar topic_id: a topic of the peer, if known.
    @ivar todo: transports not tried yet, with the addresses for each.
    @ivar result: fires when the peer is connected.
    @ivar running: dials in progress.
    @ivar reasons: why finished dials failed.
    @ivar no_room: whether all of these failed because we have too many connections.
    @ivar next_attempt: starts the next dial.
    """

    peer_id: PeerId
    topic_id: bytes | None
    todo: list[tuple[IListener, list[Address]]]
    result: Deferred[None] = field(init=False)
    running: dict[IListener, Deferred[None]] = field(factory=dict)
    reasons: list[str] = field(factory=list)
    no_room: bool = True
    next_attempt: IDelayedCall | None = None


@implementer(IPeerTransport, ILinkPaths)
class CombinedTransport:
    """
    An L{IPeerTransport} that combines several L{IListener}s.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, transports: Sequence[IListener]) -> None:
        """
        @param clock: schedules the dials.
        @param transports: transports of different kinds, in order of preference.
        """
        self._clock = clock
        self._transports = tuple(transports)
        self._by_kind = {kind: transport for transport in transports for kind in transport.kinds}
        self.finds_peers = any(transport.finds_peers for transport in transports)
        # (transport, peer, topic) where the peer is connected but has not admitted us to the topic.
        self._not_admitted: set[tuple[int, PeerId, bytes]] = set()
        self._races: dict[_Race, None] = {}

    def addresses(self) -> tuple[Address, ...]:
        """
        Return at most 12 addresses and at most one relay.  The transports' addresses
        alternate, so that none is cut off entirely.
        """
        listed = [address for transport in self._transports for address in transport.addresses()]
        relays = [a for a in listed if isinstance(a, RelayAddress)]
        return (*alternate(a for a in listed if isinstance(a, PeerAddress)), *relays[:1])

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open the topic on all transports.
        """
        for number, transport in enumerate(self._transports):
            transport.open_topic(topic_id, secret_hash, _Links(self, number, topic_id, links))

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close the topic on all transports.
        """
        self._not_admitted = {entry for entry in self._not_admitted if entry[2] != topic_id}
        for transport in self._transports:
            transport.close_topic(topic_id)

    def dial(
        self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None
    ) -> Deferred[None]:
        """
        Dial the peer on every transport that C{addresses} belong to or that finds peers
        by id.
        """
        if self.is_connected(peer_id):
            return succeed(None)
        todo: dict[IListener, list[Address]] = {}
        for address in addresses:
            if address.transport in self._by_kind:
                todo.setdefault(self._by_kind[address.transport], []).append(address)
        for transport in self._transports:
            if transport.finds_peers:
                todo.setdefault(transport, [])
        if not todo:
            return fail(DialFailed("no address"))
        race = _Race(peer_id, topic_id, list(todo.items()))
        result: Deferred[None] = Deferred(lambda _: self._end(race))
        race.result = result
        self._races[race] = None
        self._next(race)
        return result

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether any transport has a connection to the peer.
        """
        return any(transport.is_connected(peer_id) for transport in self._transports)

    def path(self, peer_id: PeerId) -> LinkPath | None:
        """
        Return how the first transport that has a connection reaches the peer; C{None} if none has one, or if
        it is unknown.
        """
        for transport in self._transports:
            if transport.is_connected(peer_id):
                paths = ILinkPaths(transport, None)
                return None if paths is None else paths.path(peer_id)
        return None

    def connections_used(self) -> tuple[int, int]:
        """
        Return the figures of the transport that has the least room.
        """
        return min((t.connections_used() for t in self._transports), key=lambda share: share[1] - share[0])

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send over the first transport that carries the topic to the peer.
        """
        return (self._carrier(peer_id, topic_id) or self._transports[0]).send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of the peer's connections on all transports.
        """
        for number, transport in enumerate(self._transports):
            self._not_admitted.discard((number, peer_id, topic_id))
            transport.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Fire when the peers are writable on all transports.
        """
        waiting = [d for d in (t.when_writable(peer_ids) for t in self._transports) if not d.called]
        if not waiting:
            return succeed(None)
        if len(waiting) == 1:
            return waiting[0]

        def unwrap(failure: Failure) -> Failure:
            return failure.value.subFailure if isinstance(failure.value, FirstError) else failure

        return gatherResults(waiting, consumeErrors=True).addCallbacks(lambda _: None, unwrap)

    # Events from the transports

    def connected(self, number: int, peer_id: PeerId) -> None:
        """
        Handle a new connection to C{peer_id} on transport C{number}.
        """
        # Transports do not report the end of a connection that was ended on request, so drop
        # entries of connections that are gone.
        self._not_admitted = {
            entry
            for entry in self._not_admitted
            if entry[:2] != (number, peer_id) and self._transports[entry[0]].is_connected(entry[1])
        }
        for race in [race for race in self._races if race.peer_id == peer_id]:
            self._won(race, self._transports[number])

    def still_connected(self, number: int, peer_id: PeerId, topic_id: bytes) -> bool:
        """
        Handle the loss of C{peer_id} on transport C{number} for one topic.

        @return: whether another transport still carries the topic to the peer.
        """
        if self._transports[number].is_connected(peer_id):
            self._not_admitted.add((number, peer_id, topic_id))
        else:
            self._not_admitted.discard((number, peer_id, topic_id))
        if self._carrier(peer_id, topic_id) is not None:
            return True
        for each in range(len(self._transports)):
            self._not_admitted.discard((each, peer_id, topic_id))
        return False

    # Internals

    def _carrier(self, peer_id: PeerId, topic_id: bytes) -> IListener | None:
        """
        Return the transport that carries the topic's messages to the peer, if any.
        """
        for number, transport in enumerate(self._transports):
            if transport.is_connected(peer_id) and (number, peer_id, topic_id) not in self._not_admitted:
                return transport
        return None

    def _next(self, race: _Race) -> None:
        """
        Start the next dial of C{race}; fail it when no dial is left.
        """
        cancel_if_active(race.next_attempt)
        race.next_attempt = None
        if not race.todo:
            if not race.running:
                self._end(race)
                error = NoRoom if race.no_room else DialFailed
                race.result.errback(error(", ".join(dict.fromkeys(race.reasons))))
            return
        transport, addresses = race.todo.pop(0)
        if race.todo:
            # Schedule this first: the dial may fail synchronously and re-enter this method.
            race.next_attempt = self._clock.callLater(ATTEMPT_DELAY, self._next, race)
        dial = race.running[transport] = transport.dial(race.peer_id, addresses, race.topic_id)
        dial.addCallbacks(
            lambda _: self._won(race, transport), lambda failure: self._lost(race, transport, failure)
        )

    def _won(self, race: _Race, transport: IListener) -> None:
        # The winning dial may not have fired yet; do not cancel it.
        race.running.pop(transport, None)
        if race in self._races:
            self._end(race)
            race.result.callback(None)

    def _lost(self, race: _Race, transport: IListener, failure: Failure) -> None:
        if race not in self._races:
            return
        del race.running[transport]
        if failure.check(DialFailed):
            race.reasons.append(failure.getErrorMessage())
            race.no_room = race.no_room and failure.check(NoRoom) is not None
        else:
            self._log.failure("unexpected error while dialling", failure)
            race.reasons.append("internal error")
        self._next(race)

    def _end(self, race: _Race) -> None:
        """
        Remove C{race} and cancel the dials in progress.
        """
        self._races.pop(race, None)
        cancel_if_active(race.next_attempt)
        for dial in tuple(race.running.values()):
            dial.cancel()
