"""
A libtorrent node on loopback: C{libtorrent_server.py HOST:PORT...} (its bootstrap nodes)
prints C{ready PORT} and serves until its standard input is closed. The settings are those
of docs/protocol/dht.md section 5, with flood protection disabled.
"""

from __future__ import annotations

import sys

import libtorrent


def main(bootstrap: list[str]) -> None:
    """
    Run the node.

    @param bootstrap: HOST:PORT each.
    """
    session = libtorrent.session(
        {
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
            "dht_block_timeout": 1,
            "dht_upload_rate_limit": 100000000,
            "dht_max_dht_items": 200000,
            "dht_ignore_dark_internet": False,
            "dht_prefer_verified_node_ids": False,
            "alert_mask": 0,
            "listen_interfaces": "127.0.0.1:0",
        }
    )
    for address in bootstrap:
        host, _, port = address.rpartition(":")
        session.add_dht_node((host, int(port)))
    print("ready", session.listen_port(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
