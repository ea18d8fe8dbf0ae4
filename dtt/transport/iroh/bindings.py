"""
The Python bindings of iroh, as far as we use them.

Rules (docs/protocol/gossip.md section 14): the package C{iroh} (extra C{iroh})
is imported when its transport is asked for and not before: without it all else
works.  Its objects are described here as protocols, so that
L{dtt.testing.iroh.network} can take their place.  What is C{async} is called through
L{dtt.transport.iroh.calls} alone.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any, Final, Protocol, cast, get_type_hints

from dtt.errors import UsageError

#: What helps whoever asks for the transport without the package.
HOW_TO_INSTALL: Final = "pip install 'distributed-topic-tracker[iroh]' (in a checkout: pip install '.[iroh]')"


class IrohSendStream(Protocol):
    """
    The sending half of a stream.  To drop it sends FIN.
    """

    async def write_all(self, buf: bytes) -> None:
        """Fires when the library has taken all of C{buf}; what was taken when it is cancelled is unknown."""

    async def finish(self) -> None:
        """Send FIN; blocks while a C{write_all} runs."""

    async def stopped(self) -> int | None:
        """Wait until all is acknowledged (C{None}), or until the peer stops the stream (its code)."""


class IrohRecvStream(Protocol):
    """
    The receiving half of a stream.  To drop it sends STOP_SENDING.
    """

    async def read(self, size_limit: int) -> bytes:
        """Between 1 and C{size_limit} bytes; C{b""}: FIN."""


class IrohEndpointId(Protocol):
    """
    A peer id.
    """

    def to_bytes(self) -> bytes:
        """The 32 bytes."""


class IrohConnection(Protocol):
    """
    An authenticated connection.  To drop it and its streams closes it.
    """

    async def accept_uni(self) -> IrohRecvStream:
        """The next unidirectional stream that the peer opens."""

    async def accept_bi(self) -> object:
        """The next bidirectional stream that the peer opens."""

    async def open_uni(self) -> IrohSendStream:
        """A new unidirectional stream; waits while the peer allows none."""

    def close(self, error_code: int, reason: bytes) -> None:
        """Close it at once; what is unsent or not acknowledged is lost."""

    def close_reason(self) -> str | None:
        """Why it is closed, in the library's words; C{None} while it is open."""

    def remote_id(self) -> IrohEndpointId:
        """Who is at the other end."""


class IrohAccepting(Protocol):
    """
    A connection that somebody opens, in its handshake.
    """

    async def connect(self) -> IrohConnection:
        """The connection once it is authenticated."""


class IrohIncoming(Protocol):
    """
    Somebody's wish for a connection.
    """

    async def accept(self) -> IrohAccepting:
        """Begin the handshake."""

    async def refuse(self) -> None:
        """Refuse it."""

    async def retry(self) -> None:
        """Have the peer prove its address first (RFC 9000 section 8.1.2)."""

    async def remote_addr(self) -> Any:
        """Where it comes from: an C{IncomingAddr}."""

    async def remote_addr_validated(self) -> bool:
        """Whether that address is proved."""


class IrohEndpointAddr(Protocol):
    """
    Where an endpoint can be reached.
    """

    def direct_addresses(self) -> list[str]:
        """C{host:port} of each known address."""

    def relay_url(self) -> str | None:
        """Its home relay."""


class IrohEndpoint(Protocol):
    """
    Our sockets.
    """

    async def accept_next(self) -> IrohIncoming | None:
        """The next connection that is wanted; C{None} once closed."""

    async def connect(self, addr: Any, alpn: bytes) -> IrohConnection:
        """An authenticated connection to the endpoint that C{addr} names."""

    async def online(self) -> None:
        """Wait for a home relay."""

    async def close(self) -> None:
        """Close all connections and sockets."""

    def addr(self) -> IrohEndpointAddr:
        """Where we can be reached."""

    def bound_sockets(self) -> list[str]:
        """C{host:port} of each of our sockets."""


class Bindings(Protocol):
    """
    The module.
    """

    IrohError: type[Exception]
    EndpointBuilder: Any
    EndpointAddr: Any
    EndpointId: Any
    RelayMode: Any


def unavailable_reason() -> str | None:
    """
    Why the module C{iroh} can't be used, to follow the words "needs the iroh
    package": C{""} if it is not installed; L{None}: it can.
    """
    try:
        module: Any = importlib.import_module("iroh")
    except ModuleNotFoundError:
        return ""
    except Exception as error:
        words = str(error).partition("\n")[0]
        return f", and the one that is installed can't be loaded ({type(error).__name__}: {words})"
    if getattr(module, "__file__", None) is None:  # just a folder of that name
        return ""
    usable = all(hasattr(module, name) for name in get_type_hints(Bindings))
    # Of all that is called this was the last to come, in 1.1.
    if not (usable and hasattr(module.EndpointBuilder, "bind")):
        return ", and the one that is installed is of a version that can't be used"
    return None


def load_bindings() -> Bindings:
    """
    The module C{iroh}.

    @raise UsageError: it is not installed, or can't be used.
    """
    if (why := unavailable_reason()) is not None:
        raise UsageError(f"the iroh transport needs the iroh package{why}: {HOW_TO_INSTALL}")
    module = importlib.import_module("iroh")
    _copy_at_once(module)
    return cast(Bindings, module)


def _copy_at_once(module: Any) -> None:
    """
    Have bytes given to the library copied at once.

    iroh 1.2 copies them in a loop of Python, 0.1 microseconds a byte: 10 MB/s
    and all of the processor's time.  What is replaced does the same; if a
    later version has it no more, nothing is.
    """
    builder: Any = getattr(getattr(module, "iroh_ffi", None), "_UniffiRustBufferBuilder", None)
    if not (hasattr(builder, "write") and hasattr(builder, "_reserve")):
        return

    def write(self: Any, value: bytes) -> None:
        data = bytes(value)
        with self._reserve(len(data)):
            if data:
                ctypes.memmove(ctypes.addressof(self.rbuf.data.contents) + self.rbuf.len, data, len(data))

    builder.write = write


def split_address(text: str) -> tuple[str, int]:
    """
    Host and port of an address in the library's spelling, C{1.2.3.4:5} or
    C{[::1]:5}; a scope (C{%eth0}) is left out.
    """
    host, _, port = text.rpartition(":")
    return host.strip("[]").partition("%")[0], int(port)


def join_address(host: str, port: int) -> str:
    """
    The library's spelling of an address.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
