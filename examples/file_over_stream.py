"""
A file transfer over a stream between two members: one serves the file, the other fetches it.

Messages are small and go to all members. An application stream goes to one member, over an authenticated
connection of dtt, also through NATs.

Usage::

    python file_over_stream.py SECRET_FILE serve FILE
    python file_over_stream.py SECRET_FILE fetch COPY
"""

# mypy: allow-untyped-calls
# Much of Twisted has no types.

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from dtt import Config, TopicService, Tracker
from dtt.errors import DialFailed, DTTError, StreamRefused
from dtt.state import read_secret_file

TOPIC = "file over a stream example"

#: The name of the service, which includes its version.
NAME = b"example.file/1"


class Offer(Protocol):
    """
    Sends the file to a member that has opened a stream.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def connectionMade(self) -> None:
        file = self._path.open("rb")
        sending = FileSender().beginFileTransfer(file, self.transport)

        def sent(_: object) -> None:
            file.close()
            transport: Any = self.transport
            transport.loseConnection()

        sending.addBoth(sent)


class Offers(Factory):
    """
    Creates an C{Offer} for each stream.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def buildProtocol(self, addr: Any) -> Offer:
        return Offer(self._path)


class Fetch(Protocol):
    """
    Writes received data to a file.

    @ivar done: fires with the SHA-256 of a complete file; fails if the stream broke.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = sha256()
        self.done: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if reason.check(ConnectionDone):
            self.done.callback(self._hash.hexdigest())
        else:
            self.done.errback(reason)


async def fetch(tracker: Tracker, topic: TopicService, copy: Path) -> str:
    """
    Fetch the file from a neighbour that has it.

    @return: its SHA-256, in hex.
    @raise DTTError: no neighbour has it.
    """
    await topic.when_joined()
    errors = []
    for peer_id in topic.neighbors():
        with copy.open("wb") as file:
            getting = Fetch(file)
            try:
                await connectProtocol(tracker.client_endpoint(peer_id, NAME), getting)
            except (DialFailed, StreamRefused) as error:
                errors.append(f"{peer_id.hex()[:10]}: {error}")
                continue
            return await getting.done
    raise StreamRefused("; ".join(errors))


async def run(reactor: Any, secret: bytes, what: str, path: Path) -> None:
    """
    Serve until Ctrl-C, or fetch.
    """
    tracker = Tracker(reactor, Config())
    topic = tracker.join(TOPIC, secret)
    if what == "serve":
        offers: Any = Offers(path)
        await tracker.server_endpoint(NAME).listen(offers)
    tracker.privilegedStartService()
    tracker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tracker.stopService)
    if what == "serve":
        await Deferred()
    try:
        print(await fetch(tracker, topic, path), path)
    except DTTError as error:
        print(f"no file: {error}", file=sys.stderr)


def main() -> None:
    """
    Run the command.
    """
    from twisted.internet.task import react

    secret_file, what, path = sys.argv[1:]
    secret = read_secret_file(secret_file)
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, secret, what, Path(path))))


if __name__ == "__main__":
    main()
