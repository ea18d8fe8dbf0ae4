"""
The progress of two members, reconstructed from their packets.

Queries of the Mainline DHT are decoded to find out which items they are about. Of
interest are items with a salt, the slots of a topic, and peers of an info hash; items
without a salt are addresses (pkarr).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from socket import inet_aton
from typing import Any, TypeAlias

from attrs import define, field, frozen

from benchmarks.wan.carrier import Address, Passage
from benchmarks.wan.packets import ACK, SYN, TCP, UDP, Packet
from dtt.krpc.bencode import decode

#: DHT queries that read something, and those that write it.
_GETS = (b"get", b"get_peers")
_PUTS = (b"put", b"announce_peer")

#: The number of data flights over TCP reported: for TLS 1.3 the two hellos, the client's next flight,
#: and the answer.
_FLIGHTS = 4

_Values: TypeAlias = Mapping[bytes, Any]


@frozen(slots=True)
class Step:
    """
    A step that a member has reached.

    @ivar time: when, by the reactor's clock.
    @ivar member: which member.
    @ivar words: a description of the step.
    @ivar datagrams: the number of datagrams that it had sent to the DHT until then.
    """

    time: float
    member: int
    words: str
    datagrams: int


def _message(payload: bytes) -> _Values:
    """
    Decode a message of the Mainline DHT; empty if it is none.
    """
    if not payload.startswith(b"d"):
        return {}
    try:
        message = decode(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _dictionary(message: _Values, key: bytes) -> _Values:
    value = message.get(key)
    return value if isinstance(value, dict) else {}


def _target(arguments: _Values) -> bytes:
    """
    The target of a query.
    """
    if b"k" in arguments:
        return sha1(arguments[b"k"] + arguments.get(b"salt", b"")).digest()
    if b"v" in arguments:
        return b""  # an immutable item
    target = arguments.get(b"target", arguments.get(b"info_hash", b""))
    return target if isinstance(target, bytes) else b""


def _looked_for(passages: Sequence[Passage]) -> dict[bytes, str]:
    """
    For each target that something is put at, what it is.
    """
    kinds = {}
    for passage in passages:
        message = _message(passage.packet.payload) if passage.packet.protocol == UDP else {}
        if message.get(b"q") in _PUTS:
            arguments = _dictionary(message, b"a")
            address = b"k" in arguments and not arguments.get(b"salt")
            kinds[_target(arguments)] = "an address" if address else "the topic"
    return kinds


@define
class _Story:
    """
    The progress of one member.

    @ivar host: its address.
    @ivar members: the addresses of both members.
    @ivar wanted: the targets of interest and their descriptions.
    @ivar since: earlier steps don't count.
    @ivar datagrams: the number of datagrams it has sent to the DHT since then.
    @ivar steps: the first time of each step, and the datagrams until then.
    """

    host: str
    members: Sequence[str]
    wanted: Mapping[bytes, str]
    since: float
    datagrams: int = 0
    steps: dict[str, tuple[float, int]] = field(factory=dict)
    # Open queries by address and transaction: the method and the target.
    _queries: dict[tuple[str, int, bytes], tuple[bytes, bytes]] = field(factory=dict)
    # Values that this member put.
    _own: set[str] = field(factory=set)
    # The number of direction changes of TCP data with the other member.
    _flights: int = 0
    _sending: bool = False

    def reach(self, time: float, words: str) -> None:
        """
        Record a step, if this is its first time.
        """
        if time >= self.since:
            self.steps.setdefault(words, (time, self.datagrams))

    def take(self, at: float, packet: Packet) -> None:
        """
        Process a packet that it sends or receives, in order.
        """
        sent = packet.source == self.host
        if packet.protocol == TCP:
            self._segment(at, sent, packet)
        elif packet.protocol == UDP and packet.payload:
            other = (packet.destination, packet.ports[1]) if sent else (packet.source, packet.ports[0])
            message = _message(packet.payload)
            if other[0] not in self.members:
                self._datagram(at, sent)
            elif not message:
                self.reach(at, f"first datagram {'to' if sent else 'from'} the other member")
            if sent and message.get(b"y") == b"q":
                self._query(at, other, message)
            elif not sent and message.get(b"y") in (b"r", b"e"):
                self._answer(at, other, message)

    def _datagram(self, at: float, sent: bool) -> None:
        if sent and at >= self.since:
            self.datagrams += 1
        self.reach(at, "first datagram to the DHT" if sent else "first datagram from the DHT")

    def _query(self, at: float, other: Address, message: _Values) -> None:
        method, arguments = message.get(b"q", b""), _dictionary(message, b"a")
        target = _target(arguments)
        self._queries[(*other, message.get(b"t", b""))] = method, target
        if method in _PUTS:
            self._own.add(repr(arguments.get(b"v")))
        if target in self.wanted and method in (*_GETS, *_PUTS):
            self.reach(at, f"{self.wanted[target]}: first {'get' if method in _GETS else 'put'}")

    def _answer(self, at: float, other: Address, message: _Values) -> None:
        method, target = self._queries.pop((*other, message.get(b"t", b"")), (b"", b""))
        reply = _dictionary(message, b"r")
        if target not in self.wanted or not reply:
            return
        if method in _PUTS:
            self.reach(at, f"{self.wanted[target]}: first put is stored")
        elif method in _GETS:
            self.reach(at, f"{self.wanted[target]}: first answer")
            if self._others(reply):
                self.reach(at, f"{self.wanted[target]}: first value from another member")

    def _others(self, reply: _Values) -> bool:
        """
        Does an answer contain something that another member has put or announced?
        """
        if b"v" in reply:
            return repr(reply[b"v"]) not in self._own
        peers = reply.get(b"values")
        own = inet_aton(self.host)
        return isinstance(peers, list) and any(peer[:4] != own for peer in peers)

    def _segment(self, at: float, sent: bool, packet: Packet) -> None:
        way = "sent" if sent else "received"
        if packet.flags & SYN:
            self.reach(at, f"TCP: {'SYN-ACK' if packet.flags & ACK else 'SYN'} {way}")
        elif packet.payload and (not self._flights or sent is not self._sending):
            self._flights += 1
            self._sending = sent
            if self._flights <= _FLIGHTS:
                self.reach(at, f"TCP: data {way}, flight {self._flights}")


class Trace:
    """
    Records packets and derives the steps from them.

    @ivar passages: all packets that the two members have sent and received.
    """

    def __init__(self, members: Sequence[str]) -> None:
        """
        @param members: their addresses.
        """
        self._members = list(members)
        self.passages: list[Passage] = []

    def watch(self, passage: Passage) -> None:
        """
        Record a packet from any host.
        """
        if passage.packet.source in self._members or passage.packet.destination in self._members:
            self.passages.append(passage)

    def _sent(self, member: int) -> Iterator[float]:
        """
        The times at which a member sent a datagram to the DHT.
        """
        for sent, _, packet in self.passages:
            ours = packet.protocol == UDP and packet.source == self._members[member]
            if ours and packet.destination not in self._members:
                yield sent

    def started(self, member: int, since: float = 0.0) -> float | None:
        """
        When a member sent its first datagram to the DHT after C{since}.
        """
        return next((sent for sent in self._sent(member) if sent >= since), None)

    def datagrams(self, member: int, since: float, until: float) -> int:
        """
        The number of datagrams a member sent to the DHT.
        """
        return sum(since <= sent <= until for sent in self._sent(member))

    def _events(self, member: int) -> list[tuple[float, Packet]]:
        """
        The packets that a member sent and received, in order.
        """
        events = []
        for sent, arrived, packet in self.passages:
            if packet.source == self._members[member]:
                events.append((sent, packet))
            elif packet.destination == self._members[member] and arrived is not None:
                events.append((arrived, packet))
        return sorted(events, key=lambda event: event[0])

    def steps(self, since: float, joined: Sequence[float | None]) -> list[Step]:
        """
        All steps of both members after C{since}, in order.

        @param joined: when each member reported that it joined.
        """
        wanted = _looked_for(self.passages)
        steps = []
        for member, end in enumerate(joined):
            story = _Story(self._members[member], self._members, wanted, since)
            for at, packet in self._events(member):
                if end is not None and at > end:
                    story.reach(end, "joined")
                story.take(at, packet)
            if end is not None:
                story.reach(end, "joined")
            steps += [Step(at, member, words, sent) for words, (at, sent) in story.steps.items()]
        return sorted(steps, key=lambda step: step.time)
