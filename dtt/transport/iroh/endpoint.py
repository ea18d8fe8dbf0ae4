"""
The iroh endpoint that listens, from binding to closing.

Rules (docs/protocol/gossip.md section 14): an endpoint has one socket per address
family, and a family without an explicit address is bound to all addresses; so when we
are to listen on one address only, the other family is bound to loopback.  Spare
endpoints may exist in addition (L{dtt.transport.iroh.spare_endpoints}).  An endpoint
that was not closed is closed at exit (L{dtt.transport.iroh.calls}).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

from dtt.errors import ListenError, UsageError
from dtt.identity import PeerKey
from dtt.transport.iroh.bindings import Bindings, IrohEndpoint, join_address, split_address
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.spare_endpoints import SpareEndpoints
from dtt.wire.addresses import MAX_RELAY_URL, RelayAddress

#: The ALPN protocol of iroh-gossip (docs/protocol/gossip.md section 1).
ALPN = b"/iroh-gossip/1"

#: What L{Servers.preset} may be.
PRESETS = ("none", "n0")

#: Seconds for binding, during which the thread blocks.  Guess: it takes milliseconds.
BIND_TIMEOUT = 10.0


@frozen(slots=True)
class Servers:
    """
    The servers that an endpoint uses.

    @ivar preset: C{none}: no third-party servers; C{n0}: n0's relays,
        DNS and pkarr publishing.
    @ivar relay_urls: relays to use instead of the preset's.
    """

    preset: str = "none"
    relay_urls: Sequence[str] = ()


NO_SERVERS = Servers()


class QuicEndpoint:
    """
    One listening endpoint.

    @ivar bound: (IP literal, port) of the sockets that others can reach; the requested
        family comes first.
    @ivar has_relays: whether it uses relays.
    @ivar finds_peers: whether it finds peers by their ids alone.
    @ivar spares: spare endpoints with the same key.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bindings: Bindings,
        calls: Calls,
        key: PeerKey,
        servers: Servers,
    ) -> None:
        """
        @param clock: the reactor.
        @param bindings: the module C{iroh}, or a replacement.
        @param calls: runs the bindings' coroutines.
        @param key: the peer key.
        @param servers: the servers to use.
        @raise UsageError: there is no such preset, or a relay URL is invalid.
        """
        if servers.preset not in PRESETS:
            raise UsageError(f"unknown iroh preset {servers.preset!r}; choose one of: {', '.join(PRESETS)}")
        self.bound: list[tuple[str, int]] = []
        self.has_relays = bool(servers.relay_urls) or servers.preset == "n0"
        self.finds_peers = servers.preset == "n0"
        self._bindings = bindings
        self._calls = calls
        self._key = key
        self._preset = servers.preset
        self._relay_urls = list(servers.relay_urls)
        self._endpoint: IrohEndpoint | None = None
        self._hosts: list[str] = []
        self.spares = SpareEndpoints(clock, calls, self._spare_builder)
        try:
            self._relay_mode()
        except bindings.IrohError as error:
            raise UsageError(f"invalid relay URL: {_first_line(error)}") from None

    def bind(self, host: str, port: int) -> IrohEndpoint:
        """
        Bind immediately; the thread blocks meanwhile.

        @param host: an IP literal.
        @param port: a UDP port; 0 for any free one.
        @raise ListenError: the address can't be bound, or the endpoint is already
            bound.
        """
        where = f"can't listen on UDP {host} port {port}"
        if self._endpoint is not None:
            raise ListenError(f"{where}: iroh is already listening")
        own = ipaddress.ip_address(host)
        other = "[::1]:0" if own.version == 4 else "127.0.0.1:0"
        candidates = [[join_address(host, port)]]
        if not own.is_unspecified:
            candidates.insert(0, [*candidates[0], other])
        for addresses in candidates:
            try:
                endpoint: IrohEndpoint = self._calls.wait(self._builder(addresses).bind(), BIND_TIMEOUT)
                break
            except (IrohFailure, self._bindings.IrohError) as error:
                # The library does not report the cause; the other family may also be unavailable.
                reason = _unavailable_reason(host, port)
                if reason is not None or addresses is candidates[-1]:
                    raise ListenError(f"{where}: {reason or _first_line(error)}") from None
        self._endpoint = endpoint
        self._hosts = [split_address(address)[0] for address in addresses]
        sockets = self.sockets()
        ours = [pair for pair in sockets if (":" in pair[0]) == (own.version == 6)]
        self.bound = [*ours, *(pair for pair in sockets if own.is_unspecified and pair not in ours)]
        self._calls.exit_call = self._close_at_exit
        return endpoint

    def sockets(self) -> list[tuple[str, int]]:
        """
        Return (IP literal, port) of all bound sockets.
        """
        bound = [] if self._endpoint is None else self._endpoint.bound_sockets()
        return [split_address(each) for each in bound]

    def known_addresses(self) -> list[tuple[str, int]]:
        """
        Return the direct addresses at which the library expects this endpoint to be
        reachable.
        """
        if self._endpoint is None:
            return []
        return [split_address(each) for each in self._endpoint.addr().direct_addresses()]

    def relay(self) -> RelayAddress | None:
        """
        Return the relay through which this endpoint can be reached, or C{None} while
        there is none.
        """
        url = None if self._endpoint is None else self._endpoint.addr().relay_url()
        return None if url is None or len(url) > MAX_RELAY_URL else RelayAddress(url)

    def close(self) -> Deferred[Any]:
        """
        Close all connections and sockets, including spare endpoints; does nothing if
        not bound.
        """
        endpoint, self._endpoint = self._endpoint, None
        self.bound = []
        if endpoint is None:
            return succeed(None)
        self._calls.exit_call = None
        closing = [self._calls.call(endpoint.close()), self.spares.close_all()]
        return DeferredList(closing, consumeErrors=True)

    # Internals

    def _relay_mode(self) -> Any:
        if self._relay_urls:
            return self._bindings.RelayMode.custom_from_urls(self._relay_urls)
        return None if self._preset == "n0" else self._bindings.RelayMode.disabled()

    def _builder(self, addresses: Sequence[str]) -> Any:
        builder = self._bindings.EndpointBuilder()
        if self._preset == "n0":
            builder.apply_n0()
        else:
            builder.apply_minimal()
        if (relay_mode := self._relay_mode()) is not None:
            builder.relay_mode(relay_mode)
        builder.alpns([ALPN])
        return self._with_key(builder, addresses)

    def _spare_builder(self) -> Any:
        builder = self._bindings.EndpointBuilder()
        builder.apply_minimal()
        builder.relay_mode(self._bindings.RelayMode.disabled())
        return self._with_key(builder, [join_address(host, 0) for host in self._hosts])

    def _with_key(self, builder: Any, addresses: Sequence[str]) -> Any:
        builder.secret_key(self._key.seed)
        for address in addresses:
            builder.bind_addr(address)
        return builder

    async def _close_at_exit(self) -> None:
        for endpoint in (self._endpoint, *self.spares.open):
            if endpoint is not None:
                await endpoint.close()


def _unavailable_reason(host: str, port: int) -> str | None:
    """
    Return why a UDP socket can't be bound to the address, or C{None} if it can.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _first_line(error: Exception) -> str:
    """
    Return the first line of the library's error message.
    """
    described: Any = error
    text = error.text if isinstance(error, IrohFailure) else described.message()
    return text.partition("\n")[0]
