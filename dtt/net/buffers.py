"""
The buffer in which the system keeps what has arrived on a UDP socket until it is read.

A process that is busy, or waits for its turn on a busy machine, reads nothing for some
milliseconds.  Meanwhile a peer sends what its congestion window allows.  Linux keeps some 90
datagrams of 1232 bytes by default; the rest is lost, and each loss halves the peer's window.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final

#: The size to ask for, in bytes.  Linux doubles it, because a datagram of 1232 bytes takes about
#: twice its size, and gives at most twice C{net.core.rmem_max}.
RECEIVE_BUFFER: Final = 1024 * 1024


def enlarge_receive_buffer(port: Any) -> None:
    """
    Let the system keep more of what arrives, as far as it allows that.

    @param port: an C{IListeningPort}; nothing is done for one without a socket.
    """
    get_handle = getattr(port, "getHandle", None)
    if get_handle is None:
        return
    bound: socket.socket = get_handle()
    # Some systems refuse what is too much, instead of giving less.
    with suppress(OSError):
        if bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < RECEIVE_BUFFER:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
