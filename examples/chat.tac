"""
A chat as a Twisted application: each line that you type goes to all members.

Usage::

    twistd --nodaemon --pidfile= --logfile=chat.log -y chat.tac

It reads C{chat.toml} in the current directory, a configuration file of dtt with one
C{[[topic]]}. All members need the same topic name and the same secret, nothing else.
"""

# mypy: allow-untyped-calls
# Much of Twisted has no types.

from __future__ import annotations

from pathlib import Path

from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

from dtt import GossipMessage, TopicId, TopicService, Tracker
from dtt.config import load_toml
from dtt.errors import ContentTooLarge, DuplicateContent, TopicLeft
from dtt.state import read_secret_file


class Chat(LineOnlyReceiver):
    """
    The terminal on one side, the topic on the other.
    """

    delimiter = b"\n"

    def __init__(self, topic: TopicService) -> None:
        self._topic = topic

    def connectionMade(self) -> None:
        self._topic.subscribe(self)

    def lineReceived(self, line: bytes) -> None:
        try:
            self._topic.broadcast(line)
        except (ContentTooLarge, DuplicateContent) as error:
            self.sendLine(f"not sent: {error}".encode())
        except TopicLeft:
            pass  # the application ends

    # Called by the topic

    def neighbor_up(self, peer_id: bytes) -> None:
        self.sendLine(f"[{peer_id.hex()[:10]} is here]".encode())

    def neighbor_down(self, peer_id: bytes) -> None:
        self.sendLine(f"[{peer_id.hex()[:10]} is gone]".encode())

    def message_received(self, message: GossipMessage) -> None:
        # Others may send anything, including terminal control sequences.
        text = message.content.decode("utf-8", "replace")
        self.sendLine("".join(each if each.isprintable() else "?" for each in text).encode())


class Terminal(Service):
    """
    Connects the chat to the terminal while the application runs.
    """

    def __init__(self, topic: TopicService) -> None:
        self._chat = Chat(topic)

    def startService(self) -> None:
        super().startService()
        self._stdio = StandardIO(self._chat, reactor=reactor)

    def stopService(self) -> None:
        super().stopService()
        self._stdio.loseConnection()


config, (table,) = load_toml(Path("chat.toml"))
secret = read_secret_file(table.secret_file) if table.secret_file is not None else b""
application = Application("chat")
tracker = Tracker(reactor, config)
tracker.setServiceParent(application)
Terminal(tracker.join(TopicId.parse(table.name), secret)).setServiceParent(application)
