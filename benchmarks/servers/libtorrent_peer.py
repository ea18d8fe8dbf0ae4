"""
A libtorrent peer for an info hash: C{libtorrent_peer.py INFOHASH HOST FOLDER} (hex; its
own address; the folder for the torrent). It adds a torrent of which only the info hash is
known, and finds peers only through the DHT, with libtorrent's default bootstrap nodes.

Each line of standard output is a JSON event: C{peer.found} when a lookup has returned a
peer, C{topic.joined} when it is connected to a peer. It stops at the end of its input.

By default libtorrent looks up peers every 15 minutes; here it does so every second until
it has found one, as an application that waits for a peer would.
"""

from __future__ import annotations

import json
import select
import sys
import time

import libtorrent

#: Seconds between two lookups, and the longest wait for alerts.
REPEAT, POLL = 1.0, 0.005


def emit(event: str) -> None:
    """
    Print an event.
    """
    print(json.dumps({"event": event, "time": time.time()}), flush=True)


def main(info_hash: str, host: str, folder: str) -> None:
    """
    Wait for a peer, then for the end of the input.
    """
    categories = libtorrent.alert.category_t
    session = libtorrent.session(
        {
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "listen_interfaces": f"{host}:0",
            "alert_mask": int(categories.dht_notification | categories.connect_notification),
        }
    )
    found = joined = False
    looks = time.monotonic()
    torrent = libtorrent.parse_magnet_uri(f"magnet:?xt=urn:btih:{info_hash}")
    torrent.save_path = folder
    handle = session.add_torrent(torrent)
    while not select.select([sys.stdin], [], [], POLL)[0]:
        for alert in session.pop_alerts():
            if isinstance(alert, libtorrent.dht_get_peers_reply_alert) and not found:
                found = alert.num_peers() > 0
                if found:
                    emit("peer.found")
            elif isinstance(alert, libtorrent.peer_connect_alert) and not joined:
                joined = True
                emit("topic.joined")
        if not joined and time.monotonic() - looks > REPEAT:
            looks = time.monotonic()
            handle.force_dht_announce()
    session.remove_torrent(handle)


if __name__ == "__main__":
    main(*sys.argv[1:4])
