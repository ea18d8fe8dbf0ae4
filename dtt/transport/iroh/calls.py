"""
Calls of the iroh bindings as Deferreds, on any reactor and without asyncio.

Rules: the bindings' C{async} functions want three things of the running asyncio
loop: a future to wait for, and a way to set its result from a thread of the
library.  A L{_Call} is both, loop and future of one coroutine, which waits for
one thing at a time; it is the running loop just while its coroutine is stepped,
so that an asyncio loop of the host is not disturbed.  A result that is there at
once costs no turn of the reactor.  Results that come from threads wait in one
queue, and however many there are, the reactor is woken once.

To cancel a call closes its coroutine, which frees the library's future.  A call
that is pending when the interpreter ends crashes it (docs/protocol/gossip.md
section 14), and so does a thread of the library that is just about to tell a
result.  So at exit everything is cancelled, and what threads still owe us is
waited for.
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

#: Seconds that each step of the end may take at exit.  Guess: it takes milliseconds.
EXIT_TIMEOUT = 1.0

#: Seconds from a thread's last word to its return into the library (guess).
_RETURN = 0.01


class IrohFailure(RemoteError):
    """
    The library could not do it.

    @ivar kind: the name of its C{IrohErrorKind}, for instance C{"CONNECT"}.
    @ivar text: its words.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    def connection_lost(self) -> bool:
        """
        Whether it failed because its connection has ended.
        """
        return self.kind == "CONNECTION" or "ConnectionLost" in self.text


class _Future:
    """
    What the bindings wait for, and the loop that they take it from.

    @ivar code: the result; L{None}: there is none yet.
    """

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code: object = None

    def create_future(self) -> _Future:
        """As of a loop: there is but one future at a time."""
        self.code = None
        return self

    def cancelled(self) -> bool:
        """As of a future."""
        return False

    def set_result(self, code: object) -> None:
        """As of a future."""
        self.code = code

    def __await__(self) -> Generator[None, None, object]:
        while self.code is None:
            yield
        return self.code


class _Call(_Future):
    """
    One coroutine of the bindings.
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
        """As of a loop; the result is owed to us from now on."""
        self.calls.owed[self] = None
        self.code = None
        return self

    def call_soon_threadsafe(self, function: Callable[..., object], *args: object) -> None:
        """As of a loop; called in whatever thread."""
        self.calls.owed.pop(self, None)
        # Within our own step it is the library saying "ready" at once.
        if self.stepping and get_ident() == self.calls.thread:
            function(*args)
        elif not self.done:
            self.calls.later(function, args)

    def cancelled(self) -> bool:
        """As of a future."""
        return self.done

    def set_result(self, code: object) -> None:
        """As of a future."""
        self.code = code
        if not self.stepping:
            self.step()

    def step(self) -> None:
        """
        Go on until the coroutine waits again or is over.
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
        Give it up.
        """
        self._end()
        self.coroutine.close()

    def _end(self) -> None:
        self.stepping = False
        self.done = True
        self.calls.pending.pop(self, None)


def _step(coroutine: Coroutine[Any, Any, Any], loop: _Future) -> None:
    """
    One step of a coroutine that believes to run on C{loop}.
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

    @ivar pending: those that are not over.
    @ivar owed: those of which the library will tell something, also when they
        were cancelled.
    @ivar last_call: makes the call that is to be waited for at exit.
    @ivar thread: the reactor's.
    """

    def __init__(self, reactor: Any, error_class: type[Exception]) -> None:
        """
        @param reactor: provides L{twisted.internet.interfaces.IReactorFromThreads}.
        @param error_class: the bindings' C{IrohError}.
        """
        self._reactor = reactor
        self._error_class = error_class
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False
        self._process = os.getpid()
        self.pending: dict[_Call, None] = {}
        self.owed: dict[_Call, None] = {}
        self.last_call: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.thread = 0
        _alive.add(self)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        """
        Run a coroutine of the bindings.  Fails with L{IrohFailure}; can be
        cancelled at any time.
        """
        call = _Call(self, coroutine)
        self.pending[call] = None
        call.step()
        return call.result

    def wait(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """
        Run a coroutine of the bindings to its end while the whole thread
        waits: for the start and the end of the program.

        @raise IrohFailure: it failed, or took longer than C{timeout} seconds.
        """
        loop = _Waiting()
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
        Cancel all calls that are pending.
        """
        while self.pending:
            call = next(iter(self.pending))
            call.result.cancel()

    def end(self) -> None:
        """
        The interpreter ends.
        """
        # A child that was forked has none of the library's threads.
        if os.getpid() != self._process:
            return
        self.cancel_all()
        last_call, self.last_call = self.last_call, None
        if last_call is not None:
            with suppress(IrohFailure):
                self.wait(last_call(), EXIT_TIMEOUT)
        deadline = monotonic() + EXIT_TIMEOUT
        while self.owed and monotonic() < deadline:
            sleep(_RETURN)
        sleep(_RETURN)

    def later(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        """
        Call C{function} in the reactor's thread.
        """
        self._queue.append((function, args))
        if not self._woken:
            self._woken = True
            # One on an asyncio loop that is closed can't be woken: what is pending ends at exit.
            with suppress(RuntimeError):
                self._reactor.callFromThread(self._run)

    def failure(self, error: Exception) -> Exception:
        """
        What the bindings raised, in our words.
        """
        if isinstance(error, self._error_class):
            described: Any = error
            return IrohFailure(described.kind().name, described.message())
        return error

    def _run(self) -> None:
        # First this: what is queued from now on wakes the reactor again.
        self._woken = False
        for _ in range(len(self._queue)):
            function, args = self._queue.popleft()
            function(*args)
        if self._queue and not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._run)


class _Waiting(_Future):
    """
    The loop of a coroutine that a thread waits for.
    """

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        super().__init__()
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def call_soon_threadsafe(self, function: Callable[..., object], *args: object) -> None:
        """As of a loop; called in whatever thread."""
        self._queue.put((function, args))

    def wait(self, timeout: float) -> None:
        """
        Wait for one result.

        @raise Empty: there was none in time.
        """
        function, args = self._queue.get(timeout=timeout)
        function(*args)


#: All that were made and may have calls.
_alive: WeakSet[Calls] = WeakSet()


def _end_all() -> None:
    for calls in tuple(_alive):
        try:
            calls.end()
        except Exception:
            _log.failure("an iroh endpoint could not be ended")


atexit.register(_end_all)
