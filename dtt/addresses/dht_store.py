"""
Signed packets in the DHT.

Rules (docs/protocol/addresses.md section 1): a packet is a BEP44 mutable item
without salt.  The owner of the key is its only writer: it is put without
C{cas}, and a higher C{seq} replaces all earlier ones.  Values that are not valid
packets are counted by reason.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.addresses.interfaces import IPacketStore, PacketSink
from dtt.addresses.pkarr import Packet, check
from dtt.counters import snake_case
from dtt.errors import DecodeError, DTTError, LookupFailed, PublishFailed, RemoteError
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, MutableRead, NodeAnswer, PeerId

#: KRPC errors of a node that has a newer item, or one that C{cas} does not match (BEP44).
_NEWER = frozenset((301, 302))

#: The number of nodes that store a packet (k of the mainline crate: iroh queries as
#: many).
COPIES = 20

#: L{DHTStore.peek} queries two nodes, of the nearest twenty in turn, and looks them up again after C{PEEKS}
#: calls (guesses: a packet is put on 20 nodes, but some may refuse it, or be asked too often to be asked now;
#: the nodes change little in ten minutes).
PEEKED: Final = 2
PEEK_WIDTH: Final = COPIES
PEEKS: Final = 120

#: The peers whose nodes are known to L{DHTStore.peek}, the latest.
MAX_PEEKED: Final = 5


@define(slots=True)
class _Peeked:
    """
    The nodes that store the packet of a peer.

    @ivar read: their answers.
    @ivar left: the number of calls for which they are used.
    """

    read: MutableRead
    left: int = PEEKS

    def next(self) -> MutableRead:
        """
        Return the answers of those to query now.
        """
        self.left -= 1
        answers = self.read.answers[:PEEK_WIDTH]
        first = PEEKED * self.left % max(1, len(answers))
        return evolve(self.read, answers=(*answers[first:], *answers[:first])[:PEEKED])


@implementer(IPacketStore)
class DHTStore:
    """
    The DHT as a store.

    @ivar counters: counts C{"dht: <reason>"}.
    """

    name = "dht"

    def __init__(self, dht: IDHT, counters: Counter[str]) -> None:
        """
        @param dht: the DHT node.
        @param counters: counts failures and invalid packets by reason.
        """
        self.counters = counters
        self._dht = dht
        self._peeked: OrderedDict[PeerId, _Peeked] = OrderedDict()

    def when_ready(self) -> Deferred[None]:
        """
        Wait until a DHT node has answered.
        """
        return self._dht.when_ready().addCallback(lambda _: None)

    def find(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Read the packets of a peer from the DHT.
        """
        reading = self._dht.get_mutable(peer_id, b"", self._reader(peer_id, on_packet))
        return reading.addCallbacks(lambda _: None, self._failed)

    def peek(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Read the packet of a peer from two of the nodes that store it; look them up first if they are unknown.
        """

        def found(read: MutableRead) -> None:
            self._peeked[peer_id] = _Peeked(read)
            if len(self._peeked) > MAX_PEEKED:
                self._peeked.popitem(last=False)

        answered = self._reader(peer_id, on_packet)
        peeked = self._peeked.get(peer_id)
        if peeked is None or not peeked.left:
            return self._dht.get_mutable(peer_id, b"", answered).addCallbacks(found, self._failed)
        self._peeked.move_to_end(peer_id)
        return self._dht.refresh(peeked.next(), answered, PEEKED).addCallbacks(lambda _: None, self._failed)

    def _reader(self, peer_id: PeerId, on_packet: PacketSink) -> Callable[[NodeAnswer], None]:
        """
        Return a function that takes the answers of nodes, and passes on each distinct packet once.
        """
        seen: set[tuple[int, bytes]] = set()

        def answered(answer: NodeAnswer) -> None:
            if answer.value is None or answer.seq is None:
                return
            packet = Packet(peer_id, answer.seq, answer.value)
            if packet.version() in seen:
                return
            seen.add(packet.version())
            try:
                check(packet)
            except DecodeError as error:
                self.counters[f"{self.name}: {snake_case(str(error))}"] += 1
            else:
                on_packet(packet)

        return answered

    def _failed(self, failure: Failure) -> None:
        failure.trap(DTTError)
        self.counters[f"{self.name}: {snake_case(_reason(failure.value))}"] += 1

    def publish(self, key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        Put a packet into the DHT.  It is published if at least one node stores it.
        """
        return Deferred.fromCoroutine(self._publish(key, packet))

    async def _publish(self, key: PeerKey, packet: Packet) -> None:
        try:
            await self._put(key, packet)
        except PublishFailed:
            raise
        except RemoteError as error:
            raise PublishFailed(_reason(error)) from None

    async def _put(self, key: PeerKey, packet: Packet) -> None:
        read = await self._dht.get_mutable(key.peer_id)
        _refuse_if_newer(read, packet)
        result = await self._dht.put_latest(key.seed, packet.dns, packet.seq, read=read, copies=COPIES)
        if any(code in _NEWER for _, code in result.refused):
            # A node's error proves nothing; an item with our signature does.
            _refuse_if_newer(await self._dht.refresh(read), packet)
        if not result.stored:
            raise PublishFailed("no node stored it")


def _reason(error: BaseException | None) -> str:
    """
    Return a reason that is identical for identical faults: that of L{LookupFailed}
    contains the number of nodes.
    """
    return "no node answered" if isinstance(error, LookupFailed) else str(error)


def _refuse_if_newer(read: MutableRead, packet: Packet) -> None:
    """
    @raise PublishFailed: a node has one of our packets that takes precedence over C{packet}.
    """
    versions = [(a.seq, a.value) for a in read.answers if a.seq is not None and a.value is not None]
    if versions and max(versions) > packet.version():
        raise PublishFailed("newer packet", newer_seq=max(versions)[0])
