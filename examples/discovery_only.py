"""
Discovery only: find other members, and leave the connections to the application.

Each instance publishes the address of its service, and learns those of the others.  There is no
gossip, no listener and no connection between members; only the BitTorrent DHT is used.

Usage::

    python discovery_only.py SECRET_FILE HOST:PORT

HOST:PORT is published. Anyone who knows the topic and the secret can read it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dtt import Config, Tracker
from dtt.state import read_secret_file
from dtt.tracker.discover import DiscoveryService, Found

#: No transport: this program has no members to connect to.
CONFIG = Config(transport=())

TOPIC = "discovery example"


def start(
    tracker: Tracker, secret: bytes, address: str, on_address: Callable[[str, str], object]
) -> DiscoveryService:
    """
    Publish an address, and report the addresses of others.

    @param on_address: called with the peer id of each publisher, in hex, and its address, when
        it is first found and when it publishes another one.
    """

    def found(each: Found) -> None:
        # Others may publish anything.
        host, _, port = each.content.decode("ascii", "replace").rpartition(":")
        if host.isprintable() and port.isdecimal() and 0 < int(port) < 65536:
            on_address(each.publisher.hex(), f"{host}:{port}")

    return tracker.discover(TOPIC, secret=secret, content=address.encode("ascii"), on_found=found)


def main() -> None:
    """
    Run until Ctrl-C.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    secret_file, address = sys.argv[1:]
    tracker = Tracker(reactor, CONFIG)
    start(tracker, read_secret_file(secret_file), address, print)
    tracker.privilegedStartService()
    tracker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tracker.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
