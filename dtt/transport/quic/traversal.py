"""
NAT traversal: which probes are sent where and when, and which paths they prove.  Sans-I/O.

Rules (docs/protocol/quic.md section 3):
  - Both sides probe each other at the same time, as soon as they know each other's
    addresses; a NAT admits a datagram once one has been sent to its source.
  - A peer's first address of each family gets the full schedule, over 150 s, since the
    other side may read our record later; its other addresses get the first five probes.
  - Every valid PING is answered.  The address that it came from may be forged: it gets at most three of our
    probes until it answers one, whatever ids the PINGs name, and three more after 30 s at the earliest.
  - A PONG to our PING, from the address to which it was sent, proves the path.
  - No IP address gets more than 60 unanswered probes within 10 minutes, from all peers together.  After the
    first 44 it gets one every 28 s: thus our NAT is open for a peer whose network was gone when that returns.
    A probe in answer to a PING does not count: whoever could make us send it also gets a PONG.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final, TypeAlias

from attrs import define, frozen

from dtt.interfaces import PeerId
from dtt.net.networks import Scope, scope
from dtt.transport.quic.probes import NONCE_SIZE, Probe, Probes

#: A host and a port.
SocketAddress: TypeAlias = tuple[str, int]

#: Seconds from the start at which an address is probed (docs/protocol/quic.md section 3).
SCHEDULE: Final = (
    *(0.0, 0.05, 0.15, 0.3, 0.5, 0.8, 1.1, 1.5),
    *(1.5 + 0.5 * number for number in range(1, 8)),
    *(5.0 * number for number in range(2, 31)),
)

#: The number of probes for further addresses of a peer, and for one that a PING came from.
FURTHER: Final = 5
LEARNT: Final = 3

#: The number of probes for the first address of a peer that is looking for us now, as
#: another member or its record says (docs/protocol/quic.md sections 8 and 9).
LET_IN: Final = 8

#: Seconds until an address that a PING came from, and that has not answered, gets
#: probes again (guess: much longer than the PINGs of one schedule follow each other).
LEARN_AGAIN: Final = 30.0

#: Unanswered probes that one IP address gets, and the seconds within which.
MAX_UNANSWERED: Final = 60
UNANSWERED_WINDOW: Final = 600.0

#: Those of them that it gets without a pause: a whole schedule.  The pause before each further one (guess:
#: less than the 30 s for which a NAT keeps an unanswered mapping; the rest lasts for the window).
FREE_UNANSWERED: Final = len(SCHEDULE)
TRICKLE: Final = 28.0

#: IP addresses that have answered, and are therefore no victims (guess).
MAX_ANSWERED: Final = 512

#: Seconds for which a proved path may be used to open a connection (guess: a NAT keeps
#: an unused UDP mapping for at least 30 s, RFC 4787 REQ-5 recommends 120).
PROVED_FOR: Final = 30.0

#: Seconds until a PING that was not answered is forgotten (the longest round trip).
ANSWER_WITHIN: Final = 10.0

#: Peers probed at the same time, and up to how many there may be for a peer that has sent
#: us a PING to be added; addresses of one peer that such PINGs came from, its other
#: addresses, and proved paths (guesses).
MAX_PEERS: Final = 128
MAX_LEARNT_PEERS: Final = MAX_PEERS // 2
MAX_LEARNT_ADDRESSES: Final = 4
MAX_ADDRESSES: Final = 12
MAX_PROVED: Final = 512
#: Topics whose keys one schedule uses (guess: a peer answers if it has one of them).
MAX_TOPICS: Final = 4
#: IP addresses whose unanswered probes are counted.  When there are more, no further
#: address is probed.
MAX_COUNTED: Final = 4096


@frozen(slots=True)
class Path:
    """
    A proved path: an output of L{Traversal}.

    @ivar peer_id: the peer at its end (32 bytes).
    @ivar address: where the peer receives what we send.
    @ivar began: when the probing of the peer began, in seconds.
    """

    peer_id: PeerId
    address: SocketAddress
    began: float = 0.0


@define(slots=True, eq=False)
class _Target:
    """
    The probing of one address of one peer.

    @ivar topic_ids: whose keys seal the probes, in turn.
    @ivar began: the time of the first probe.
    @ivar sent: the number of probes sent.
    @ivar limit: the number of probes to send.
    """

    peer_id: PeerId
    address: SocketAddress
    topic_ids: list[bytes]
    began: float
    limit: int
    sent: int = 0


class Traversal:
    """
    The probes of one member.

    @ivar counters: probes sent and received, and why some were not.
    @ivar reached: whether a valid PING has come from a global address to which we had not sent a probe
        before: then no NAT or firewall blocks peers.
    """

    def __init__(
        self,
        own_id: PeerId,
        rng: Random,
        counters: Counter[str],
        unix: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        """
        @param own_id: our peer id (32 bytes).
        @param rng: the source of nonces, which must be unpredictable.
        @param counters: incremented for each event.
        @param unix: turns the time of all methods into unix seconds.
        """
        self._unix = unix
        self.probes = Probes(own_id)
        self.counters = counters
        self.reached = False
        self._rng = rng
        # The IP addresses that were probed, the oldest first.
        self._opened: dict[str, None] = {}
        self._targets: dict[PeerId, dict[SocketAddress, _Target]] = {}
        # Due times; the serial number preserves the order of those at the same time.
        self._due: list[tuple[float, int, _Target]] = []
        self._serial = 0
        # PINGs that wait for their PONG, by nonce, the oldest first.
        self._pings: dict[bytes, tuple[float, _Target]] = {}
        # The number of PINGs that wait for their PONG, by address.
        self._asked: Counter[SocketAddress] = Counter()
        # When an address that a PING came from got the first probe, the oldest first.
        self._learnt: dict[SocketAddress, float] = {}
        # When unanswered probes were sent, by IP address.
        self._unanswered: dict[str, deque[float]] = {}
        self._proved: dict[SocketAddress, tuple[float, PeerId]] = {}
        # Those of them over which there has been a connection since.
        self._used: set[SocketAddress] = set()
        # IP addresses that have ever answered, the latest last.
        self._answered: dict[str, None] = {}

    # Input

    def want(
        self,
        peer_id: PeerId,
        addresses: Sequence[SocketAddress],
        topic_ids: Iterable[bytes],
        now: float,
        most: int = len(SCHEDULE),
    ) -> None:
        """
        Probe a peer.  Addresses that are being probed stay unchanged, new ones are added, and those whose
        schedule has ended start again.

        @param addresses: the most likely first; at most L{MAX_ADDRESSES} are used.
        @param topic_ids: topics that we may share with the peer.  At most
            L{MAX_TOPICS} open ones are used, one for each probe in turn.
        @param most: the maximum number of probes for an address.
        """
        topics = [topic for topic in topic_ids if self.probes.is_open(topic)][:MAX_TOPICS]
        if not topics:
            return
        targets = self._targets.get(peer_id)
        if targets is None:
            if len(self._targets) >= MAX_PEERS:
                self.counters["probe_too_many_peers"] += 1
                return
            targets = self._targets[peer_id] = {}
        _drop_finished(targets)
        families: set[bool] = set()
        for address in addresses[:MAX_ADDRESSES]:
            is_six = ":" in address[0]
            limit = min(most, FURTHER if is_six in families else len(SCHEDULE))
            families.add(is_six)
            known = targets.get(address)
            if known is not None:
                known.limit = max(known.limit, limit)
                known.topic_ids = list(dict.fromkeys((*topics, *known.topic_ids)))[:MAX_TOPICS]
            elif sum(target.limit != LEARNT for target in targets.values()) < MAX_ADDRESSES:
                self._begin(_Target(peer_id, address, topics, now, limit))

    def connected(self, peer_id: PeerId) -> None:
        """
        Stop probing a peer: it is connected.  When the connection ends, the path to it may be dead, and must
        be proved again.
        """
        for target in self._targets.pop(peer_id, {}).values():
            target.limit = 0
        self._used.update(address for address, (_, proved) in self._proved.items() if proved == peer_id)

    def restart(self, now: float) -> None:
        """
        Begin the schedules in progress again, and forget all proved paths: our network
        has changed.

        The limit of unanswered probes is reset for addresses that have answered before: they are not victims.
        """
        for host in self._answered:
            self._unanswered.pop(host, None)
        self._proved.clear()
        self._used.clear()
        for peer_id, targets in self._targets.items():
            for address, target in list(targets.items()):
                if target.sent < target.limit:
                    again = _Target(peer_id, address, target.topic_ids, now, target.limit)
                    # What was scheduled for it is void.
                    target.limit = 0
                    self._begin(again)

    def receive(
        self, datagram: bytes, address: SocketAddress, now: float
    ) -> tuple[list[tuple[bytes, SocketAddress]], Path | None]:
        """
        Handle a datagram that begins like a probe.

        @return: the datagrams to send, and the path that is proved now.
        """
        probe = self.probes.open(datagram, self._unix(now))
        if probe is None:
            self.counters["dropped_probe"] += 1
            return [], None
        if probe.is_ping:
            return self._ping_received(probe, address, now), None
        return [], self._pong_received(probe, address, now)

    def poll(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """
        Return the probes that are due.
        """
        self._forget(now)
        found: list[tuple[bytes, SocketAddress]] = []
        while self._due and self._due[0][0] <= now:
            target = heapq.heappop(self._due)[2]
            if target.sent < target.limit:
                found += self._probe(target, now)
                self._schedule(target)
        return found

    # Output

    def next_time(self) -> float | None:
        """
        Return when to call L{poll} next.
        """
        while self._due and self._due[0][2].sent >= self._due[0][2].limit:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def is_probing(self, peer_id: PeerId) -> bool:
        """
        Return whether more probes will be sent to a peer.
        """
        return any(target.sent < target.limit for target in self._targets.get(peer_id, {}).values())

    def proved(self, address: SocketAddress, now: float) -> PeerId | None:
        """
        Return the peer that has answered a probe at C{address} recently, if any.
        """
        entry = self._proved.get(address)
        return None if entry is None or entry[0] + PROVED_FOR < now else entry[1]

    def is_asked(self, address: SocketAddress) -> bool:
        """
        Return whether our PING to C{address} waits for its answer.
        """
        return address in self._asked

    def path_to(self, peer_id: PeerId, now: float) -> SocketAddress | None:
        """
        Return the address of the latest proved path to a peer, if there has been no connection since.
        """
        for address, (at, proved) in reversed(self._proved.items()):
            if proved == peer_id and at + PROVED_FOR >= now and address not in self._used:
                return address
        return None

    def disprove(self, address: SocketAddress) -> None:
        """
        Forget the path to C{address}: no connection could be opened there.
        """
        self._proved.pop(address, None)
        self._used.discard(address)

    # Internals

    def _ping_received(
        self, probe: Probe, address: SocketAddress, now: float
    ) -> list[tuple[bytes, SocketAddress]]:
        self.counters["received_ping"] += 1
        if not self.reached and address[0] not in self._opened:
            self.reached = scope(address[0]) is Scope.GLOBAL
        sending: list[tuple[bytes, SocketAddress]] = []
        if self.proved(address, now) is None or address in self._used:
            targets = self._targets.get(probe.sender, {})
            target = targets.get(address)
            if target is None or target.sent >= target.limit:
                # Sent before the PONG: the peer answers it before it opens a connection.
                target = _Target(probe.sender, address, [probe.topic_id], now, LEARNT)
                _drop_finished(targets)
                of_peer = sum(each.limit == LEARNT for each in targets.values())
                if probe.sender not in self._targets and len(self._targets) >= MAX_LEARNT_PEERS:
                    self.counters["probe_too_many_peers"] += 1
                elif of_peer < MAX_LEARNT_ADDRESSES and self._learn(address, now):
                    self._targets.setdefault(probe.sender, {})[address] = target
                    sending += self._probe(target, now, in_answer=True)
                    self._schedule(target)
            elif target.sent:
                # Our next probe may be seconds away, and the path is open now.
                sending += self._probe(target, now, in_answer=True)
        sending.append((self.probes.pong(probe, self._unix(now)), address))
        self.counters["sent_pong"] += 1
        return sending

    def _learn(self, address: SocketAddress, now: float) -> bool:
        """
        Return whether an address that a PING came from may get probes, and note that it
        does.
        """
        learnt = self._learnt
        while learnt and learnt[oldest := next(iter(learnt))] + LEARN_AGAIN <= now:
            del learnt[oldest]
        # Forged addresses must leave room for those that we want to probe.
        is_full = len(self._unanswered) >= MAX_COUNTED // 2 and address[0] not in self._unanswered
        if address in learnt or is_full or len(learnt) >= MAX_COUNTED:
            self.counters["probe_not_learnt"] += 1
            return False
        learnt[address] = now
        return True

    def _pong_received(self, probe: Probe, address: SocketAddress, now: float) -> Path | None:
        target = self._take(probe.nonce)
        if target is None or target.peer_id != probe.sender or target.address != address:
            self.counters["dropped_pong"] += 1
            return None
        self.counters["received_pong"] += 1
        self._unanswered.pop(address[0], None)
        self._learnt.pop(address, None)
        self._answered.pop(address[0], None)
        self._answered[address[0]] = None
        if len(self._answered) > MAX_ANSWERED:
            del self._answered[next(iter(self._answered))]
        is_new = self.proved(address, now) != probe.sender or address in self._used
        self.disprove(address)
        self._proved[address] = (now, probe.sender)
        if len(self._proved) > MAX_PROVED:
            self.disprove(next(iter(self._proved)))
        if not is_new:
            return None
        began = target.began
        for other in self._targets.get(probe.sender, {}).values():
            began = min(began, other.began)
            other.limit = 0
        return Path(probe.sender, address, began)

    def _begin(self, target: _Target) -> None:
        self._targets[target.peer_id][target.address] = target
        self._schedule(target)

    def _schedule(self, target: _Target) -> None:
        if target.sent < target.limit:
            self._serial += 1
            due = target.began + SCHEDULE[target.sent]
            heapq.heappush(self._due, (due, self._serial, target))

    def _probe(
        self, target: _Target, now: float, *, in_answer: bool = False
    ) -> list[tuple[bytes, SocketAddress]]:
        """
        Return one probe of C{target}, unless its IP address has had too many.

        @param in_answer: whether a PING has come from there, so that it always gets one.
        """
        target.sent += 1
        if not self.reached:
            self._opened[target.address[0]] = None
            if len(self._opened) > MAX_COUNTED:
                del self._opened[next(iter(self._opened))]
        topics = [topic for topic in target.topic_ids if self.probes.is_open(topic)]
        if not topics:
            target.limit = 0
            return []
        host = target.address[0]
        sent = self._unanswered.get(host)
        if sent is None:
            if len(self._unanswered) >= MAX_COUNTED:
                self.counters["probe_too_many_addresses"] += 1
                return []
            sent = self._unanswered[host] = deque()
        while sent and sent[0] <= now - UNANSWERED_WINDOW:
            sent.popleft()
        if not in_answer:
            used = len(sent)
            if used >= MAX_UNANSWERED or (used >= FREE_UNANSWERED and now - sent[-1] < TRICKLE):
                self.counters["probe_limit"] += 1
                return []
            sent.append(now)
        nonce = self._rng.getrandbits(8 * NONCE_SIZE).to_bytes(NONCE_SIZE, "big")
        self._pings[nonce] = (now, target)
        self._asked[target.address] += 1
        self.counters["sent_ping"] += 1
        topic_id = topics[target.sent % len(topics)]
        return [(self.probes.ping(topic_id, target.peer_id, nonce, self._unix(now)), target.address)]

    def _take(self, nonce: bytes) -> _Target | None:
        """
        Return and forget the target of an open PING.
        """
        _, target = self._pings.pop(nonce, (0.0, None))
        if target is not None:
            self._asked[target.address] -= 1
            if not self._asked[target.address]:
                del self._asked[target.address]
        return target

    def _forget(self, now: float) -> None:
        """
        Forget what is over.
        """
        for nonce, (at, _) in list(self._pings.items()):
            if at + ANSWER_WITHIN > now:
                break
            self._take(nonce)
        for peer_id in [peer_id for peer_id in self._targets if not self.is_probing(peer_id)]:
            del self._targets[peer_id]
        if len(self._unanswered) > MAX_COUNTED // 2:
            begun = now - UNANSWERED_WINDOW
            old = [host for host, sent in self._unanswered.items() if not sent or sent[-1] <= begun]
            for host in old:
                del self._unanswered[host]


def _drop_finished(targets: dict[SocketAddress, _Target]) -> None:
    """
    Forget the addresses that have got all their probes.
    """
    for address in [address for address, target in targets.items() if target.sent >= target.limit]:
        del targets[address]
