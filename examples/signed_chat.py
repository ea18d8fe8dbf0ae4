"""
A chat in which each message proves its author.

Each message is signed by its author; changed, forged or replayed messages do not reach the program. Names are
only claims, so each is shown with the first digits of the authenticated peer id.

Usage: C{python signed_chat.py SECRET_FILE NAME}
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dtt import Config, TopicService, Tracker
from dtt.signed import SignedMessage, SignedTopic
from dtt.state import read_secret_file

TOPIC = "signed chat example"


def printable(data: bytes) -> str:
    """
    Return text that can't control the terminal.
    """
    return "".join(each if each.isprintable() else "?" for each in data.decode("utf-8", "replace"))


class SignedChat:
    """
    One member of the chat.
    """

    def __init__(self, topic: TopicService, name: str, show: Callable[[str], object]) -> None:
        """
        @param topic: the topic; all of its members sign. @param name: our name.
        @param show: called with each line.
        """
        self._signed = SignedTopic(topic)
        self._name = name
        self._show = show
        self._signed.subscribe(self)

    def say(self, text: str) -> None:
        """
        Send a line.
        """
        self._signed.broadcast(f"{self._name}\0{text}".encode())

    def message_received(self, message: SignedMessage) -> None:
        name, _, text = message.content.partition(b"\0")
        self._show(f"{printable(name)} ({message.author.hex()[:10]}): {printable(text)}")


def main() -> None:
    """
    Send each line of the standard input, until its end.
    """
    from twisted.internet import reactor as installed
    from twisted.internet.threads import deferToThread

    reactor: Any = installed
    secret_file, name = sys.argv[1:]
    tracker = Tracker(reactor, Config())
    chat = SignedChat(tracker.join(TOPIC, read_secret_file(secret_file)), name, print)

    def read() -> None:
        for line in sys.stdin:
            reactor.callFromThread(chat.say, line.rstrip("\n"))

    tracker.privilegedStartService()
    tracker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tracker.stopService)
    reactor.callWhenRunning(lambda: deferToThread(read).addBoth(lambda _: reactor.stop()))
    reactor.run()


if __name__ == "__main__":
    main()
