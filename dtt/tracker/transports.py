"""
The transports of a tracker: chooses them, binds their ports, and combines them.
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

#: The names of the transports in settings and events.
NAMES = {STREAMS: "streams", IROH: "iroh"}


def transport_names(wanted: str | None) -> tuple[str, ...]:
    """
    Return the transports that a setting selects, the preferred one first.

    @param wanted: C{streams}, C{iroh}, C{both}, or C{None}: those that are
        installed.
    @raise UsageError: iroh is selected, but is not installed or can't be used.
    """
    if wanted == "streams":
        return ("streams",)
    reason = iroh_bindings.unavailable_reason()
    if reason is None:
        return ("iroh",) if wanted == "iroh" else ("streams", "iroh")
    if wanted is None:
        return ("streams",)
    raise UsageError(f"transport {wanted} needs the iroh package{reason}: {iroh_bindings.HOW_TO_INSTALL}")


def bind_port(wanted: int, kept: int, bind: Callable[[int], None]) -> None:
    """
    Bind the configured port; without one the port of the last run, or any port if
    that is not free.

    @param wanted: the configured port; 0: none.
    @param kept: the port of the last run; 0: none.
    @param bind: binds a port, or any port if it is 0.
    @raise ListenError: the port can't be bound.
    """
    if wanted or not kept:
        bind(wanted)
        return
    try:
        bind(kept)
    except ListenError as error:
        _log.warn("The port of the last run is not free: {error}. Using another one.", error=error)
        bind(0)


class Listeners:
    """
    The transports of a tracker.

    @ivar transport: all of them combined into one, for the gossip.
    """

    def __init__(
        self, reactor: Any, key: PeerKey, config: Config, on_addresses_changed: Callable[[], None]
    ) -> None:
        """
        @param reactor: provides IReactorTime, IReactorTCP and IReactorUDP.
        @param key: our key pair.
        @param config: the settings.
        @param on_addresses_changed: called when the addresses of C{transport}
            have changed.
        @raise UsageError: a transport is not installed.
        """
        self._on_addresses_changed = on_addresses_changed
        self._hosts: dict[IListener, HostPort] = {}
        if config.transport is None and (reason := iroh_bindings.unavailable_reason()):
            _log.warn(
                "The iroh transport is disabled: it needs the iroh package{reason}: {how}",
                reason=reason,
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
        Bind the ports of all transports; where none is configured, the port of the
        last run.

        @param saved: the ports of the last run.
        @raise ListenError: a port can't be bound.  Those before it stay bound
            until L{stop}, and another call continues with it.
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
        Return C{saved} updated with the bound ports.  The ports of transports that
        are not used are unchanged.
        """
        for listener in self._hosts:
            port = listener.port or 0
            saved = evolve(saved, streams=port) if listener.kind == STREAMS else evolve(saved, iroh=port)
        return saved

    def listen_addresses(self) -> tuple[str, ...]:
        """
        Return the addresses that the transports listen on, each as
        C{transport:host:port}.
        """
        return tuple(
            f"{NAMES[listener.kind]}:{PeerAddress(listener.kind, host, listener.port or 0)}"
            for listener, (host, _) in self._hosts.items()
        )

    def set_external_host(self, host: str) -> None:
        """
        Set our external address, as others see it.

        @param host: an IP literal.
        """
        for listener in self._hosts:
            listener.set_external_host(host)
        self._on_addresses_changed()

    def reachable(self) -> bool:
        """
        Return whether a member has ever connected to us.
        """
        return any(listener.counters["accepted"] for listener in self._hosts)

    def stop(self) -> Deferred[None]:
        """
        Stop all transports.

        @return: fires when everything is closed, within 1.5 s.
        """
        return gatherResults([listener.stop() for listener in self._hosts]).addCallback(lambda _: None)
