"""
Addresses of peers in the files of the state directory.  Pure.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from dtt.wire.addresses import (
    MAX_RELAY_URL,
    TRANSPORT_NAMES,
    TRANSPORT_NUMBERS,
    Address,
    PeerAddress,
    RelayAddress,
)


def address_to_json(address: Address) -> list[Any]:
    """
    Return the JSON array for C{address}: C{[transport, host, port]} or C{["relay", url]}.
    """
    if isinstance(address, RelayAddress):
        return ["relay", address.url]
    return [TRANSPORT_NAMES[address.transport], address.host, address.port]


def address_from_json(value: Any) -> Address:
    """
    Read what L{address_to_json} has returned.

    @raise ValueError: C{value} is not such an array.
    """
    match value:
        case ["relay", str(url)] if len(url) <= MAX_RELAY_URL:
            return RelayAddress(url)
        case [str(name), str(host), int(port)] if (
            name in TRANSPORT_NUMBERS and port is not True and 0 < port < 65536 and "%" not in host
        ):
            return PeerAddress(TRANSPORT_NUMBERS[name], str(ipaddress.ip_address(host)), port)
    raise ValueError(f"not an address: {value!r}")
