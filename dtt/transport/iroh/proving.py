"""
The stream on which two dtt members exchange proofs over iroh.

Rules (docs/protocol/gossip.md section 16, L{dtt.transport.iroh.proofs}): the side that
dialled opens one bidirectional stream; the other side accepts it.  Any other
bidirectional stream ends the connection.  A Rust member never accepts the stream, and its end or failure is
not an error: the peer has then proved nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.errors import DecodeError, RemoteError
from dtt.transport.backpressure import short_reason
from dtt.transport.iroh.bindings import IrohBiStream, IrohConnection, IrohRecvStream, IrohSendStream
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.proofs import ProofParser, Proofs

#: Bytes of one read: some dozens of tags.
READ_SIZE = 4096


class ProofStream:
    """
    The proofs of one connection, as a stream.
    """

    _log = Logger()

    def __init__(
        self,
        loops: Loops,
        connection: IrohConnection,
        proofs: Proofs,
        outgoing: Callable[[], bytes],
        on_frame: Callable[[bytes], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """
        @param loops: runs the coroutines.
        @param connection: the bindings' connection.
        @param proofs: the proofs.
        @param outgoing: returns the bytes to send now.
        @param on_frame: called with each nonce and tag of the peer; may raise.
        @param on_failed: called with a reason when the peer violated the protocol.
        """
        self._loops = loops
        self._connection = connection
        self._proofs = proofs
        self._outgoing = outgoing
        self._on_frame = on_frame
        self._on_failed = on_failed
        self._idle: Deferred[None] | None = None

    def start(self, dialled: bool) -> None:
        """
        Start the exchange.

        @param dialled: whether we dialled.
        """
        if dialled:
            self._loops.run(self._open(), self._failed)
        self._loops.run(self._accept(not dialled), self._failed)

    def wake(self) -> None:
        """
        Schedule sending.
        """
        if self._idle is not None:
            idle, self._idle = self._idle, None
            self._loops.clock.callLater(0, lambda: None if idle.called else idle.callback(None))

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, RemoteError) and not isinstance(error, IrohFailure):
            self._on_failed(short_reason(error))
        elif not isinstance(error, IrohFailure):
            self._log.failure("unexpected error while exchanging proofs", failure)
            self._on_failed("internal error")

    async def _open(self) -> None:
        await self._exchange(await self._loops.call(self._connection.open_bi()))

    async def _accept(self, expected: bool) -> None:
        if expected:
            stream = await self._loops.call(self._connection.accept_bi())
            self._loops.run(self._exchange(stream), self._failed)
        await self._loops.call(self._connection.accept_bi())
        raise DecodeError("bidirectional stream")

    async def _exchange(self, stream: IrohBiStream) -> None:
        self._loops.run(self._read(stream.recv()), self._failed)
        await self._write(stream.send())

    async def _write(self, out: IrohSendStream) -> None:
        data = self._proofs.start()
        while True:
            await self._loops.call(out.write_all(data))
            while not (data := self._outgoing()):
                self._idle = Deferred()
                await self._loops.wait(self._idle)

    async def _read(self, stream: IrohRecvStream) -> None:
        parser = ProofParser()
        while data := await self._loops.call(stream.read(READ_SIZE)):
            await self._loops.take_work()
            for frame in parser.feed(data):
                await self._loops.take_work()
                self._on_frame(frame)
                if self._loops.stopped:
                    return
