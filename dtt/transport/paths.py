"""
The round trip of a TCP connection, for status pages.

Nothing is measured for this: the system's TCP does so anyway.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

#: The offset of C{tcpi_rtt} in Linux's C{struct tcp_info}: eight single bytes, then
#: fifteen 32-bit numbers before it (C{linux/tcp.h}).
_RTT_OFFSET: Final = 8 + 15 * 4


def tcp_round_trip(transport: Any) -> float | None:
    """
    Return the round trip that the system has measured on a TCP connection.

    @param transport: Twisted's transport, or TLS over it.
    @return: seconds; C{None} if the system does not report it.
    """
    plain = getattr(transport, "transport", None) or transport
    connection = getattr(plain, "socket", None)
    if not isinstance(connection, socket.socket) or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_OFFSET + 4)
    except OSError:  # it has just been closed
        return None
    if len(info) < _RTT_OFFSET + 4:
        return None
    microseconds: int = struct.unpack_from("=I", info, _RTT_OFFSET)[0]
    return microseconds / 1e6 if microseconds else None
