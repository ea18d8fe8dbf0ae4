"""
The ports of a tracker, which it keeps over restarts.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, fields, frozen

#: The format of the file; another one is not read.
VERSION = 1


@frozen(slots=True)
class SavedPorts:
    """
    0: none yet.

    @ivar dht: UDP, of the DHT node.
    @ivar streams: TCP, of the streams transport.
    @ivar iroh: UDP, of the iroh transport.
    """

    dht: int = 0
    streams: int = 0
    iroh: int = 0

    def to_json(self) -> dict[str, Any]:
        """
        The object that is written.
        """
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SavedPorts:
        """
        What L{to_json} gave.

        @raise ValueError: it is something else.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        return cls(*(_port(value.get(each.name)) for each in fields(cls)))


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 0x10000:
        raise ValueError(f"not a port: {value!r}")
    return value
