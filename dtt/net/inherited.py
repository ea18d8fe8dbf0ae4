"""
Bound UDP sockets that this process has inherited, for example from systemd's C{ListenDatagram=}
(L{dtt.app.systemd}).

Descriptors belong to the process as a whole, and so does this list.  The DHT node uses those of its families
when it binds its port.
"""

from __future__ import annotations

from collections.abc import Mapping

_offered: dict[int, int] = {}


def offer(descriptors: Mapping[int, int]) -> None:
    """
    Offer sockets, each to be taken once.

    @param descriptors: the descriptor by address family, C{AF_INET} or C{AF_INET6}.
    """
    _offered.update(descriptors)


def take(family: int) -> int | None:
    """
    Return the descriptor of the inherited socket of a family; C{None}: there is none, or it
    was taken.
    """
    return _offered.pop(family, None)
