"""
Opens and accepts QUIC connections, through NATs if necessary.

Rules (docs/protocol/quic.md sections 2 and 3): a connection begins on a proved path only.
As soon as a path is proved, the side with the larger peer id opens the connection; the
other one waits for it for half a second, and then opens one itself.  The client's first
packet may arrive before the PONG that proves the path to us: one such packet per address
waits for a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import Waiters, cancel_if_active
from dtt.errors import DialFailed
from dtt.identity import PeerKey
from dtt.interfaces import PeerId
from dtt.net.networks import Scope, scope, site
from dtt.net.steady import SteadyClock
from dtt.transport.quic.endpoint import QuicEndpoint
from dtt.transport.quic.probes import MAGIC_SIZE, PING, PONG
from dtt.transport.quic.traversal import LET_IN, Path, SocketAddress, Traversal
from dtt.transport.share import Share
from dtt.transport.streams.connection import StreamsConnection
from dtt.wire.addresses import QUIC

#: Seconds that the side with the smaller id waits for the other's connection
#: (docs/protocol/quic.md section 3).
SMALLER_WAITS = 0.5

#: Seconds without a byte after which the client sends a PING, which keeps the mappings of
#: both sides' NATs (docs/protocol/quic.md section 4); after which the server sends one, if none has
#: come; and for the answer to either.
KEEP_ALIVE, SERVER_PING_AFTER, ANSWERED_WITHIN = 20.0, 25.0, 15.0

#: Seconds that a first packet waits for the proof of its path, and the most that wait
#: (guesses: a packet that overtakes another one is milliseconds early).
HOLD, MAX_HELD = 1.0, 32

#: Peers of which it is kept when probing began, until they are connected (guess).
MAX_BEGAN = 128

#: Handshakes as the client beyond which peers that we have not dialled get none (guess).
MAX_UNASKED = 32

#: Probes and first packets of one IPv4 address or IPv6 /64 per second; the rest is
#: dropped unread (guess: a peer sends 8 probes in the first 1.5 s of its schedule).
MAX_PER_SECOND = 50
#: Networks that are counted within a second; further ones are dropped.
MAX_NETWORKS = 1024

_MAGICS = (PING, PONG)


class ConnectorOwner(Protocol):
    """
    The transport of a L{QuicConnector}.

    @ivar share: the share of the reactor's time.
    """

    share: Share

    def build(self, dialled: PeerId | None, kind: int) -> StreamsConnection:
        """
        Return a new connection of a kind; C{dialled} is C{None} for an inbound one.
        """

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether there is a connection to a peer.
        """


class QuicConnector:
    """
    The QUIC side of a transport.

    @ivar traversal: the probes.
    @ivar endpoint: the connections.
    """

    _log = Logger()

    def __init__(
        self, clock: SteadyClock, key: PeerKey, owner: ConnectorOwner, rng: Random, counters: Counter[str]
    ) -> None:
        """
        @param clock: schedules probes.
        @param key: our key pair.
        @param owner: the transport.
        @param rng: the source of nonces, which must be unpredictable.
        @param counters: incremented for each event.
        """
        self.counters = counters
        self.traversal = Traversal(key.peer_id, rng, counters, clock.unix)
        self.endpoint = QuicEndpoint(clock, key, self._send, counters, owner.share, rng.randbytes)
        self._clock = clock
        self._own_id = key.peer_id
        self._owner = owner
        self._socket: Callable[[bytes, str, int], None] | None = None
        self._waiting: dict[PeerId, Waiters[None]] = {}
        self._connecting: dict[PeerId, StreamsConnection] = {}
        self._pauses: dict[PeerId, IDelayedCall] = {}
        self._began: dict[PeerId, float] = {}
        self._held: dict[SocketAddress, tuple[float, bytes]] = {}
        self._timer: IDelayedCall | None = None
        self._second = 0
        self._counted: dict[str, int] = {}
        self._stopped = False

    # The socket

    def attach(self, send: Callable[[bytes, str, int], None]) -> None:
        """
        Use a socket.

        @param send: sends a datagram to a host and port; does not raise.
        """
        self._socket = send

    @property
    def connection_ids(self) -> Container[bytes]:
        """
        The container of our connection ids: a datagram that has one of them in bytes 1
        to 8 is for L{datagram_received}, whatever its first byte is.
        """
        return self.endpoint.connection_ids

    def datagram_received(self, datagram: bytes, host: str, port: int) -> None:
        """
        Handle a datagram that is not KRPC.
        """
        if self._stopped or not datagram:
            return
        address = (host, port)
        if datagram[0] & 0xC0 == 0x40 or self.endpoint.knows(datagram):
            self.endpoint.datagram_received(datagram, address)
        elif datagram[0] & 0x80:
            self._first_packet(datagram, address)
        elif datagram[:MAGIC_SIZE] in _MAGICS:
            self._probe_received(datagram, address)
        else:
            self.counters["dropped_not_quic"] += 1

    def _send(self, datagram: bytes, address: SocketAddress) -> None:
        if self._socket is not None and not self._stopped:
            self._socket(datagram, *address)

    def _admits(self, host: str) -> bool:
        second = int(self._clock.seconds())
        if second != self._second:
            self._second = second
            self._counted.clear()
        network = site(host)
        count = self._counted.get(network, 0)
        if count >= MAX_PER_SECOND or (not count and len(self._counted) >= MAX_NETWORKS):
            self.counters["dropped_probe_flood"] += 1
            return False
        self._counted[network] = count + 1
        return True

    # Dialling

    def attempt(
        self, peer_id: PeerId, addresses: Sequence[SocketAddress], topic_id: bytes | None
    ) -> Deferred[None]:
        """
        Connect to a peer, through NATs if necessary.

        @param addresses: the peer's, the most likely first.
        @param topic_id: a topic that the peer is a member of; C{None}: unknown, so some of our topics are
            tried.
        @return: fires when a connection is authenticated.  If it is cancelled, probing
            continues: the peer may begin later.
        """
        if self._stopped:
            failed: Deferred[None] = Deferred()
            failed.errback(DialFailed("stopped"))
            return failed
        waiters = self._waiting.get(peer_id)
        if waiters is None:
            waiters = self._waiting[peer_id] = Waiters(lambda: self._abandoned(peer_id))
        waiting = waiters.wait()
        now = self._clock.seconds()
        path = self.traversal.path_to(peer_id, now)
        if path is not None:
            self._connect(peer_id, path)
        else:
            topics = self.traversal.probes.topics if topic_id is None else (topic_id,)
            self.traversal.want(peer_id, addresses, topics, now)
            self._poll()
        return waiting

    def introduced(self, peer_id: PeerId, addresses: Sequence[SocketAddress], topic_id: bytes) -> None:
        """
        Probe a peer that looks for us, according to another member.

        @param addresses: the peer's; those that are not global are left out.
        @param topic_id: the topic of that member.
        """
        usable = [(host, port) for host, port in addresses if port and scope(host) is Scope.GLOBAL]
        self.let_in(peer_id, usable, topic_id)

    def let_in(
        self, peer_id: PeerId, addresses: Sequence[SocketAddress], topic_id: bytes, most: int = LET_IN
    ) -> None:
        """
        Probe a peer that looks for us.

        @param most: the maximum number of probes for an address.
        """
        if addresses and not self._stopped and not self._owner.is_connected(peer_id):
            self.traversal.want(peer_id, addresses, (topic_id,), self._clock.seconds(), most)
            self._poll()

    def connected(self, peer_id: PeerId) -> float | None:
        """
        Stop probing: there is a connection to the peer, by whatever way.

        @return: when the probing of it began that has proved a path; C{None} if none has.
        """
        self.traversal.connected(peer_id)
        cancel_if_active(self._pauses.pop(peer_id, None))
        return self._began.pop(peer_id, None)

    def network_changed(self) -> None:
        """
        Restart all probing: NATs have forgotten our mappings, or we are behind other NATs.
        """
        self.traversal.restart(self._clock.seconds())
        self._poll()

    def stop(self) -> None:
        """
        Stop probing and opening connections.
        """
        for waiters in list(self._waiting.values()):
            waiters.fire(Failure(DialFailed("stopped")))
        self._waiting.clear()
        for pause in self._pauses.values():
            cancel_if_active(pause)
        self._pauses.clear()
        self._held.clear()
        cancel_if_active(self._timer)

    def close(self) -> None:
        """
        Ignore all datagrams, and stop sending.
        """
        self._stopped = True

    def _abandoned(self, peer_id: PeerId) -> None:
        self._waiting.pop(peer_id, None)

    def _probe_received(self, datagram: bytes, address: SocketAddress) -> None:
        now = self._clock.seconds()
        # What anyone can send is dropped first: it must not use up what is allowed.
        if not self.traversal.probes.may_be_valid(datagram, self._clock.unix(now)):
            self.counters["dropped_probe"] += 1
            return
        if not self._admits(address[0]):
            return
        sending, path = self.traversal.receive(datagram, address, now)
        for probe, to in sending:
            self._send(probe, to)
        if path is not None:
            self._path_proved(path)
        if sending:
            self._arm()

    def _path_proved(self, path: Path) -> None:
        peer_id, address = path.peer_id, path.address
        _, held = self._held.pop(address, (0.0, b""))
        if held:
            self.endpoint.accept(held, address, self._build)
        if self._owner.is_connected(peer_id):
            return
        self._began[peer_id] = path.began
        if len(self._began) > MAX_BEGAN:
            del self._began[next(iter(self._began))]
        if self._own_id > peer_id:
            if peer_id in self._waiting or len(self._connecting) < MAX_UNASKED:
                self._connect(peer_id, address)
        elif peer_id in self._waiting and peer_id not in self._pauses:
            self._pauses[peer_id] = self._clock.callLater(
                SMALLER_WAITS, self._connect_if_waiting, peer_id, address
            )

    def _connect_if_waiting(self, peer_id: PeerId, address: SocketAddress) -> None:
        self._pauses.pop(peer_id, None)
        if peer_id in self._waiting and not self._owner.is_connected(peer_id):
            self._connect(peer_id, address)

    def _connect(self, peer_id: PeerId, address: SocketAddress) -> None:
        if peer_id in self._connecting or self._stopped:
            return
        connection = self._owner.build(peer_id, QUIC)
        connection.ping_after = KEEP_ALIVE
        connection.silence_limit = KEEP_ALIVE + ANSWERED_WITHIN
        self._connecting[peer_id] = connection
        authenticated = connection.when_authenticated()
        self.endpoint.connect(connection, peer_id, address)
        authenticated.addCallbacks(
            self._authenticated, self._failed, callbackArgs=(peer_id,), errbackArgs=(peer_id, address)
        )
        authenticated.addErrback(self._log_failure)

    def _build(self) -> StreamsConnection:
        connection = self._owner.build(None, QUIC)
        connection.ping_after = SERVER_PING_AFTER
        connection.silence_limit = SERVER_PING_AFTER + ANSWERED_WITHIN
        return connection

    def _authenticated(self, _: object, peer_id: PeerId) -> None:
        del self._connecting[peer_id]
        waiters = self._waiting.pop(peer_id, None)
        if waiters is not None:
            waiters.fire(None)

    def _failed(self, failure: Failure, peer_id: PeerId, address: SocketAddress) -> None:
        del self._connecting[peer_id]
        failure.trap(DialFailed)
        self.traversal.disprove(address)
        waiters = self._waiting.pop(peer_id, None)
        if waiters is not None:
            waiters.fire(failure)

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("unexpected error while opening a QUIC connection (a bug)", failure)

    # First packets

    def _first_packet(self, datagram: bytes, address: SocketAddress) -> None:
        now = self._clock.seconds()
        is_proved = self.traversal.proved(address, now) is not None
        if not (is_proved or self.traversal.is_asked(address)) or not self.endpoint.is_first(datagram):
            self.counters["dropped_quic"] += 1
            return
        if not self._admits(address[0]):
            return
        if is_proved:
            self.endpoint.accept(datagram, address, self._build)
            return
        self.counters["held_quic"] += 1
        for old in [old for old, (at, _) in self._held.items() if at + HOLD < now]:
            del self._held[old]
        if len(self._held) < MAX_HELD:
            self._held[address] = (now, datagram)

    # The timer

    def _poll(self) -> None:
        for probe, to in self.traversal.poll(self._clock.seconds()):
            self._send(probe, to)
        self._arm()

    def _arm(self) -> None:
        due = self.traversal.next_time()
        cancel_if_active(self._timer)
        self._timer = None
        if due is not None and not self._stopped:
            self._timer = self._clock.callLater(max(due - self._clock.seconds(), 0.0), self._poll)
