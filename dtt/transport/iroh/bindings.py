"""
The part of iroh's Python bindings that dtt uses.

Rules (docs/protocol/gossip.md section 14): the package C{iroh} (extra C{iroh}) is
imported only when its transport is requested; everything else works without it.  Its
objects are described here as protocols, so that L{dtt.testing.iroh.network} can replace
them.  C{async} functions are called only through L{dtt.transport.iroh.calls}.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast, get_type_hints

from dtt.errors import UsageError

#: Advice for users who request the transport without having the package.
HOW_TO_INSTALL: Final = "pip install 'distributed-topic-tracker[iroh]' (in a checkout: pip install '.[iroh]')"


class IrohSendStream(Protocol):
    """
    The sending half of a stream.  Dropping it sends FIN.
    """

    async def write_all(self, buf: bytes) -> None:
        """
        Return when the library has accepted all of C{buf}; after cancellation it is
        unknown how much was accepted.
        """

    async def finish(self) -> None:
        """Send FIN; blocks while a C{write_all} is in progress."""

    async def stopped(self) -> int | None:
        """
        Wait until all is acknowledged (C{None}), or until the peer stops the stream
        (its code).
        """


class IrohRecvStream(Protocol):
    """
    The receiving half of a stream.  Dropping it sends STOP_SENDING.
    """

    async def read(self, size_limit: int) -> bytes:
        """Return between 1 and C{size_limit} bytes, or C{b""} at FIN."""


class IrohBiStream(Protocol):
    """
    A bidirectional stream.
    """

    def send(self) -> IrohSendStream:
        """Return the half on which we send."""

    def recv(self) -> IrohRecvStream:
        """Return the half on which the peer sends."""


class IrohEndpointId(Protocol):
    """
    A peer id.
    """

    def to_bytes(self) -> bytes:
        """Return the 32 bytes."""


class IrohConnection(Protocol):
    """
    An authenticated connection.  Dropping it and its streams closes it.
    """

    async def accept_uni(self) -> IrohRecvStream:
        """Return the next unidirectional stream that the peer opens."""

    async def accept_bi(self) -> IrohBiStream:
        """Return the next bidirectional stream that the peer opens."""

    async def open_bi(self) -> IrohBiStream:
        """Open a bidirectional stream; the peer sees it with the first bytes."""

    async def open_uni(self) -> IrohSendStream:
        """Open a unidirectional stream; waits while the peer's stream limit is reached."""

    def close(self, error_code: int, reason: bytes) -> None:
        """Close immediately; bytes that are unsent or not acknowledged are lost."""

    def close_reason(self) -> str | None:
        """Return the library's description of why it is closed; C{None} while it is open."""

    def remote_id(self) -> IrohEndpointId:
        """Return the id of the remote end."""

    def paths(self) -> Sequence[IrohPath]:
        """Return the network paths."""


class IrohPath(Protocol):
    """
    One network path of a connection.
    """

    @property
    def is_selected(self) -> bool:
        """Whether it is used now."""

    @property
    def is_relay(self) -> bool:
        """Whether it goes through a relay."""

    @property
    def remote_addr(self) -> str:
        """The address of the remote end, or of the relay."""

    @property
    def rtt_ms(self) -> int:
        """The round trip in milliseconds."""


class IrohAccepting(Protocol):
    """
    An inbound connection in its handshake.
    """

    async def connect(self) -> IrohConnection:
        """Return the connection once it is authenticated."""


class IrohIncoming(Protocol):
    """
    A request for a connection.
    """

    async def accept(self) -> IrohAccepting:
        """Start the handshake."""

    async def refuse(self) -> None:
        """Refuse the connection."""

    async def retry(self) -> None:
        """Require the peer to validate its address first (RFC 9000 section 8.1.2)."""

    async def remote_addr(self) -> Any:
        """Return the source address: an C{IncomingAddr}."""

    async def remote_addr_validated(self) -> bool:
        """Return whether that address is validated."""


class IrohEndpointAddr(Protocol):
    """
    The addresses of an endpoint.
    """

    def direct_addresses(self) -> list[str]:
        """Return C{host:port} of each known address."""

    def relay_url(self) -> str | None:
        """Return the URL of its home relay, or C{None}."""


class IrohEndpoint(Protocol):
    """
    A local endpoint: its sockets and connections.
    """

    async def accept_next(self) -> IrohIncoming | None:
        """Return the next inbound connection request; C{None} once closed."""

    async def connect(self, addr: Any, alpn: bytes) -> IrohConnection:
        """Return an authenticated connection to the endpoint that C{addr} names."""

    async def online(self) -> None:
        """Wait for a home relay."""

    async def close(self) -> None:
        """Close all connections and sockets."""

    def addr(self) -> IrohEndpointAddr:
        """Return the addresses of this endpoint."""

    def bound_sockets(self) -> list[str]:
        """Return C{host:port} of each bound socket."""


class Bindings(Protocol):
    """
    The names that dtt uses from the module C{iroh}.
    """

    IrohError: type[Exception]
    EndpointBuilder: Any
    EndpointAddr: Any
    EndpointId: Any
    RelayMode: Any


def unavailable_reason() -> str | None:
    """
    Return why the module C{iroh} can't be used, as the continuation of the words "needs
    the iroh package": C{""} if it is not installed.  C{None} if it can be used.
    """
    try:
        module: Any = importlib.import_module("iroh")
    except ModuleNotFoundError:
        return ""
    except Exception as error:
        words = str(error).partition("\n")[0]
        return f", and the installed one can't be loaded ({type(error).__name__}: {words})"
    if getattr(module, "__file__", None) is None:  # a namespace package: just a folder of that name
        return ""
    usable = all(hasattr(module, name) for name in get_type_hints(Bindings))
    # The most recent of the names that dtt uses; added in 1.1.
    if not (usable and hasattr(module.EndpointBuilder, "bind")):
        return ", and the version of the installed one is not supported"
    return None


def load_bindings() -> Bindings:
    """
    Import and return the module C{iroh}.

    @raise UsageError: it is not installed, or can't be used.
    """
    if (why := unavailable_reason()) is not None:
        raise UsageError(f"the iroh transport needs the iroh package{why}: {HOW_TO_INSTALL}")
    module = importlib.import_module("iroh")
    _copy_with_memmove(module)
    return cast(Bindings, module)


def _copy_with_memmove(module: Any) -> None:
    """
    Make the bindings copy byte strings with C{memmove}.

    iroh 1.2 copies them in a Python loop, at 0.1 microseconds per byte: 10 MB/s at full
    CPU load.  The replacement does the same work.  If a later version no longer has the
    replaced class, nothing is changed.
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
    Return host and port of an address in the library's notation, C{1.2.3.4:5} or
    C{[::1]:5}; a scope (C{%eth0}) is dropped.
    """
    host, _, port = text.rpartition(":")
    return host.strip("[]").partition("%")[0], int(port)


def join_address(host: str, port: int) -> str:
    """
    Return an address in the library's notation.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
