"""
The transports of a tracker: which ones, on which ports, and as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from dtt.config import Config
from dtt.errors import ListenError, UsageError
from dtt.identity import PeerKey
from dtt.interfaces import IListener, IPeerTransport
from dtt.net.host_port import HostPort
from dtt.tracker.saved import SavedPorts
from dtt.transport.combined import CombinedTransport
from dtt.transport.iroh import bindings as iroh_bindings
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import IROH, STREAMS, PeerAddress

_log = Logger()

#: What the transports are called in settings and events.
NAMES = {STREAMS: "streams", IROH: "iroh"}


def transport_names(wanted: str | None) -> tuple[str, ...]:
    """
    The transports that a setting stands for, the preferred one first.

    @param wanted: C{streams}, C{iroh}, C{both}, or L{None}: what is installed.
    @raise UsageError: iroh is wanted and not installed, or can't be used.
    """
    if wanted == "streams":
        return ("streams",)
    why = iroh_bindings.unavailable_reason()
    if why is None:
        return ("iroh",) if wanted == "iroh" else ("streams", "iroh")
    if wanted is None:
        return ("streams",)
    raise UsageError(f"transport {wanted} needs the iroh package{why}: {iroh_bindings.HOW_TO_INSTALL}")


def bind_port(wanted: int, kept: int, bind: Callable[[int], None]) -> None:
    """
    Bind the port that is asked for, else the one of the last run, else any.

    @raise ListenError: it can't be bound.
    """
    if wanted or not kept:
        bind(wanted)
        return
    try:
        bind(kept)
    except ListenError as error:
        _log.warn("The port of the last run is not free: {error}. Taking another one.", error=error)
        bind(0)


class Listeners:
    """
    All transports of a tracker.

    @ivar transport: them as one, for the gossip.
    """

    def __init__(
        self, reactor: Any, key: PeerKey, config: Config, on_addresses_changed: Callable[[], None]
    ) -> None:
        """
        @param on_addresses_changed: told when L{transport} lists other addresses.
        @raise UsageError: a transport is not installed.
        """
        self._on_addresses_changed = on_addresses_changed
        self._hosts: dict[IListener, HostPort] = {}
        if config.transport is None and (why := iroh_bindings.unavailable_reason()):
            _log.warn(
                "Without the iroh transport: it needs the iroh package{why}: {how}",
                why=why,
                how=iroh_bindings.HOW_TO_INSTALL,
            )
        for name in transport_names(config.transport):
            if name == "streams":
                self._hosts[StreamsTransport(reactor, key)] = config.listen
            else:
                from dtt.transport.iroh.endpoint import Servers
                from dtt.transport.iroh.transport import IrohTransport

                iroh = IrohTransport(
                    reactor,
                    key,
                    servers=Servers(config.iroh.preset, config.iroh.relays),
                    on_addresses_changed=on_addresses_changed,
                )
                self._hosts[iroh] = config.iroh.listen or (config.listen[0], 0)
        listeners = tuple(self._hosts)
        self.transport: IPeerTransport = (
            listeners[0] if len(listeners) == 1 else CombinedTransport(reactor, listeners)
        )

    def listen(self, saved: SavedPorts) -> None:
        """
        Bind all; the ports of the last run where none is asked for.

        @raise ListenError: one of them can't be bound; those before it stay
            bound until L{stop}, and a later try goes on with it.
        """
        for listener, (host, port) in self._hosts.items():
            if listener.port is not None:
                continue
            kept = saved.streams if listener.kind == STREAMS else saved.iroh

            def bind(port: int, listener: IListener = listener, host: str = host) -> None:
                listener.listen(host, port)

            bind_port(port, kept, bind)

    def ports_in(self, saved: SavedPorts) -> SavedPorts:
        """
        C{saved} with the ports that are bound; of a transport that is not used
        it stays as it was.
        """
        for listener in self._hosts:
            port = listener.port or 0
            saved = evolve(saved, streams=port) if listener.kind == STREAMS else evolve(saved, iroh=port)
        return saved

    def places(self) -> tuple[str, ...]:
        """
        What is listened on, C{transport:host:port} each.
        """
        return tuple(
            f"{NAMES[listener.kind]}:{PeerAddress(listener.kind, host, listener.port or 0)}"
            for listener, (host, _) in self._hosts.items()
        )

    def set_external_host(self, host: str) -> None:
        """
        What others see as our address.
        """
        for listener in self._hosts:
            listener.set_external_host(host)
        self._on_addresses_changed()

    def reachable(self) -> bool:
        """
        Whether a connection of another member has ever reached us.
        """
        return any(listener.counters["accepted"] for listener in self._hosts)

    def stop(self) -> Deferred[None]:
        """
        Close everything; fires within 1.5 s.
        """
        return gatherResults([listener.stop() for listener in self._hosts]).addCallback(lambda _: None)
