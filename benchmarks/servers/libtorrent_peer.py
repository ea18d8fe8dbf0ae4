"""
A peer of an info hash by libtorrent: C{libtorrent_peer.py INFOHASH HOST FOLDER}
(hex; the address of its own; where the torrent would be kept).  It has the torrent of
which nothing but the info hash is known, and finds others through the DHT alone, at
its own default bootstrap nodes.

A line of standard output is an event, JSON: C{peer.found} when a lookup has told of
anybody, C{topic.joined} when it is connected to a peer.  The end of the input is
its end.

libtorrent itself looks others up every 15 minutes; here it does every second until
somebody is there, as an application would that waits for one.
"""

from __future__ import annotations

import json
import select
import sys
import time

import libtorrent

#: Seconds between two lookups, and at most until news are told.
REPEAT, POLL = 1.0, 0.005


def tell(event: str) -> None:
    """
    Print an event.
    """
    print(json.dumps({"event": event, "time": time.time()}), flush=True)


def main(info_hash: str, host: str, folder: str) -> None:
    """
    Wait for a peer, then for the end.
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
                    tell("peer.found")
            elif isinstance(alert, libtorrent.peer_connect_alert) and not joined:
                joined = True
                tell("topic.joined")
        if not joined and time.monotonic() - looks > REPEAT:
            looks = time.monotonic()
            handle.force_dht_announce()
    session.remove_torrent(handle)


if __name__ == "__main__":
    main(*sys.argv[1:4])
