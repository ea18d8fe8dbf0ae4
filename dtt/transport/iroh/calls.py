"""
Calls of the iroh bindings as Deferreds, on any reactor and without asyncio.

Rules: the bindings' C{async} functions need two things from the running asyncio loop: a
future to wait for, and a way to set its result from one of the library's threads.  A
L{_Call} is both the loop and the future of one coroutine, which waits for one thing at
a time.  It is the running loop only while its coroutine is stepped, so that an asyncio
loop of the host application is not disturbed.  A result that is available immediately
costs no reactor turn.  Results from threads go through one queue, and the reactor is
woken once for all that are queued.

Cancelling a call closes its coroutine, which frees the library's future.  A call that
is pending when the interpreter exits crashes it (docs/protocol/gossip.md section 14),
and so does a library thread that is just about to deliver a result.  So at exit
everything is cancelled, and the outstanding results of threads are awaited.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import get_ident
from time import monotonic, sleep
from typing import Any, TypeVar
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dtt.errors import RemoteError

_log = Logger()

T = TypeVar("T")

#: Seconds for each step of the shutdown at exit.  Guess: it takes milliseconds.
EXIT_TIMEOUT = 1.0

#: Seconds of one turn of the reactor after which further results wait for the next (guess: see
#: L{dtt.transport.share}).
TURN = 0.008

#: Seconds for a thread to return into the library after delivering its result (guess).
_RETURN = 0.01


class IrohFailure(RemoteError):
    """
    A call of the library failed.

    @ivar kind: the name of its C{IrohErrorKind}, for example C{"CONNECT"}.
    @ivar text: the library's message.
    """

    def __init__(self, kind: str, text: str) -> None:
        """
        @param kind: the name of the C{IrohErrorKind}.
        @param text: the library's message.
        """
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    def connection_lost(self) -> bool:
        """
        Return whether the call failed because its connection has ended.
        """
        return self.kind == "CONNECTION" or "ConnectionLost" in self.text


class _Future:
    """
    The future that the bindings wait for, and the loop that creates it.

    @ivar code: the result; C{None} until there is one.
    """

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code: object = None

    def create_future(self) -> _Future:
        """
        Loop method: reset and return this object, since there is only one future at a
        time.
        """
        self.code = None
        return self

    def cancelled(self) -> bool:
        """Future method: never cancelled."""
        return False

    def set_result(self, code: object) -> None:
        """Future method: store the result."""
        self.code = code

    def __await__(self) -> Generator[None, None, object]:
        while self.code is None:
            yield
        return self.code


class _Call(_Future):
    """
    One coroutine of the bindings.

    @ivar calls: the owner.
    @ivar coroutine: the coroutine.
    @ivar result: fires with the coroutine's result.
    @ivar stepping: whether the coroutine is running right now.
    @ivar done: whether the coroutine has ended or was cancelled.
    """

    __slots__ = ("calls", "coroutine", "done", "result", "stepping")

    def __init__(self, calls: Calls, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__()
        self.calls = calls
        self.coroutine = coroutine
        self.result: Deferred[Any] = Deferred(lambda _: self.cancel())
        self.stepping = False
        self.done = False

    def create_future(self) -> _Future:
        """Loop method: as in the base class; the library owes a result from now on."""
        self.calls.outstanding[self] = None
        self.code = None
        return self

    def call_soon_threadsafe(self, function: Callable[..., object], *args: object) -> None:
        """Loop method: run C{function} in the reactor's thread; called from any thread."""
        self.calls.outstanding.pop(self, None)
        # During a step, the library reports synchronously that the result is ready.
        if self.stepping and get_ident() == self.calls.thread:
            function(*args)
        elif not self.done:
            self.calls.call_in_reactor(function, args)

    def cancelled(self) -> bool:
        """Future method: whether the call has ended."""
        return self.done

    def set_result(self, code: object) -> None:
        """Future method: store the result and continue the coroutine."""
        self.code = code
        if not self.stepping:
            self.step()

    def step(self) -> None:
        """
        Run the coroutine until it waits again or ends.
        """
        self.stepping = True
        self.calls.thread = get_ident()
        try:
            _step(self.coroutine, self)
        except StopIteration as stop:
            self._end()
            self.result.callback(stop.value)
        except Exception as error:
            self._end()
            self.result.errback(self.calls.failure(error))
        else:
            self.stepping = False

    def cancel(self) -> None:
        """
        Close the coroutine.
        """
        self._end()
        self.coroutine.close()

    def _end(self) -> None:
        self.stepping = False
        self.done = True
        self.calls.pending.pop(self, None)


def _step(coroutine: Coroutine[Any, Any, Any], loop: _Future) -> None:
    """
    Run one step of C{coroutine}, with C{loop} as the running asyncio loop.
    """
    previous = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)  # type: ignore[arg-type]
    try:
        coroutine.send(None)
    finally:
        asyncio._set_running_loop(previous)


class Calls:
    """
    The calls of one endpoint.

    @ivar pending: calls that have not ended.
    @ivar outstanding: calls for which the library will still deliver something, including
        cancelled ones.
    @ivar exit_call: creates the coroutine to run to its end at exit, if any.
    @ivar thread: the id of the reactor's thread.
    """

    def __init__(self, reactor: Any, error_class: type[Exception]) -> None:
        """
        @param reactor: provides C{IReactorFromThreads} and C{IReactorTime}.
        @param error_class: the bindings' C{IrohError}.
        """
        self._reactor = reactor
        self._error_class = error_class
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False
        self._process = os.getpid()
        self.pending: dict[_Call, None] = {}
        self.outstanding: dict[_Call, None] = {}
        self.exit_call: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.thread = 0
        _alive.add(self)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        """
        Run a coroutine of the bindings.

        @return: fires with its result and fails with L{IrohFailure}; can be cancelled
            at any time.
        """
        call = _Call(self, coroutine)
        self.pending[call] = None
        call.step()
        return call.result

    def wait(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """
        Run a coroutine of the bindings to its end and block the thread meanwhile; for
        use at startup and at exit.

        @param timeout: seconds.
        @raise IrohFailure: it failed, or took longer than C{timeout}.
        """
        loop = _BlockingLoop()
        deadline = monotonic() + timeout
        try:
            while True:
                _step(coroutine, loop)
                loop.wait(max(0.0, deadline - monotonic()))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except Empty:
            coroutine.close()
            raise IrohFailure("TIMEOUT", f"not done in {timeout} s") from None
        except self._error_class as error:
            raise self.failure(error) from None

    def cancel_all(self) -> None:
        """
        Cancel all pending calls.
        """
        while self.pending:
            call = next(iter(self.pending))
            call.result.cancel()

    def end(self) -> None:
        """
        Shut down before the interpreter exits.
        """
        # A forked child has none of the library's threads.
        if os.getpid() != self._process:
            return
        self.cancel_all()
        exit_call, self.exit_call = self.exit_call, None
        if exit_call is not None:
            with suppress(IrohFailure):
                self.wait(exit_call(), EXIT_TIMEOUT)
        deadline = monotonic() + EXIT_TIMEOUT
        while self.outstanding and monotonic() < deadline:
            sleep(_RETURN)
        sleep(_RETURN)

    def call_in_reactor(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        """
        Call C{function} in the reactor's thread; may be called from any thread.
        """
        self._queue.append((function, args))
        if not self._woken:
            self._woken = True
            # A reactor on a closed asyncio loop can't be woken; pending calls end at exit.
            with suppress(RuntimeError):
                self._reactor.callFromThread(self._run)

    def failure(self, error: Exception) -> Exception:
        """
        Convert the bindings' exception to L{IrohFailure}; return any other exception
        unchanged.
        """
        if isinstance(error, self._error_class):
            described: Any = error
            return IrohFailure(described.kind().name, described.message())
        return error

    def _run(self) -> None:
        # Reset first, so that anything queued from now on wakes the reactor again.
        self._woken = False
        end = self._reactor.seconds() + TURN
        for _ in range(len(self._queue)):
            function, args = self._queue.popleft()
            function(*args)
            if self._reactor.seconds() > end:
                break
        if self._queue and not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._run)


class _BlockingLoop(_Future):
    """
    The loop of a coroutine for which a thread blocks.
    """

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        super().__init__()
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def call_soon_threadsafe(self, function: Callable[..., object], *args: object) -> None:
        """Loop method: queue C{function} for L{wait}; called from any thread."""
        self._queue.put((function, args))

    def wait(self, timeout: float) -> None:
        """
        Block until one result is available, and deliver it.

        @param timeout: seconds.
        @raise queue.Empty: no result arrived in time.
        """
        function, args = self._queue.get(timeout=timeout)
        function(*args)


#: All instances that may have calls.
_alive: WeakSet[Calls] = WeakSet()


def _end_all() -> None:
    for calls in tuple(_alive):
        try:
            calls.end()
        except Exception:
            _log.failure("unexpected error while shutting down an iroh endpoint")


atexit.register(_end_all)
