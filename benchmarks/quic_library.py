"""
The QUIC library alone, for L{benchmarks.quic}: what aioquic carries without dtt.

One process sends bytes over one stream, another one receives them. The configuration is that
of dtt, so datagrams, windows and buffers have the same size. Each process is a loop without Twisted: it
reads the datagrams that have arrived, gives them to aioquic, sends what aioquic has to send, and
waits for its timer.
"""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Final

from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived

from dtt.identity import PeerKey
from dtt.net.buffers import RECEIVE_BUFFER
from dtt.transport.quic.session import configurations
from dtt.transport.quic.stream import MAX_RECEIVED

HOST: Final = "127.0.0.1"

#: Datagrams that are read before something is sent, and the stream of the client.
_READ, _STREAM = 256, 2


def report(began: tuple[float, float], received: int, dropped: int = 0) -> None:
    """
    Print the result of one process.

    @param began: clock and CPU time.
    @param received: messages.
    @param dropped: datagrams.
    """
    seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "received": received, "dropped": dropped}), flush=True)


class Loop:
    """
    Runs one connection.

    @ivar received: bytes of the stream that have arrived.
    @ivar connected: whether the handshake is complete.
    @ivar closed: whether the other side has closed the connection.
    @ivar began: clock and CPU time at the first byte.
    """

    def __init__(self, bound: socket.socket, quic: QuicConnection) -> None:
        self._socket = bound
        self._quic = quic
        self.received = 0
        self.connected = self.closed = False
        self.began: tuple[float, float] | None = None

    def turn(self) -> None:
        """
        Send, wait, receive.
        """
        quic = self._quic
        now = time.monotonic()
        for datagram, address in quic.datagrams_to_send(now):
            self._socket.sendto(datagram, address)
        due = quic.get_timer()
        wait = None if due is None else max(0.0, due - time.monotonic())
        select.select([self._socket], [], [], wait)
        for _ in range(_READ):
            try:
                datagram, address = self._socket.recvfrom(MAX_RECEIVED)
            except BlockingIOError:
                break
            quic.receive_datagram(datagram, address, time.monotonic())
        now = time.monotonic()
        if due is not None and now >= due:
            quic.handle_timer(now)
        while (event := quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.began = self.began or (time.monotonic(), time.process_time())
                self.received += len(event.data)
            elif isinstance(event, HandshakeCompleted):
                self.connected = True
            elif isinstance(event, ConnectionTerminated):
                self.closed = True


def _bound() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((HOST, 0))
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return bound


def receive(count: int, size: int) -> None:
    """
    Be the receiver: print the port, then the result.
    """
    with _bound() as bound:
        print("00", 0, bound.getsockname()[1], flush=True)
        select.select([bound], [], [])
        first, address = bound.recvfrom(MAX_RECEIVED)
        # After flags, version and its length (RFC 9000 section 17.2).
        destination = first[6 : 6 + first[5]]
        _, server = configurations(PeerKey.generate())
        quic = QuicConnection(configuration=server, original_destination_connection_id=destination)
        quic.receive_datagram(first, address, time.monotonic())
        loop = Loop(bound, quic)
        while loop.received < count * size:
            loop.turn()
        assert loop.began is not None
        report(loop.began, count)
        quic.close()
        loop.turn()


def send(count: int, size: int, port: int) -> None:
    """
    Be the sender: print the result when the receiver has closed the connection.
    """
    client, _ = configurations(PeerKey.generate())
    with _bound() as bound:
        quic = QuicConnection(configuration=client)
        quic.connect((HOST, port), time.monotonic())
        loop = Loop(bound, quic)
        while not loop.connected:
            loop.turn()
        began = (time.monotonic(), time.process_time())
        quic.send_stream_data(_STREAM, b"m" * (count * size))
        while not loop.closed:
            loop.turn()
        report(began, 0)
