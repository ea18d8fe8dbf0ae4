"""
pkarr relays: signed packets over HTTP, with treq.

Contract (docs/protocol/addresses.md section 2): C{PUT <base>/<z32>} with a relay
payload returns 204, or 409 if the relay has a newer packet.  C{GET} of the same
URL returns 200 and the payload, 404, or 304 if we already have it.  429 means too
many requests: then the relay is not queried until it allows that.

Relays are not trusted: an exchange takes at most 10 s, at most 16 KiB are read
from its connection, redirects are not followed, and cookies are not kept.  A
relay can't forge packets, because they are signed; it can only return an older
one, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    DNSLookupError,
    TimeoutError,
)
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from dtt.addresses.interfaces import IPacketStore, PacketSink
from dtt.addresses.pkarr import MAX_PAYLOAD, Packet, read_payload, relay_payload
from dtt.counters import snake_case
from dtt.errors import PublishFailed, RemoteError
from dtt.identity import PeerKey, z32_encode
from dtt.interfaces import PeerId
from dtt.net.http import NoCookies, WholeBody, drop_body, limited_agent, read_body

T = TypeVar("T")

#: The timeout of an exchange, in seconds (guess: a relay that first queries the DHT
#: needs two).
TIMEOUT = 10.0

#: The maximum number of bytes read from one connection (guess: ten times the largest
#: response).
MAX_BYTES = 16384

#: Seconds to wait after a 429 without a C{Retry-After}, and the longest wait that a
#: relay can impose (guess: the interval at which we would publish, and an hour).
RETRY_AFTER = 300.0
LONGEST_RETRY_AFTER = 3600.0

#: The maximum number of cached packets, which a relay need not send again (guess;
#: about 1 kB each).
MAX_CACHED = 128

#: The maximum size of a cached C{Last-Modified}, in bytes (RFC 9110 section 5.6.7: 29).
MAX_DATE = 64


@frozen(slots=True)
class _Cached:
    """
    A cached packet.

    @ivar packet: the packet.
    @ivar modified: the C{Last-Modified} of the response.
    """

    packet: Packet
    modified: bytes


@implementer(IPacketStore)
class Relay:
    """
    One pkarr relay as a store.

    @ivar name: its base URL.
    @ivar counters: counts C{"<base URL>: <reason>"}.
    """

    def __init__(self, reactor: Any, url: str, counters: Counter[str], agent: IAgent | None = None) -> None:
        """
        @param reactor: as for C{twisted.web.client.Agent}.
        @param url: its base URL, C{http://} or C{https://}, to which C{/<z32>} is
            appended.
        @param counters: counts failures by reason.
        @param agent: sends the requests; C{None}: an agent with the limits of this
            module.
        """
        self.name = url.rstrip("/")
        self.counters = counters
        self._reactor = reactor
        self._agent = agent
        self._cache: dict[PeerId, _Cached] = {}
        self._busy_until = 0.0

    def when_ready(self) -> Deferred[None]:
        """
        Fire immediately: a relay needs no preparation.
        """
        return succeed(None)

    def find(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Get the packet of a peer from the relay.
        """
        return Deferred.fromCoroutine(self._find(peer_id, on_packet))

    async def _find(self, peer_id: PeerId, on_packet: PacketSink) -> None:
        try:
            if self._reactor.seconds() < self._busy_until:
                raise RemoteError("rate limited")
            packet = await self._bounded(self._get(peer_id))
        except RemoteError as error:
            self.counters[f"{self.name}: {snake_case(str(error))}"] += 1
        else:
            if packet is not None:
                on_packet(packet)

    def peek(self, peer_id: PeerId, on_packet: PacketSink) -> Deferred[None]:
        """
        Do nothing: relays limit the rate of requests.
        """
        return succeed(None)

    def publish(self, key: PeerKey, packet: Packet) -> Deferred[None]:
        """
        Put a packet at the relay.
        """
        return Deferred.fromCoroutine(self._publish(key, packet))

    async def _publish(self, key: PeerKey, packet: Packet) -> None:
        try:
            await self._bounded(self._put(key, packet))
        except PublishFailed:
            raise
        except RemoteError as error:
            raise PublishFailed(str(error)) from None

    async def _get(self, peer_id: PeerId) -> Packet | None:
        cached = self._cache.get(peer_id)
        headers = {} if cached is None else {b"If-Modified-Since": [cached.modified]}
        response = await self._request("GET", peer_id, headers)
        if response.code == 200:
            packet = read_payload(peer_id, await read_body(response, MAX_PAYLOAD))
            if cached is not None and cached.packet.version() > packet.version():
                raise RemoteError("older packet")
            self._remember(packet, response)
            return packet
        drop_body(response)
        if response.code == 304 and cached is not None:
            return cached.packet
        if response.code == 404:
            return None
        raise RemoteError(f"status {response.code}")

    async def _put(self, key: PeerKey, packet: Packet) -> None:
        response = await self._request("PUT", key.peer_id, {}, relay_payload(key, packet))
        drop_body(response)
        if 200 <= response.code < 300:
            return
        if response.code == 409:
            there = await self._get(key.peer_id)
            newer = packet.seq if there is None else max(there.seq, packet.seq)
            raise PublishFailed("newer packet", newer_seq=newer)
        raise PublishFailed(f"status {response.code}", retry_after=_retry_after(response))

    async def _request(
        self, method: str, peer_id: PeerId, headers: dict[bytes, list[bytes]], body: bytes | None = None
    ) -> IResponse:
        # treq is slow to import, and is needed only with relays.
        from treq.client import HTTPClient

        if self._agent is None:
            self._agent = limited_agent(self._reactor, TIMEOUT, MAX_BYTES)
        client = HTTPClient(self._agent, cast(Any, NoCookies()))
        requesting: Deferred[Any] = client.request(
            method,
            f"{self.name}/{z32_encode(peer_id)}",
            headers=Headers(headers),
            data=None if body is None else WholeBody(body),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        try:
            response: IResponse = await requesting
        except ConnectingCancelledError:
            raise CancelledError from None
        except ResponseFailed as error:
            if any(reason.check(CancelledError) for reason in error.reasons):
                raise CancelledError from None
            if any(reason.check(ConnectionAborted) for reason in error.reasons):  # by the agent's limits
                raise RemoteError("answer too large") from None
            raise
        if (seconds := _retry_after(response)) is not None:
            self._busy_until = self._reactor.seconds() + seconds
        return response

    async def _bounded(self, exchange: Coroutine[Any, Any, T]) -> T:
        """
        Run an exchange with a timeout.

        @raise RemoteError: it failed; the text is a short reason.
        """
        try:
            return await Deferred.fromCoroutine(exchange).addTimeout(TIMEOUT, self._reactor)
        except (CancelledError, RemoteError):
            raise
        except (DeferredTimeoutError, TimeoutError):
            raise RemoteError("timed out") from None
        except DNSLookupError:
            raise RemoteError("no such host") from None
        except ConnectError:
            raise RemoteError("connection failed") from None
        except Exception as error:
            # Other exceptions of HTTP, TLS and treq for a malformed response.
            raise RemoteError(f"request failed ({type(error).__name__})") from None

    def _remember(self, packet: Packet, response: IResponse) -> None:
        modified = response.headers.getRawHeaders(b"Last-Modified", [])
        self._cache.pop(packet.public_key, None)
        if len(modified) == 1 and len(modified[0]) <= MAX_DATE:
            self._cache[packet.public_key] = _Cached(packet, modified[0])
        while len(self._cache) > MAX_CACHED:
            del self._cache[next(iter(self._cache))]


def _retry_after(response: IResponse) -> float | None:
    """
    Return the number of seconds for which a relay refuses requests, or C{None}.
    """
    if response.code not in (429, 503):
        return None
    values = response.headers.getRawHeaders(b"Retry-After", [])
    if len(values) == 1 and len(values[0]) < 8 and values[0].isdigit():
        return min(max(1.0, float(values[0])), LONGEST_RETRY_AFTER)
    return RETRY_AFTER
