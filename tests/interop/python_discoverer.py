"""
A program that discovers without gossip: C{python -m tests.interop.python_discoverer TOPIC
--secret-file FILE --content HEX}.

It prints JSON lines: C{node.started} (C{peer_id}) and C{found} (C{publisher}, C{content},
C{minute}, C{channel}). The end of the input is its end.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from dtt import Config, Found, Tracker


class _Input(Protocol):
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.closed.callback(None)


def tell(event: str, **fields: Any) -> None:
    """
    Print one event.
    """
    print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)


def found(what: Found) -> None:
    """
    Print what was found.
    """
    tell(
        "found",
        publisher=what.publisher.hex(),
        content=what.content.hex(),
        minute=what.minute,
        channel=what.channel,
    )


async def run(reactor: Any) -> None:
    """
    Discover until the input ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("topic")
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--content", type=bytes.fromhex, required=True)
    options = parser.parse_args()
    tracker = Tracker(reactor, Config(transport=()), on_event=lambda event: None)
    tracker.discover(
        options.topic, secret=options.secret_file.read_bytes(), content=options.content, on_found=found
    )
    tracker.privilegedStartService()
    tracker.startService()
    tell("node.started", peer_id=tracker.peer_id.hex())
    standard_input = _Input()
    StandardIO(standard_input, reactor=reactor)
    await standard_input.closed
    await maybeDeferred(tracker.stopService)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(run(reactor)), [])
