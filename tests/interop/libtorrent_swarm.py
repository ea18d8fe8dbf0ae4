"""
A closed DHT of real libtorrent clients on loopback, in this process.

libtorrent's network threads are its own: the reactor stays free.  The settings
and the procedure are those of specs/dht.md section 5: sessions on 127.0.0.1,
permissive, then a full mesh of C{add_dht_node} (one hub is not enough: routers
never enter tables).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha512
from typing import Any

import libtorrent
from attrs import frozen
from twisted.internet.task import deferLater

#: Seconds from the mesh to tables that are filled (specs/dht.md section 5).
SETTLE = 1.5

#: Seconds between two looks at a session's alerts.
POLL = 0.01


def settings(alerts: bool = False) -> Any:
    """
    @param alerts: tell of what the DHT found.
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
        "alert_mask": int(libtorrent.alert.category_t.all_categories) if alerts else 0,
        "listen_interfaces": "127.0.0.1:0",
    }


class LibtorrentSwarm:
    """
    @ivar addresses: (host, port) of the nodes that live.
    """

    def __init__(self, count: int = 30) -> None:
        self._sessions = [libtorrent.session(settings()) for _ in range(count)]
        self.addresses = [("127.0.0.1", session.listen_port()) for session in self._sessions]
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
        The same where no reactor runs.
        """
        time.sleep(SETTLE)

    def kill(self, count: int) -> None:
        """
        End C{count} nodes without a word to the others.
        """
        del self._sessions[-count:]
        del self.addresses[-count:]

    def stop(self) -> None:
        """
        End all.
        """
        self.kill(len(self._sessions))


@frozen(slots=True)
class Found:
    """
    An item that a session got.

    @ivar value: bytes; L{None}: there is none.
    @ivar seq: of a mutable item.
    """

    value: bytes | None
    seq: int = 0


class LibtorrentClient:
    """
    A session that puts and gets items through libtorrent's own API.
    """

    def __init__(self, reactor: Any, bootstrap: list[tuple[str, int]]) -> None:
        self._reactor = reactor
        self._session = libtorrent.session(settings(alerts=True))
        for address in bootstrap:
            self._session.add_dht_node(address)

    def put_immutable(self, value: bytes) -> bytes:
        """
        @return: the target, 20 bytes.
        """
        return bytes(self._session.dht_put_immutable_item(value).to_bytes())

    async def get_immutable(self, target: bytes) -> Found:
        """
        @param target: 20 bytes.
        """
        self._session.dht_get_immutable_item(libtorrent.sha1_hash(target))
        alert = await self._alert(
            libtorrent.dht_immutable_item_alert, lambda alert: bytes(alert.target.to_bytes()) == target
        )
        return Found(alert.item)

    def put_mutable(self, seed: bytes, public_key: bytes, salt: bytes, value: bytes) -> None:
        """
        @param seed: of the Ed25519 key, 32 bytes.
        """
        # libtorrent wants the expanded private key (RFC 8032, section 5.1.5).
        expanded = bytearray(sha512(seed).digest())
        expanded[0] &= 248
        expanded[31] = expanded[31] & 63 | 64
        self._session.dht_put_mutable_item(bytes(expanded), public_key, value, salt)

    async def put_done(self) -> int:
        """
        @return: on how many nodes the last item put was stored.
        """
        alert = await self._alert(libtorrent.dht_put_alert, lambda alert: True)
        return int(alert.num_success)

    async def get_mutable(self, public_key: bytes, salt: bytes) -> Found:
        """
        The item when libtorrent has ended its lookup.
        """
        self._session.dht_get_mutable_item(public_key, salt)
        alert = await self._alert(
            libtorrent.dht_mutable_item_alert, lambda alert: alert.salt == salt and alert.authoritative
        )
        return Found(alert.item or None, alert.seq)

    def nodes(self) -> int:
        """
        How many nodes its routing table holds.
        """
        return int(self._session.status().dht_nodes)  # deprecated, without a successor

    async def _alert(self, kind: type, wanted: Callable[[Any], bool]) -> Any:
        while True:
            for alert in self._session.pop_alerts():
                if isinstance(alert, kind) and wanted(alert):
                    return alert
            await deferLater(self._reactor, POLL)

    async def known(self, count: int) -> None:
        """
        Wait until its routing table has C{count} nodes.
        """
        while self.nodes() < count:
            await deferLater(self._reactor, POLL)

    def stop(self) -> None:
        """
        End it.
        """
        del self._session
