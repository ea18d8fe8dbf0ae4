"""
Record the traffic of real programs as input for the fuzzer.

C{python -m tests.interop.record FILE}, on Linux as root: runs mixed swarms (see
L{tests.interop.test_clients}), captures packets on loopback, and writes one datagram in
hex for each shape: the same keys, types and sizes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from dtt.errors import DecodeError
from dtt.krpc.bencode import decode

_ETH_P_IP = 0x0800
_UDP = 17

#: The number of datagrams kept per shape, from different programs or with other contents.
PER_SHAPE = 2

TESTS = ("tests.interop.test_clients.MixedTests", "tests.interop.test_replies", "tests.interop.test_clients")


def shape(value: Any) -> Any:
    """
    The keys and types, and whether sizes differ.
    """
    if isinstance(value, dict):
        return tuple((key, shape(each)) for key, each in sorted(value.items()))
    if isinstance(value, list):
        return tuple(sorted({repr(shape(each)) for each in value}))
    if isinstance(value, bytes):
        return min(len(value), 40)
    return "int"


def main(path: str) -> None:
    """
    Run the command.

    @param path: the output file.
    """
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    listener.bind(("lo", _ETH_P_IP))
    listener.settimeout(0.5)
    process = subprocess.Popen(
        [sys.executable, "-m", "twisted.trial", *TESTS], env={**os.environ, "DTT_INTEROP": "1"}
    )
    seen: dict[Any, list[bytes]] = {}
    while process.poll() is None:
        try:
            packet = listener.recv(65536)
        except TimeoutError:
            continue
        if packet[9] != _UDP:
            continue
        payload = packet[(packet[0] & 15) * 4 + 8 :]
        try:
            message = decode(payload)
        except DecodeError:
            continue
        if isinstance(message, dict) and b"y" in message:
            kept = seen.setdefault((message.get(b"v", b"")[:2], shape(message)), [])
            if len(kept) < PER_SHAPE and payload not in kept:
                kept.append(payload)
    lines = sorted(payload.hex() for kept in seen.values() for payload in kept)
    Path(path).write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} datagrams of {len(seen)} shapes")


if __name__ == "__main__":
    main(sys.argv[1])
