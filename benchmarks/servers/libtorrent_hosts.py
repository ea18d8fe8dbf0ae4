"""
A DHT of real libtorrent nodes, one on each of the given addresses: C{libtorrent_hosts.py
HOST:PORT...} prints C{ready 0} when they know each other, and serves until its standard
input is closed. DHT settings are libtorrent's defaults.
"""

from __future__ import annotations

import sys
import time

import libtorrent

#: Seconds from the mesh to full routing tables: the 1.5 of docs/protocol/dht.md section 5, and several
#: round trips of up to 0.3 s (guess).
SETTLE = 5.0


def main(addresses: list[str]) -> None:
    """
    Run the nodes.

    @param addresses: HOST:PORT each.
    """
    sessions = [
        libtorrent.session(
            {
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "enable_incoming_tcp": False,
                "enable_outgoing_tcp": False,
                "dht_bootstrap_nodes": "",
                "alert_mask": 0,
                "listen_interfaces": address,
            }
        )
        for address in addresses
    ]
    for session in sessions:
        for address in addresses:
            host, _, port = address.rpartition(":")
            session.add_dht_node((host, int(port)))
    time.sleep(SETTLE)
    print("ready 0", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
