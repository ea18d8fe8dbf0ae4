"""
Two L{Session}s without a network.
"""

from __future__ import annotations

from random import Random

from aioquic.quic.configuration import QuicConfiguration

from dtt.identity import PeerKey
from dtt.transport.quic.session import Event, Session, SocketAddress, configurations

CLIENT_KEY, SERVER_KEY, OTHER_KEY = (PeerKey.from_seed(bytes((n,)) * 32) for n in (1, 2, 3))


class Pair:
    """
    A client and a server; time passes with each exchange.

    @ivar latency: seconds that each way takes.
    @ivar client_events: what has happened at the client.
    @ivar server_events: what has happened at the server.
    @ivar round_trips: the number of exchanges so far.
    """

    client_address: SocketAddress = ("192.0.2.1", 1)
    server_address: SocketAddress = ("192.0.2.2", 2)
    latency = 0.05

    def __init__(
        self,
        *,
        dialled: PeerKey = SERVER_KEY,
        client_key: PeerKey = CLIENT_KEY,
        client: QuicConfiguration | None = None,
        server: QuicConfiguration | None = None,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.round_trips = 0
        self._rng = Random(seed)
        self._server_configuration = server or configurations(SERVER_KEY)[1]
        self.client = Session(
            client or configurations(client_key)[0],
            client_key,
            self._rng.randbytes,
            dialled=dialled.peer_id,
        )
        self.server: Session | None = None
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []

    def exchange(self) -> bool:
        """
        Carry everything to the server and back.

        @return: whether there was anything.
        """
        self.round_trips += 1
        self.now += self.latency
        to_server = self.client.datagrams(self.now)
        for datagram, _ in to_server:
            if self.server is None:
                self.server = Session(
                    self._server_configuration,
                    SERVER_KEY,
                    self._rng.randbytes,
                    destination=datagram[6 : 6 + datagram[5]],
                )
            self.server.receive(datagram, self.client_address, self.now)
            self.server_events += self.server.events()
        self.now += self.latency
        if self.server is None:
            return bool(to_server)
        to_client = self.server.datagrams(self.now)
        for datagram, _ in to_client:
            self.client.receive(datagram, self.server_address, self.now)
            self.client_events += self.client.events()
        return bool(to_server or to_client)

    def run(self) -> None:
        """
        Exchange until nothing is left to send.
        """
        for _ in range(1000):
            if not self.exchange():
                return
        raise AssertionError("the exchange does not end")

    def wait(self, seconds: float) -> None:
        """
        Let time pass: both sides' timers fire when they are due.
        """
        assert self.server is not None
        end = self.now + seconds
        self.run()
        while True:
            sides = (self.client, self.client_events), (self.server, self.server_events)
            due = min(side.timer() or end for side, _ in sides)
            if due >= end:
                break
            self.now = max(self.now, due)
            for side, events in sides:
                if (side.timer() or end) <= self.now:
                    side.handle_timer(self.now)
                    events += side.events()
            self.run()
        self.now = end

    def connect(self) -> tuple[Session, Session]:
        """
        Do the handshake.
        """
        self.client.connect(self.server_address, self.now)
        self.run()
        assert self.server is not None
        return self.client, self.server
