"""
A process with pending iroh calls, which ends in one of several ways: C{python -m
tests.interop.iroh_exit WAY REACTOR}.

It prints C{up} when two transports are connected, through a separate endpoint for that
connection, and a dial of an absent peer is pending. Then, depending on C{WAY}, it
C{stop}s the reactor without stopping the transports, C{crash}es the reactor, C{raise}s an
exception afterwards, calls C{sysexit} with code 3, C{fork}s a child that exits, or waits
for a C{signal}.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from twisted.application.reactors import installReactor

from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh.transport import IrohTransport
from dtt.wire.addresses import IROH, PeerAddress

TOPIC = b"t" * 32


def transport(reactor: Any, number: int) -> IrohTransport:
    """
    A listening transport.
    """
    made = IrohTransport(reactor, PeerKey.from_seed(bytes((number,)) * 32))
    made.listen("127.0.0.1", 0)
    made.open_topic(TOPIC, bytes(32), RecordingLinks())
    return made


def main(way: str, reactor_name: str) -> None:
    """
    Run the process.
    """
    reactor: Any = installReactor(reactor_name)
    one, other, third = (transport(reactor, number) for number in (1, 2, 3))

    def connected(_: None) -> None:
        one.send(other.peer_id, TOPIC, b"hello")
        nobody = PeerKey.from_seed(b"n" * 32).peer_id
        one.dial(nobody, [PeerAddress(IROH, "127.0.0.1", 9)]).addErrback(lambda _: None)
        reactor.callLater(0.2, end)

    def end() -> None:
        if reactor_name == "asyncio":
            # The event loop counts as running only within our own calls.
            assert asyncio.get_running_loop().is_running()
        spares = len(one._endpoint.spares.open)
        print("up", spares == 1 and other.is_connected(one.peer_id), flush=True)
        if way == "stop":
            reactor.stop()
        elif way != "signal":
            reactor.crash()

    wrong = one.dial(other.peer_id, third.addresses())
    wrong.addErrback(lambda _: one.dial(other.peer_id, other.addresses())).addCallback(connected)
    reactor.run()
    if way == "raise":
        raise RuntimeError("on purpose")
    if way == "sysexit":
        sys.exit(3)
    if way == "fork":
        child = os.fork()
        if not child:
            sys.exit(0)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
