"""
A closed DHT of real libtorrent clients on loopback, in this process.

libtorrent has its own network threads, so the reactor is not blocked. The settings and
the procedure are those of docs/protocol/dht.md section 5: sessions on 127.0.0.1,
permissive, then a full mesh of C{add_dht_node} (one hub is not enough: routers never
enter tables).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha512
from itertools import chain, repeat
from typing import Any, TypeAlias

import libtorrent
from attrs import frozen
from twisted.internet.task import deferLater

#: Seconds from the mesh to full routing tables (docs/protocol/dht.md section 5).
SETTLE = 1.5

#: Seconds between two checks of a session's alerts.
POLL = 0.001


def settings(alerts: bool = False, port: int = 0) -> Any:
    """
    libtorrent's settings for a closed DHT on loopback.

    @param alerts: enable alerts for DHT results.
    @param port: the UDP port; 0: any.
    """
    return {
        "enable_dht": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
        "dht_bootstrap_nodes": "",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_block_ratelimit": 1000000,
        "dht_upload_rate_limit": 100000000,
        "alert_mask": int(libtorrent.alert.category_t.dht_notification) if alerts else 0,
        "listen_interfaces": f"127.0.0.1:{port}",
    }


def default_settings(host: str, alerts: bool = False) -> Any:
    """
    libtorrent's default DHT settings, without the public bootstrap nodes
    (docs/protocol/dht.md section 5, "Realistic").
    """
    strangers = {key: value for key, value in settings(alerts).items() if not key.startswith("dht_")}
    return {**strangers, "dht_bootstrap_nodes": "", "listen_interfaces": f"{host}:0"}


class LibtorrentSwarm:
    """
    Several libtorrent sessions.

    @ivar addresses: (host, port) of the living nodes.
    """

    def __init__(self, count: int = 30, defaults: bool = False, ports: Sequence[int] = ()) -> None:
        """
        @param defaults: leave libtorrent's protections enabled; node i is on
            C{127.0.i.1}.
        @param ports: the ports of the first nodes.
        """
        hosts = [f"127.0.{number}.1" if defaults else "127.0.0.1" for number in range(1, count + 1)]
        self._sessions = [
            libtorrent.session(default_settings(host) if defaults else settings(port=port))
            for host, port in zip(hosts, chain(ports, repeat(0)), strict=False)
        ]
        ports = [session.listen_port() for session in self._sessions]
        self.addresses = list(zip(hosts, ports, strict=True))
        for session in self._sessions:
            for address in self.addresses:
                session.add_dht_node(address)

    async def settled(self, reactor: Any) -> None:
        """
        Wait until the nodes know each other.
        """
        await deferLater(reactor, SETTLE)

    def settle(self) -> None:
        """
        Wait until the nodes know each other, without a reactor.
        """
        time.sleep(SETTLE)

    def kill(self, count: int) -> None:
        """
        Kill C{count} nodes.
        """
        del self._sessions[-count:]
        del self.addresses[-count:]

    def stop(self) -> None:
        """
        Stop all nodes.
        """
        self.kill(len(self._sessions))


@frozen(slots=True)
class Found:
    """
    An item that a session found.

    @ivar value: bytes; C{None}: there is none.
    @ivar seq: the sequence number of a mutable item.
    """

    value: bytes | None
    seq: int = 0


_Key: TypeAlias = tuple[str, bytes, bytes]


class LibtorrentClient:
    """
    A session that puts and gets items through libtorrent's API.

    @ivar address: its host and port.
    """

    def __init__(self, reactor: Any, bootstrap: list[tuple[str, int]], host: str | None = None) -> None:
        """
        @param host: its own address, with L{default_settings}; C{None}: on loopback, with
            L{settings}.
        """
        self._reactor = reactor
        chosen = settings(alerts=True) if host is None else default_settings(host, alerts=True)
        self._session = libtorrent.session(chosen)
        self.address = (host or "127.0.0.1", self._session.listen_port())
        # Alerts that no caller has waited for yet.
        self._news: list[tuple[_Key, Found | int]] = []
        for address in bootstrap:
            self._session.add_dht_node(address)

    def put_immutable(self, value: bytes) -> bytes:
        """
        Put an immutable item.

        @return: the target, 20 bytes.
        """
        return bytes(self._session.dht_put_immutable_item(value).to_bytes())

    async def get_immutable(self, target: bytes) -> Found:
        """
        Get an immutable item.

        @param target: 20 bytes.
        """
        self._session.dht_get_immutable_item(libtorrent.sha1_hash(target))
        found = await self._told(("immutable", target, b""))
        assert isinstance(found, Found)
        return found

    def put_mutable(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        Put a mutable item.

        @param seed: the seed of the Ed25519 key, 32 bytes.
        """
        # libtorrent requires the expanded private key (RFC 8032, section 5.1.5).
        expanded = bytearray(sha512(seed).digest())
        expanded[0] &= 248
        expanded[31] = expanded[31] & 63 | 64
        self._session.dht_put_mutable_item(bytes(expanded), public_key, value, salt)

    async def put_done(self) -> int:
        """
        Wait for the end of a put.

        @return: the number of nodes that stored the item, for the first finished put that
            was not queried yet.
        """
        done = await self._told(("put", b"", b""))
        assert isinstance(done, int)
        return done

    async def get_mutable(self, public_key: bytes, salt: bytes) -> Found:
        """
        The item at the end of libtorrent's lookup.
        """
        self._session.dht_get_mutable_item(public_key, salt)
        found = await self._told(("mutable", public_key, salt))
        assert isinstance(found, Found)
        return found

    async def get_first(self, public_key: bytes, salt: bytes) -> Found:
        """
        The first value that libtorrent receives, if any.
        """
        self._session.dht_get_mutable_item(public_key, salt)
        found = await self._told(("first", public_key, salt))
        assert isinstance(found, Found)
        return found

    def meet(self, address: tuple[str, int]) -> None:
        """
        Add a node.
        """
        self._session.add_dht_node(address)

    def nodes(self) -> int:
        """
        The number of nodes in its routing table.
        """
        return int(self._session.status().dht_nodes)  # deprecated, without a successor

    def _listen(self) -> None:
        # An alert is invalid after the next check.
        for alert in self._session.pop_alerts():
            value: Any = getattr(alert, "item", None)
            if isinstance(alert, libtorrent.dht_immutable_item_alert):
                key = ("immutable", bytes(alert.target.to_bytes()), b"")
                self._news.append((key, Found(value)))
            elif isinstance(alert, libtorrent.dht_mutable_item_alert):
                if value:
                    self._news.append(
                        (("first", bytes(alert.key), bytes(alert.salt)), Found(value, alert.seq))
                    )
                if not alert.authoritative:
                    continue
                key = ("mutable", bytes(alert.key), bytes(alert.salt))
                self._news.append((key, Found(value or None, alert.seq)))
            elif isinstance(alert, libtorrent.dht_put_alert):
                self._news.append((("put", b"", b""), int(alert.num_success)))

    async def _told(self, wanted: _Key) -> Found | int:
        while True:
            self._listen()
            for number, (key, news) in enumerate(self._news):
                if key == wanted:
                    del self._news[number]
                    return news
            await deferLater(self._reactor, POLL)

    async def known(self, count: int) -> None:
        """
        Wait until its routing table has C{count} nodes.
        """
        while self.nodes() < count:
            await deferLater(self._reactor, POLL)

    def stop(self) -> None:
        """
        Stop the session.
        """
        del self._session
