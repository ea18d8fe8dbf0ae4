"""
TLS whose connections share the turns of the reactor.

Rules (L{dtt.transport.share}): decrypting data, handling it, and each step of a handshake are work.  While
there is no room for more work in this turn, arrived data is kept, and nothing more is read from the socket.
Thus the kernel's buffers fill, and the peer can't send more.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

from dtt.transport.share import Share
from dtt.transport.streams.tls import ConnectionCreator

#: Bytes decrypted at a time (guess: two of the largest TLS records; of the smallest ones, these are
#: 1400, which take 5 ms).
_DECRYPT = 32 * 1024


class Worker(Protocol):
    """
    The protocol that L{SharedTLS} wraps.  Its C{dataReceived} only
    stores the data.
    """

    @property
    def pending(self) -> bool:
        """Whether there is work for L{work}."""

    @property
    def portion(self) -> int:
        """The number of units for L{work} at a time."""

    def work(self, units: int) -> int:
        """Handle some of what was received; return how many units were not needed."""


class SharedTLS(BufferingTLSTransport):
    """
    The TLS layer of one connection.
    """

    def __init__(self, factory: SharedTLSFactory, wrapped: Any, connect_wrapped: bool = True) -> None:
        """
        @param factory: has the L{Share}.
        @param wrapped: the protocol, a L{Worker}.
        @param connect_wrapped: see the base class.
        """
        super().__init__(factory, wrapped, connect_wrapped)
        self._share = factory.share
        self._encrypted: deque[bytes] = deque()
        self._waiting = False
        self._lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Decrypt and handle C{data}, now or in a later turn.
        """
        if len(data) <= _DECRYPT:
            self._encrypted.append(data)
        else:
            self._encrypted.extend(data[start : start + _DECRYPT] for start in range(0, len(data), _DECRYPT))
        if not self._waiting:
            self._work()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """
        TLS is at its end.
        """
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            # The failure is a variable of a frame in its own traceback, as is the OpenSSL connection:
            # both would stay until the garbage collector runs.
            reason.cleanFailure()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.  What arrived before is handled first.
        """
        if self._waiting:
            self._lost = reason
        else:
            super().connectionLost(reason)

    def _work(self) -> None:
        share, worker = self._share, cast(Worker, self.wrappedProtocol)
        while worker.pending or (self._encrypted and not self._aborted):
            units = share.take(worker.portion)
            if not units:
                self._wait()
                return
            if worker.pending:
                share.done(worker.work(units))
            else:
                super().dataReceived(self._encrypted.popleft())
                share.done(units - 1)
        self._encrypted.clear()
        if self._waiting:
            self._waiting = False
            self._resume()

    def _resume(self) -> None:
        """
        Continue after a wait.
        """
        if self._lost is not None:
            super().connectionLost(self._lost)
        elif self._lostTLSConnection:
            # The socket is being closed, so it can't be read again to see its end: it is closed as
            # soon as nothing more is to be written.
            self.unregisterProducer()
        else:
            cast(Any, self.transport).resumeProducing()

    def _wait(self) -> None:
        if not self._waiting:
            self._waiting = True
            cast(Any, self.transport).pauseProducing()
        self._share.wait(self._work)


class SharedTLSFactory(TLSMemoryBIOFactory):
    """
    Wraps the protocols of a factory in L{SharedTLS}.

    @ivar share: what the connections share.
    """

    protocol = SharedTLS

    def __init__(
        self,
        share: Share,
        creator: ConnectionCreator,
        is_client: bool,
        wrapped: IProtocolFactory,
        clock: IReactorTime,
    ) -> None:
        """
        @param share: what the connections share.
        @param creator: creates the OpenSSL connections.
        @param is_client: whether this side starts the handshake.
        @param wrapped: builds the protocols, each a L{Worker}.
        @param clock: the reactor.
        """
        super().__init__(creator, is_client, wrapped, clock)
        self.share = share
