"""
A member as a process, which tells what it sees.

C{python -m tests.torture.member STATE SECRET_FILE TOPIC BOOTSTRAP [--port N] [--fail N]
[--nodes N]} prints a line of JSON when it starts, and once every half second: its peer
id, its UDP port and its neighbours. Everything that is logged, at the finest level, goes
to standard error.

With C{--fail}, the disk is full from the Nth write on. With C{--nodes} it is no member,
but so many plain DHT nodes.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
from twisted.logger import globalLogBeginner, textFileLogObserver

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.errors import DTTError
from dtt.events import Event
from dtt.net.host_port import parse_host_port
from dtt.state import read_secret_file
from dtt.tracker.tracker import Tracker, log_event

LOOPBACK = "127.0.0.1"


def fill_disk(writes: int) -> None:
    """
    Let all calls that write to a disk fail, but for the first ones.

    @param writes: how many succeed.
    """
    left = writes

    def limited(call: Callable[..., Any]) -> Callable[..., Any]:
        def limit(*args: Any, **kw: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*args, **kw)

        return limit

    for name in ("fsync", "replace", "rename", "link"):
        setattr(os, name, limited(getattr(os, name)))


def say(**what: object) -> None:
    """
    Print a line.
    """
    print(json.dumps(what), flush=True)


def run_nodes(reactor: Any, count: int, bootstrap: tuple[tuple[str, int], ...]) -> Deferred[None]:
    """
    Run plain DHT nodes until the process is killed.
    """
    nodes = [
        DHTNode(reactor, interface=LOOPBACK, closed=True, plain=True, bootstrap=bootstrap)
        for _ in range(count)
    ]
    for node in nodes:
        node.privilegedStartService()
        node.startService()
    say(ports=[node.port for node in nodes])
    return Deferred()


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    Run until SIGTERM.
    """
    parser = argparse.ArgumentParser()
    for name in ("state", "secret_file", "topic", "bootstrap"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fail", type=int)
    parser.add_argument("--nodes", type=int)
    options = parser.parse_args(arguments)
    bootstrap = tuple(parse_host_port(each) for each in options.bootstrap.split(","))
    if options.nodes:
        return run_nodes(reactor, options.nodes, bootstrap)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    secret = read_secret_file(options.secret_file)

    def on_event(event: Event) -> None:
        log_event(event)
        if event.name == "dht.ready":
            raise RuntimeError("an event sink that fails, for its traceback")

    if options.fail is not None:
        fill_disk(options.fail)
    config = Config(
        state_dir=Path(options.state),
        transport=("streams", "quic"),
        listen=(LOOPBACK, 0),
        dht=DHTConfig(bind=LOOPBACK, port=options.port, bootstrap=bootstrap),
    )
    try:
        tracker = Tracker(reactor, config, on_event)
        topic = tracker.join(options.topic, secret)
        tracker.privilegedStartService()
    except DTTError as error:
        say(error=str(error))
        raise SystemExit(1) from None
    tracker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tracker.stopService)

    def look() -> None:
        say(
            peer=tracker.peer_id.hex(),
            port=tracker.getServiceNamed("dht").port,
            neighbors=[peer.hex() for peer in topic.neighbors()],
        )

    LoopingCall(look).start(0.5)
    return Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
