"""
Two topics in one program: anyone may join the lobby; only members with the secret can join the staff topic.

Both topics share the tracker: one DHT node, one id, one port for each transport.  Messages of one topic do
not reach the other.

Usage: C{python two_topics.py SECRET_FILE}
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dtt import Config, GossipMessage, TopicService, Tracker
from dtt.state import read_secret_file


class Room:
    """
    One topic, with its name before each line.
    """

    def __init__(self, name: str, topic: TopicService, show: Callable[[str], object]) -> None:
        self._name = name
        self._topic = topic
        self._show = show
        topic.subscribe(self)

    def say(self, text: str) -> None:
        """
        Send a line to everyone in the room.
        """
        self._topic.broadcast(text.encode())

    def neighbor_up(self, peer_id: bytes) -> None:
        self._show(f"{self._name}: {peer_id.hex()[:10]} is here")

    def neighbor_down(self, peer_id: bytes) -> None:
        self._show(f"{self._name}: {peer_id.hex()[:10]} is gone")

    def message_received(self, message: GossipMessage) -> None:
        self._show(f"{self._name}: {message.content.decode('utf-8', 'replace')!a}")


def open_rooms(tracker: Tracker, secret: bytes, show: Callable[[str], object]) -> tuple[Room, Room]:
    """
    Join both topics.

    @return: the lobby, and the staff's room.
    """
    lobby = tracker.join("two topics example: lobby")
    staff = tracker.join("two topics example: staff", secret=secret)
    return Room("lobby", lobby, show), Room("staff", staff, show)


def main() -> None:
    """
    Run until Ctrl-C.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    tracker = Tracker(reactor, Config())
    open_rooms(tracker, read_secret_file(sys.argv[1]), print)
    tracker.privilegedStartService()
    tracker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tracker.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
