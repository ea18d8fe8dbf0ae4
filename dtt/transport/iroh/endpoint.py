"""
Our sockets: an iroh endpoint, from its binding to its end.

Rules (docs/protocol/gossip.md section 14): an endpoint has a socket for each
family, and one that is not asked for is bound to all addresses; so when we are
to listen on a certain address only, the other family's is bound to loopback.  Beside
the endpoint that listens there may be spare ones (L{dtt.transport.iroh.spare_endpoints}).
What nobody has closed is closed at exit (L{dtt.transport.iroh.calls}).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

from dtt.errors import ListenError, UsageError
from dtt.identity import PeerKey
from dtt.transport.iroh.bindings import Bindings, IrohEndpoint, join_address, split_address
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.spare_endpoints import Spares
from dtt.wire.addresses import MAX_RELAY_URL, RelayAddress

#: What iroh-gossip speaks (docs/protocol/gossip.md section 1).
ALPN = b"/iroh-gossip/1"

#: Nothing of anybody's, or n0's relays, DNS and pkarr publishing.
PRESETS = ("none", "n0")

#: Seconds that binding may take; the thread waits for it.  Guess: it takes
#: milliseconds.
BIND_TIMEOUT = 10.0


class QuicEndpoint:
    """
    One endpoint.

    @ivar bound: (IP literal, port) of the sockets that others may reach, that
        of the family that was asked for first.
    @ivar has_relays: whether it uses relays.
    @ivar finds_peers: whether it finds peers by their ids alone.
    @ivar spares: others with our key.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bindings: Bindings,
        calls: Calls,
        key: PeerKey,
        preset: str,
        relay_urls: Sequence[str],
    ) -> None:
        """
        @param preset: one of L{PRESETS}.
        @param relay_urls: relays to use in place of the preset's.
        @raise UsageError: there is no such preset, or a URL can't be a relay's.
        """
        if preset not in PRESETS:
            raise UsageError(f"the iroh preset is one of {', '.join(PRESETS)}, not {preset!r}")
        self.bound: list[tuple[str, int]] = []
        self.has_relays = bool(relay_urls) or preset == "n0"
        self.finds_peers = preset == "n0"
        self._bindings = bindings
        self._calls = calls
        self._key = key
        self._preset = preset
        self._relay_urls = list(relay_urls)
        self._endpoint: IrohEndpoint | None = None
        self._hosts: list[str] = []
        self.spares = Spares(clock, calls, self._spare_builder)
        try:
            self._relay_mode()
        except bindings.IrohError as error:
            raise UsageError(f"the URL of a relay is wrong: {_words(error)}") from None

    def bind(self, host: str, port: int) -> IrohEndpoint:
        """
        Bind now, while the thread waits.

        @param host: an IP literal.
        @raise ListenError: it can't be bound.
        """
        where = f"can't listen on UDP {host} port {port}"
        if self._endpoint is not None:
            raise ListenError(f"{where}: iroh listens already")
        own = ipaddress.ip_address(host)
        other = "[::1]:0" if own.version == 4 else "127.0.0.1:0"
        wishes = [[join_address(host, port)]]
        if not own.is_unspecified:
            wishes.insert(0, [*wishes[0], other])
        for addresses in wishes:
            try:
                endpoint: IrohEndpoint = self._calls.wait(self._builder(addresses).bind(), BIND_TIMEOUT)
                break
            except (IrohFailure, self._bindings.IrohError) as error:
                # The library does not say what is wrong; or there is no other family.
                reason = _unavailable_reason(host, port)
                if reason is not None or addresses is wishes[-1]:
                    raise ListenError(f"{where}: {reason or _words(error)}") from None
        self._endpoint = endpoint
        self._hosts = [split_address(address)[0] for address in addresses]
        sockets = self.sockets()
        ours = [pair for pair in sockets if (":" in pair[0]) == (own.version == 6)]
        self.bound = [*ours, *(pair for pair in sockets if own.is_unspecified and pair not in ours)]
        self._calls.last_call = self._close_at_exit
        return endpoint

    def sockets(self) -> list[tuple[str, int]]:
        """
        All that are bound.
        """
        bound = [] if self._endpoint is None else self._endpoint.bound_sockets()
        return [split_address(each) for each in bound]

    def known_addresses(self) -> list[tuple[str, int]]:
        """
        Where the library believes that it can be reached directly.
        """
        if self._endpoint is None:
            return []
        return [split_address(each) for each in self._endpoint.addr().direct_addresses()]

    def relay(self) -> RelayAddress | None:
        """
        The relay through which we can be reached, once there is one.
        """
        url = None if self._endpoint is None else self._endpoint.addr().relay_url()
        return None if url is None or len(url) > MAX_RELAY_URL else RelayAddress(url)

    def close(self) -> Deferred[Any]:
        """
        Close all connections and sockets; nothing if it is not bound.
        """
        endpoint, self._endpoint = self._endpoint, None
        self.bound = []
        if endpoint is None:
            return succeed(None)
        self._calls.last_call = None
        closing = [self._calls.call(endpoint.close()), self.spares.close_all()]
        return DeferredList(closing, consumeErrors=True)

    # Inside

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
    Why a UDP socket can't be bound; L{None}: it can.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trying:
            if family == socket.AF_INET6:
                trying.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trying.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _words(error: Exception) -> str:
    """
    The first line of what the library says.
    """
    described: Any = error
    text = error.text if isinstance(error, IrohFailure) else described.message()
    return text.partition("\n")[0]
