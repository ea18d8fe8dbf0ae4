"""
The ports that a tracker uses again after a restart.  Pure.

Rule: a port is kept until the settings name another one.  If it is taken, a run uses another port, but does
not save it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, fields, frozen

#: The version of the file format; files of other versions are not read.
VERSION = 1


@frozen(slots=True)
class SavedPorts:
    """
    The kept ports; 0: none.

    @ivar dht: the UDP port of the DHT node.
    @ivar streams: the TCP port of the streams transport.
    @ivar iroh: the UDP port of the iroh transport.
    """

    dht: int = 0
    streams: int = 0
    iroh: int = 0

    def to_json(self) -> dict[str, Any]:
        """
        Return the JSON object to write.
        """
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SavedPorts:
        """
        Read the JSON object that L{to_json} returned.

        @raise ValueError: C{value} is not such an object.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        return cls(*(_port(value.get(each.name)) for each in fields(cls)))


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 0x10000:
        raise ValueError(f"not a port: {value!r}")
    return value
