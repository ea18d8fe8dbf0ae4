"""
The HTTP interface as a service: on a Unix socket in the state directory, and on TCP if configured.

The server itself (L{dtt.web.server}) is imported and created with the first connection: most
services never get one, and Twisted's HTTP server takes 4 MB.

Lifecycle: C{privilegedStartService} or C{startService} binds; C{stopService} ends all streams
and connections.  The tracker has already locked the state directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.config import WebConfig
from dtt.errors import ListenError, StateError
from dtt.files import create_private_file, read_private_file, shown
from dtt.tracker.tracker import Tracker
from dtt.web.unix import SOCKET_FILE, ShortPath, private_umask, remove_stale

if TYPE_CHECKING:
    from dtt.web.bounds import BoundedFactory
    from dtt.web.server import Server

#: The file with the token, in the state directory.
TOKEN_FILE: Final = "web.token"

#: The largest token, bytes.
MAX_TOKEN: Final = 1024

#: Random bytes in a token that we make.
TOKEN_BYTES: Final = 32


def load_token(path: Path) -> bytes:
    """
    Read the token of the TCP port, or make one.

    @raise StateError: the file can't be used.
    """
    create_private_file(path, token_urlsafe(TOKEN_BYTES).encode("ascii") + b"\n")
    token = read_private_file(path, MAX_TOKEN).strip()
    if len(token) < 16 or not token.isascii() or any(c <= 32 for c in token):
        raise StateError(
            f"{shown(path)} does not contain a token of at least 16 visible ASCII characters; "
            "remove it to get a new one"
        )
    return token


class OnDemand(Factory):
    """
    Makes the factory that serves the connections with the first of them.  It never starts that
    factory: Twisted's would wake up every second to format the date of its log, and we have none.
    """

    noisy = False

    def __init__(self, make: Callable[[], BoundedFactory]) -> None:
        """
        @param make: makes it.
        """
        self._make = make
        self._made: BoundedFactory | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """
        Serve a connection.
        """
        if self._made is None:
            self._made = self._make()
        return self._made.buildProtocol(addr)

    def abort_all(self) -> None:
        """
        Abort all connections.
        """
        if self._made is not None:
            self._made.abort_all()


@frozen(slots=True)
class _Bound:
    """
    A port.
    """

    port: IListeningPort
    factory: OnDemand
    path: ShortPath | None = None


class WebService(Service):
    """
    Serves the HTTP interface of a tracker.
    """

    name = "web"
    _log = Logger()

    def __init__(self, reactor: Any, tracker: Tracker, config: WebConfig, state_dir: Path) -> None:
        """
        @param reactor: provides C{IReactorTime}, C{IReactorUNIX} and C{IReactorTCP}.
        @param tracker: the tracker.
        @param config: the settings.
        @param state_dir: the state directory, which the tracker has locked.
        """
        self._reactor = reactor
        self._config = config
        self._state_dir = state_dir
        self._tracker = tracker
        self._server: Server | None = None
        # Created now, by the final user, who owns the state directory.
        self._token = None if config.listen is None else load_token(state_dir / TOKEN_FILE)
        self._bound: list[_Bound] = []

    @property
    def tcp_port(self) -> int | None:
        """
        The TCP port that is bound; C{None}: none is.
        """
        for bound in self._bound:
            if bound.path is None:
                address: Any = bound.port.getHost()
                return int(address.port)
        return None

    def privilegedStartService(self) -> None:
        """
        Bind the TCP port.

        @raise ListenError: it can't be bound.
        """
        super().privilegedStartService()
        self._bind_tcp()

    def startService(self) -> None:
        """
        Bind the TCP port, if that has not happened, and the Unix socket, as the final user,
        so that the commands of that user can connect.

        @raise ListenError: one of them can't be bound.
        @raise StateError: the socket can't be used.
        """
        self._bind_tcp()
        self._bind_unix()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        End everything.

        @return: fires when the ports are closed.
        """
        super().stopService()
        bound, self._bound = self._bound, []
        if self._server is not None:
            self._server.end_streams()
        closing = [maybeDeferred(each.port.stopListening).addErrback(_without_file) for each in bound]
        for each in bound:
            each.factory.abort_all()

        def close(_: object) -> None:
            for each in bound:
                if each.path is not None:
                    each.path.close()

        return gatherResults(closing).addBoth(close)

    def _bind_unix(self) -> None:
        path = ShortPath(self._state_dir)
        factory = self._factory()
        try:
            remove_stale(path.path)
            with private_umask():
                port = self._reactor.listenUNIX(path.path, factory, mode=0o600)
        except CannotListenError as error:
            path.close()
            raise ListenError.of(shown(self._state_dir / SOCKET_FILE), error.socketError) from None
        except StateError:
            path.close()
            raise
        self._bound.append(_Bound(port, factory, path))

    def _bind_tcp(self) -> None:
        if self._config.listen is None or self._bound:
            return
        host, port = self._config.listen
        factory = self._factory(self._token, [name.lower() for name in self._config.hosts])
        try:
            listening = self._reactor.listenTCP(port, factory, interface=host)
        except CannotListenError as error:
            raise ListenError.of(f"TCP {host} port {port} (--web)", error.socketError) from None
        self._bound.append(_Bound(listening, factory))
        shown_host = f"[{host}]" if ":" in host else host
        self._log.info(
            "The status page is at http://{host}:{port}/; its password is in {file}.",
            host=shown_host,
            port=listening.getHost().port,
            file=shown(os.path.join(self._state_dir, TOKEN_FILE)),
        )

    def _factory(self, token: bytes | None = None, hosts: Collection[str] | None = None) -> OnDemand:
        def make() -> BoundedFactory:
            from dtt.web.server import Server

            if self._server is None:
                self._server = Server(self._reactor, self._tracker)
            return self._server.factory(token, hosts)

        return OnDemand(make)


def _without_file(failure: Failure) -> None:
    """
    Ignore that the file of the Unix socket is gone, for example with the state directory.
    """
    failure.trap(FileNotFoundError)
